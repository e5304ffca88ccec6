"""What changed between two runs: recipe, stages with the reasons, figures, and the models item by item."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flows.inspect.references import build_of, transfer_line
from flows.plan import STAGE_NAMES
from storage.canonical import differences
from storage.errors import ConfigError, did_you_mean
from storage.listing import first_few
from storage.runs import find_run
from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.engine.decide import Identity, differences_between
from tasks.evaluate.score import MODELS, TUNED
from tasks.notices import without_notices
from tasks.statistics.outcome import Outcome
from tasks.wording import clipped, figure, signed, when

if TYPE_CHECKING:
    from tasks.evaluate.statistics.paired import PairedScore

SHOWN_FIGURES = 12  # of a stage


def compare_runs(
    store: Store, old: str, new: str, *, model: str | None = None, items: str | None = None, limit: int = 10
) -> dict[str, Any]:
    """The `--json` object, with the scores of a model of both runs (None: the fine-tuned one).

    `items` names a figure whose most changed items, `limit` of them, are wanted too.
    Raises ConfigError for a model that no run has.
    """
    model = TUNED if model is None else model
    if model not in MODELS:
        raise ConfigError(f"--model {model}: no such model{did_you_mean(model, MODELS)}. Models: {', '.join(MODELS)}")
    store.sync_runs()
    runs = find_run(store.home, old), find_run(store.home, new)
    names = ("run", "recipe_name", "status", "started", "seconds")
    reached = dict.fromkeys((*STAGE_NAMES, *(row["stage"] for run in runs for row in run["stages"])))
    stages = [_compare_stage(store, name, *(_row(run, name) for run in runs)) for name in reached]
    return {
        "old": {name: runs[0].get(name) for name in names},
        "new": {name: runs[1].get(name) for name in names},
        "recipe": list(_changes(runs[0].get("recipe", {}), runs[1].get("recipe", {}), "field")),
        "stages": [stage for stage in stages if stage["old"] or stage["new"]],
        "model": model,
        **_compare_scores(store, runs, model, items, limit),
    }


def _row(run: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """What a run file says of a stage; empty where the run did not come to it."""
    return next((row for row in run["stages"] if row["stage"] == stage), {})


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], label: str) -> Iterator[dict[str, Any]]:
    """The fields in which two mappings differ."""
    for name, was, now in differences(old, new):
        yield {label: name, "old": was, "new": now}


def _compare_stage(store: Store, name: str, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    digests = [row.get("artifact", {}).get("digest") for row in (old, new)]
    same = digests[0] == digests[1] and digests[0] is not None
    records = [build_of(store, row) if "artifact" in row else None for row in (old, new)]
    reasons: list[str] = []
    if not same and records[0] and records[1]:
        reasons = list(differences_between(records[0]["identity"], Identity(**records[1]["identity"])))
    summaries = [without_notices(row.get("artifact", {}).get("summary", {})) for row in (old, new)]
    return {
        "stage": name,
        "same": same,
        "old": digests[0],
        "new": digests[1],
        "old_outcome": old.get("outcome"),
        "new_outcome": new.get("outcome"),
        "differences": reasons,
        "figures": list(_changes(summaries[0], summaries[1], "figure")) if all(digests) else [],
    }


# The models, item by item ---------------------------------------------------------------------------------------


def _compare_scores(
    store: Store, runs: Sequence[Mapping[str, Any]], model: str, items: str | None, limit: int
) -> dict[str, Any]:
    """Scores, and the items of one figure, where both runs have come to the evaluation and it is still there."""
    old, new = (_evaluation(store, run) for run in runs)
    if old is None or new is None:
        missing = [run["run"] for run, found in zip(runs, (old, new), strict=True) if found is None]
        return {"scores": [], "note": f"no evaluation is there of {' and '.join(missing)}: no scores are compared"}
    from tasks.evaluate.statistics.paired import changed_items, compare_evaluations, figures_named

    found: dict[str, Any] = {"scores": [_score(line) for line in compare_evaluations(old, new, model, model)]}
    if items is not None:
        found["items"] = [
            {"name": name, "metric": metric, "items": changed_items(old, new, model, model, (name, metric), limit)}
            for name, metric in figures_named(old, new, items)
        ]
    return found


def _score(line: "PairedScore") -> dict[str, Any]:
    row: dict[str, Any] = {"name": line.name, "metric": line.metric, "only_old": line.only_old}
    row |= {"only_new": line.only_new, "items": 0, "verdict": line.outcome}
    if line.comparison is not None:
        row |= asdict(line.comparison)
    return row


def _evaluation(store: Store, run: Mapping[str, Any]) -> Artifact | None:
    """The intact artifact of a run's evaluation."""
    made = (row["artifact"] for row in run["stages"] if "scores" in row.get("artifact", {}).get("parts", {}))
    digest = next(made, {"digest": None})["digest"]
    artifact = store.artifact(digest) if digest else None
    if artifact is None or store.artifact_damage(artifact):
        return None
    store.fetch(artifact, transfer_line)
    return artifact


