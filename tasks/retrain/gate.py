"""The verdict: candidate and champion on the same items in, whether the candidate takes the champion's place out.

Promoted is what is better in bits per byte beyond the paired interval and worse beyond its own in no guard; and what
has learned corrections of users that the champion does not know, if nothing else is worse by more than the tolerance:
to learn a few things moves all figures a little, as each training does. Everything else keeps the champion, and the
reasons say why. A first model has no rival: it must do better than token frequencies.
Part `verdict`: verdict.json, `{"promote", "reasons", "figure", "guards", "confidence"}`; a figure has old, new,
difference, interval, items and what is to be said of it. Cost: a second for each hundred thousand items.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from storage.canonical import canonical_json
from storage.errors import ConfigError
from storage.store.artifacts import Artifact
from tasks.engine.context import Context, Summary
from tasks.engine.stage import stage
from tasks.evaluate.score import LEARNED_FEEDBACK, TUNED, read_scores
from tasks.retrain.config import GateConfig, is_own_figure
from tasks.statistics.outcome import Outcome
from tasks.wording import figure, signed

if TYPE_CHECKING:
    from tasks.evaluate.statistics.paired import PairedScore

MODEL = TUNED  # the one that is released
METRIC = "bits_per_byte"
TAUGHT = f"{LEARNED_FEEDBACK}/{METRIC}"

_TITLES = {
    "heldout": "held-out text",
    "answers": "answers to held-out prompts",
    "feedback": "what held-out users have said",
    LEARNED_FEEDBACK: "corrections that were learned",
}


@stage(
    "verdict",
    parts=("verdict",),
    reads={"candidate": ("scores", "items"), "champion": ("scores", "items")},
    about="tasks.retrain.about.VERDICT",
)
def judge(config: GateConfig, candidate: Artifact, champion: Artifact, *, context: Context) -> Summary:
    """Compare two evaluations; see the module. Raises ConfigError for a guard that is not a figure."""
    from tasks.evaluate.statistics.paired import compare_evaluations

    lines = compare_evaluations(champion, candidate, MODEL, MODEL, config.confidence)
    scores = {f"{line.name}/{line.metric}": _row(line) for line in lines}
    known = {score.figure for score in (*read_scores(candidate), *read_scores(champion))}
    for guard in config.guards:
        if guard not in known and not is_own_figure(guard):
            raise ConfigError(f"retrain.gate.guards: {guard}: no such figure. Figures: {', '.join(sorted(known))}")
    main = f"{config.figure}/{METRIC}"
    judged = scores.get(main, {"verdict": Outcome.NOT_MEASURED})
    asked = [guard for guard in config.guards if guard != main and (guard in known or not _is_of_users(guard))]
    guards = {guard: scores.get(guard, {"verdict": Outcome.NOT_MEASURED}) for guard in asked}
    worse = [guard for guard, found in guards.items() if found["verdict"] == Outcome.WORSE]
    taught = scores.get(TAUGHT, {"verdict": Outcome.NOT_MEASURED})
    learned = _is_learned(config, taught)
    promote = judged["verdict"] == Outcome.BETTER and not worse
    promote |= learned and all(_is_tolerable(config, found) for found in (judged, *guards.values()))
    reasons = [_reason(_TITLES[config.figure], METRIC, judged)]
    reasons += [_reason(_TITLES[LEARNED_FEEDBACK], METRIC, taught)] if learned else []
    reasons += [_reason(*_named(guard), guards[guard], guard=True) for guard in _told(guards)]
    record = {"promote": promote, "reasons": reasons, "figure": {"name": main, **judged}}
    record |= {"guards": [{"name": guard, **found} for guard, found in guards.items()]}
    _write(context, record | {"confidence": config.confidence})
    return _summary(promote, judged, worse)


@stage("verdict", parts=("verdict",), reads={"candidate": ("scores",)}, about="tasks.retrain.about.VERDICT")
def judge_first(config: GateConfig, candidate: Artifact, *, context: Context) -> Summary:
    """Whether a model without a rival is sound: measured, and better than the frequencies of tokens."""
    main = f"{config.figure}/{METRIC}"
    score = next((one for one in read_scores(candidate) if (one.figure, one.model) == (main, MODEL)), None)
    value = score.value if score else None
    unigram = score.baselines.get("unigram") if score else None
    judged = {"name": main, "new": value, "unigram": unigram}
    if value is None or unigram is None:
        sound, reason = False, f"without a rival, and the {main} of this model was not measured"
    else:
        sound = value < unigram
        figures = (
            f"{_TITLES[config.figure]} takes {figure(value)} bits per byte, token frequencies alone {figure(unigram)}"
        )
        reason = f"without a rival, and {'sound' if sound else 'not sound'}: {figures}"
    _write(context, {"promote": sound, "reasons": [reason], "figure": judged, "guards": []})
    return {"promote": sound, "new": value, "unigram": unigram}


def _is_learned(config: GateConfig, taught: dict[str, Any]) -> bool:
    """Whether corrections of users have become likelier, by more than a training does by chance to what it knows."""
    return bool(taught["verdict"] == Outcome.BETTER and taught["difference"] <= -config.learned)


def _is_tolerable(config: GateConfig, found: dict[str, Any]) -> bool:
    """Whether a figure is not worse, or by so little that what was learned is worth it."""
    if found["verdict"] != Outcome.WORSE:
        return True
    return bool(abs(found["difference"]) <= config.tolerance * abs(found["old"]))


def _row(line: "PairedScore") -> dict[str, Any]:
    """A compared figure, and what is to be said of it."""
    if line.comparison is None:
        return {"verdict": line.outcome}
    names = ("items", "documents", "old", "new", "difference", "low", "high")
    found = asdict(line.comparison)
    return {"verdict": line.outcome, **{name: found[name] for name in names}}


def _told(guards: dict[str, dict[str, Any]]) -> list[str]:
    """The guards that are named among the reasons: those that block or could not, and what users have said in any case,
    of which one figure that was measured stands for both."""
    unmeasured = [guard for guard, found in guards.items() if found["verdict"] == Outcome.NOT_MEASURED]
    of_users = [guard for guard in guards if _is_of_users(guard)]
    spared = [guard for guard in of_users if guard in unmeasured]
    spared = spared[1:] if spared == of_users else spared
    return [
        guard
        for guard, found in guards.items()
        if guard not in spared and (found["verdict"] in (Outcome.WORSE, Outcome.NOT_MEASURED) or guard in of_users)
    ]


def _is_of_users(guard: str) -> bool:
    """Whether a figure is of what users have said; it is no guard where nothing is learned from them."""
    return guard.partition("/")[0] == "feedback"


def _named(guard: str) -> tuple[str, str]:
    name, _, metric = guard.rpartition("/")
    return (_TITLES[name] if name == "feedback" else name), metric


def _reason(name: str, metric: str, found: dict[str, Any], *, guard: bool = False) -> str:
    """A sentence with its figures: `held-out text: bits per byte 1.912 -> 1.871, -0.041 [-0.048, -0.034]: better`."""
    words = f"{'guard ' if guard else ''}{name}: {metric.replace('_', ' ')}"
    if found["verdict"] == Outcome.NOT_MEASURED:
        return f"{words}: not measured on items that both have answered{', so it blocks nothing' if guard else ''}"
    text = f"{words} {figure(found['old'])} -> {figure(found['new'])}, {signed(found['difference'])}"
    if found["low"] is None:
        return f"{text}: {found['verdict']}, since all items are of one document"
    return f"{text} [{signed(found['low'])}, {signed(found['high'])}]: {found['verdict']}"


def _summary(promote: bool, judged: dict[str, Any], worse: list[str]) -> Summary:
    names = ("difference", "low", "high", "old", "new", "items")
    return {"promote": promote, **{name: judged.get(name) for name in names}, "worse": ", ".join(worse)}


def _write(context: Context, record: dict[str, Any]) -> None:
    (context.part("verdict") / "verdict.json").write_bytes(canonical_json(record) + b"\n")
