"""The verdict: what is promoted, what is kept, and what it says of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tiny_model import LocalContext, artifact

from storage.errors import ConfigError, DataError
from storage.store.artifacts import Artifact
from tasks.evaluate.statistics.scores import Item, Measure, missing_lines, score_lines, write_items, write_scores
from tasks.retrain import GateConfig, judge, judge_first

DOCUMENTS = 40
GATE = GateConfig(guards=("answers/bits_per_byte", "cloze/accuracy"))


def evaluation(
    folder: Path,
    *,
    heldout: float,
    answers: float | None,
    right: int,
    unigram: float = 3.0,
    documents: int = DOCUMENTS,
    feedback: float | None = None,
    too_few: bool = False,
    learned: float | None = None,
) -> Artifact:
    """Bits per byte of each document scatter around `heldout` and `answers` alike in all models; `right` of 40.

    `feedback` are the bits per byte of users' corrections; `too_few`: they were learned from, and too few held out.
    `learned` are those of corrections that were learned.
    """
    scatter = np.random.default_rng(3).normal(0, 0.1, DOCUMENTS)
    scatter -= scatter.mean()
    items = [Item(f"d{number % documents}", "files", target=f"t{number}") for number in range(DOCUMENTS)]
    ones = np.ones(DOCUMENTS)

    def everyone(values: Any) -> dict[str, Any]:
        known = values if values.max() <= 1 else np.full(DOCUMENTS, unigram)
        return {"base": values, "tuned": values, "unigram": known}

    measures = [Measure("heldout", "bits_per_byte", "r", items, everyone(heldout + scatter), ones)]
    if answers is not None:
        measures.append(Measure("answers", "bits_per_byte", "r", items, everyone(answers + scatter), ones))
    hits = (np.arange(DOCUMENTS) < right).astype(float)
    measures.append(Measure("cloze", "accuracy", "r", items, everyone(hits), ones, "proportion", higher_is_better=True))
    if feedback is not None:
        measures.append(Measure("feedback", "bits_per_byte", "r", items, everyone(feedback + scatter), ones))
    if learned is not None:
        measures.append(Measure("learned_feedback", "bits_per_byte", "r", items, everyone(learned + scatter), ones))
    lines = [line for measure in measures for line in score_lines(measure, 100, 1)]
    if too_few:
        lines += [*missing_lines("feedback", "bits_per_byte", "r", 3), *missing_lines("feedback", "accuracy", "r", 0)]
    if answers is None:
        lines += missing_lines("answers", "bits_per_byte", "r", 0)
    for name in ("scores", "items"):
        (folder / name).mkdir(parents=True)
    write_scores(folder / "scores" / "scores.json", lines)
    write_items(folder / "items" / "items.parquet", measures)
    return artifact("evaluate", scores=folder / "scores", items=folder / "items")


def verdict(tmp_path: Path, config: GateConfig, *, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    context = LocalContext(tmp_path / "out")
    candidate, champion = evaluation(tmp_path / "new", **new), evaluation(tmp_path / "old", **old)
    summary = judge.function(config, candidate, champion, context=context)
    record: dict[str, Any] = json.loads((tmp_path / "out" / "verdict" / "verdict.json").read_bytes())
    figure, worse = record["figure"], [guard["name"] for guard in record["guards"] if guard["verdict"] == "worse"]
    assert summary == {
        "promote": record["promote"],
        **{name: figure.get(name) for name in ("difference", "low", "high", "old", "new", "items")},
        "worse": ", ".join(worse),
    }
    return record


OLD: dict[str, Any] = {"heldout": 2.0, "answers": 1.5, "right": 20}


def test_better_beyond_its_interval_is_promoted(tmp_path: Path) -> None:
    found = verdict(tmp_path, GATE, old=OLD, new={**OLD, "heldout": 1.9})
    assert found["promote"] and found["figure"]["verdict"] == "better"
    assert found["reasons"] == ["held-out text: bits per byte 2 -> 1.9, -0.1 [-0.1, -0.1]: better"]
    assert found["confidence"] == GATE.confidence
    figure = {name: found["figure"][name] for name in ("name", "items", "documents", "old", "new", "difference")}
    assert figure == {
        "name": "heldout/bits_per_byte",
        "items": DOCUMENTS,
        "documents": DOCUMENTS,
        "old": pytest.approx(2),
        "new": pytest.approx(1.9),
        "difference": pytest.approx(-0.1),
    }
    assert [guard["verdict"] for guard in found["guards"]] == ["unclear", "unclear"]


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ({}, "+0 [+0, +0]: unclear"),  # equal
        ({"heldout": 2.1}, "+0.1 [+0.1, +0.1]: worse"),
    ],
)
def test_what_is_not_better_is_kept(tmp_path: Path, new: dict[str, Any], reason: str) -> None:
    found = verdict(tmp_path, GATE, old=OLD, new={**OLD, **new})
    assert not found["promote"] and found["reasons"][0].endswith(reason)


@pytest.mark.parametrize(
    ("new", "guard"),
    [({"answers": 1.6}, "guard answers: bits per byte"), ({"right": 4}, "guard cloze: accuracy")],
)
def test_worse_in_a_guard_is_kept_and_the_guard_is_named(tmp_path: Path, new: dict[str, Any], guard: str) -> None:
    found = verdict(tmp_path, GATE, old=OLD, new={**OLD, "heldout": 1.9, **new})
    assert not found["promote"] and found["figure"]["verdict"] == "better"
    (reason,) = found["reasons"][1:]
    assert reason.startswith(guard) and reason.endswith(": worse")


def test_a_small_loss_in_a_guard_blocks_at_a_low_confidence_only(tmp_path: Path) -> None:
    """Three answers of 40 lost: no loss beyond doubt at 95 %, but at 50 %."""
    new = {**OLD, "heldout": 1.9, "right": 17}
    low = GateConfig(guards=GATE.guards, confidence=0.5)
    assert verdict(tmp_path / "high", GATE, old=OLD, new=new)["promote"]
    assert not verdict(tmp_path / "low", low, old=OLD, new=new)["promote"]


def test_what_was_not_measured_promotes_nothing_and_blocks_nothing(tmp_path: Path) -> None:
    old, new = OLD | {"answers": None}, OLD | {"answers": None, "heldout": 1.9}
    found = verdict(tmp_path / "guard", GATE, old=old, new=new)
    assert found["promote"] and found["guards"][0] == {"name": "answers/bits_per_byte", "verdict": "not measured"}
    assert found["reasons"][1].startswith("guard answers: bits per byte: not measured")
    other = GateConfig(figure="answers", guards=("heldout/bits_per_byte",))
    found = verdict(tmp_path / "figure", other, old=old, new=new)
    assert not found["promote"] and "not measured" in found["reasons"][0]


def test_of_one_document_nothing_is_concluded(tmp_path: Path) -> None:
    old, new = OLD | {"documents": 1}, OLD | {"documents": 1, "heldout": 1.9}
    found = verdict(tmp_path, GATE, old=old, new=new)
    assert not found["promote"] and found["figure"]["verdict"] == "unclear"
    assert found["reasons"][0].endswith("-0.1: unclear, since all items are of one document")


def test_two_guards_that_are_worse_are_both_named(tmp_path: Path) -> None:
    found = verdict(tmp_path, GATE, old=OLD, new={**OLD, "heldout": 1.9, "answers": 1.6, "right": 4})
    assert not found["promote"] and len(found["reasons"]) == 3


def test_the_figure_may_be_that_of_the_answers(tmp_path: Path) -> None:
    found = verdict(tmp_path, GateConfig(figure="answers", guards=()), old=OLD, new={**OLD, "answers": 1.4})
    assert found["promote"] and found["figure"]["name"] == "answers/bits_per_byte"


def test_a_guard_that_is_not_a_figure_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"guards: piqa/acuracy: no such figure. Figures: answers/bits_per_byte"):
        verdict(tmp_path, GateConfig(guards=("piqa/acuracy",)), old=OLD, new=OLD)
    with pytest.raises(ValidationError, match=r"cloze/acuracy: no such figure. Figures: cloze/accuracy"):
        GateConfig(guards=("cloze/acuracy",))


def test_a_guard_of_our_own_that_nobody_could_measure_blocks_nothing(tmp_path: Path) -> None:
    """Of little text no choice can be made: that is known after the training, and must not end the run."""
    found = verdict(tmp_path, GateConfig(), old=OLD, new=OLD)
    unmeasured = [guard["name"] for guard in found["guards"] if guard["verdict"] == "not measured"]
    assert unmeasured == ["choice/accuracy_mutual_information"]


@pytest.mark.parametrize(("unigram", "sound"), [(3.0, True), (1.0, False)])
def test_a_first_model_must_beat_token_frequencies(tmp_path: Path, unigram: float, sound: bool) -> None:
    found = evaluation(tmp_path / "e", **OLD, unigram=unigram)
    summary = judge_first.function(GATE, found, context=LocalContext(tmp_path / "out"))
    assert summary == {"promote": sound, "new": pytest.approx(2), "unigram": pytest.approx(unigram)}
    record = json.loads((tmp_path / "out" / "verdict" / "verdict.json").read_bytes())
    assert record["promote"] is sound and record["guards"] == []
    assert record["figure"] == {"name": "heldout/bits_per_byte", "new": summary["new"], "unigram": summary["unigram"]}
    assert record["reasons"] == [
        f"without a rival, and {'sound' if sound else 'not sound'}: held-out text takes 2 bits per byte, "
        f"token frequencies alone {unigram:.4g}"
    ]
    missing = GateConfig(figure="answers")
    unmeasured = evaluation(tmp_path / "u", **{**OLD, "answers": None})
    assert not judge_first.function(missing, unmeasured, context=LocalContext(tmp_path / "out2"))["promote"]
    record = json.loads((tmp_path / "out2" / "verdict" / "verdict.json").read_bytes())
    assert record["reasons"] == ["without a rival, and the answers/bits_per_byte of this model was not measured"]


def test_scores_that_cannot_be_read_name_the_file_and_the_stage(tmp_path: Path) -> None:
    found = evaluation(tmp_path / "e", **OLD)
    (found["scores"] / "scores.json").write_bytes(b"{half")
    with pytest.raises(
        DataError, match=r"scores\.json: not the scores of an evaluation .*; run the stage evaluate again"
    ):
        judge_first.function(GATE, found, context=LocalContext(tmp_path / "out"))


def test_what_users_have_said_guards_and_is_told_in_any_case(tmp_path: Path) -> None:
    gate, old = GateConfig(), {**OLD, "feedback": 1.2}
    better = verdict(tmp_path / "better", gate, old=old, new={**old, "heldout": 1.9, "feedback": 1.1})
    assert better["promote"]
    assert better["reasons"][1] == (
        "guard what held-out users have said: bits per byte 1.2 -> 1.1, -0.1 [-0.1, -0.1]: better"
    )
    worse = verdict(tmp_path / "worse", gate, old=old, new={**old, "heldout": 1.9, "feedback": 1.3})
    assert not worse["promote"] and worse["reasons"][1].endswith("+0.1 [+0.1, +0.1]: worse")
    main = verdict(tmp_path / "main", GateConfig(figure="feedback"), old=old, new={**old, "feedback": 1.1})
    assert main["promote"] and main["reasons"][0].startswith("what held-out users have said: bits per byte 1.2 -> 1.1")


def test_too_little_of_users_blocks_nothing_and_is_said_once(tmp_path: Path) -> None:
    new = {**OLD, "heldout": 1.9, "too_few": True}
    found = verdict(tmp_path / "few", GateConfig(), old={**OLD, "too_few": True}, new=new)
    said = [reason for reason in found["reasons"] if "users" in reason]
    assert found["promote"] and len(said) == 1 and "not measured" in said[0] and said[0].endswith("blocks nothing")
    nothing = verdict(tmp_path / "none", GateConfig(), old=OLD, new={**OLD, "heldout": 1.9})
    assert not any("users" in reason for reason in nothing["reasons"]), "where nobody was asked"
    assert not any(guard["name"].startswith("feedback") for guard in nothing["guards"])


TAUGHT: dict[str, Any] = {**OLD, "learned": 1.6}


@pytest.mark.parametrize(
    ("new", "promoted"),
    [
        ({"learned": 0.4}, True),
        ({"learned": 0.4, "heldout": 2.03, "answers": 1.52}, True),  # worse beyond doubt, by less than a fiftieth
        ({"learned": 0.4, "heldout": 2.05}, False),
        ({"learned": 0.4, "answers": 1.6}, False),
        ({"learned": 1.55}, False),  # known before: what a training moves by chance
    ],
)
def test_corrections_that_were_learned_are_promoted_where_nothing_is_lost(
    tmp_path: Path, new: dict[str, Any], promoted: bool
) -> None:
    found = verdict(tmp_path, GATE, old=TAUGHT, new={**TAUGHT, **new})
    assert found["promote"] is promoted
    said = [reason for reason in found["reasons"] if reason.startswith("corrections that were learned")]
    assert len(said) == (new["learned"] == 0.4)