# Text -----------------------------------------------------------------------------------------------------------


def difference_text(difference: Mapping[str, Any]) -> str:
    """The comparison for a person, in 80 columns."""
    lines = [
        f"{which}  {difference[which]['run']}  {difference[which]['status']}, {when(difference[which]['started'])}"
        for which in ("old", "new")
    ]
    lines += ["", "recipe" + ("" if difference["recipe"] else ": the same")]
    for change in difference["recipe"]:
        lines.append(f"  {change['field']}: {clipped(change['old'], 60)} -> {clipped(change['new'], 60)}")
    lines += ["", "stages"]
    for stage in difference["stages"]:
        lines += _stage_lines(stage)
    if "note" in difference:
        lines += ["", difference["note"]]
    if difference["scores"]:
        lines += ["", f"scores of the {difference['model']} model on the items in common: new less old, 95 % interval"]
        lines += [line for score in difference["scores"] for line in _score_lines(score)]
        lines.append("+ better, - worse (the whole interval); no sign: unclear")
    for figure_items in difference.get("items", ()):
        lines += ["", f"items that move {figure_items['name']} {figure_items['metric']} most"]
        lines += [line for item in figure_items["items"] for line in _item_lines(item)] or ["  none has changed"]
    return "\n".join(lines)


def _stage_lines(stage: Mapping[str, Any]) -> list[str]:
    if stage["same"]:
        return [f"  {stage['stage']:<12}same       {stage['new'][:8]}"]
    if not (stage["old"] and stage["new"]):
        there, gone = ("old", "new") if stage["old"] else ("new", "old")
        outcome = stage[f"{gone}_outcome"] or "not reached"
        return [f"  {stage['stage']:<12}only in the {there} run; {outcome} in the {gone} one"]
    lines = [f"  {stage['stage']:<12}changed    {stage['old'][:8]} -> {stage['new'][:8]}"]
    lines += [f"{'':<14}{reason}" for reason in stage["differences"]]
    figures = [
        f"{change['figure'].replace('_', ' ')} {figure(change['old'])} -> {figure(change['new'])}"
        for change in stage["figures"]
    ]
    return lines + [f"{'':<14}{line}" for line in first_few(figures, SHOWN_FIGURES, "figures")]


def _score_lines(score: Mapping[str, Any]) -> list[str]:
    label = f"{score['name']} {score['metric'].replace('_', ' ')}"
    apart = f"{score['only_old']} only in the old, {score['only_new']} only in the new run"
    if not score["items"]:
        return [f"  {clipped(label, 34):<35}no item in common: {apart}"]
    mark = {Outcome.BETTER: "+", Outcome.WORSE: "-"}.get(score["verdict"], " ")
    interval = "one document"
    if score["low"] is not None:
        interval = f"{signed(score['low'])} to {signed(score['high'])}"
    line = f"{mark} {clipped(label, 30):<31}{figure(score['old']):>7} {figure(score['new']):>7}"
    lines = [f"{line} {signed(score['difference']):>9}  {interval}"]
    notes = []
    if score["p_value"] is not None:
        notes.append(
            f"{score['better']} better, {score['worse']} worse of {score['items']}, p = {figure(score['p_value'])}"
        )
    if score["only_old"] or score["only_new"]:
        notes.append(apart)
    return lines + [f"    {'; '.join(notes)}"] * bool(notes)


def _item_lines(item: Mapping[str, Any]) -> list[str]:
    mark = "+" if item["gain"] > 0 else "-"
    lines = [f"{mark} {figure(item['old'])} -> {figure(item['new'])}  {item['source']} {item['document'][:12]}"]
    if item["prompt"].strip():  # its end is what the target follows
        lines.append(f"    prompt {clipped(item['prompt'], 68, keep_end=True)}")
    if item["target"].strip():
        lines.append(f"    target {clipped(item['target'], 68)}")
    return lines
