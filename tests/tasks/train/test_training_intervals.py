"""Intervals of held-out figures of a training: drawn over documents and groups, paired with what was before."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from model.output import write_outcomes
from storage.errors import DataError
from tasks.engine.about import MadeRun
from tasks.train.intervals import of_preferences, of_text, of_words
from tasks.train.report import report_alignment

Rows = list[list[float]]


def measured(work: Path, **moments: Rows) -> Path:
    for moment, rows in moments.items():
        write_outcomes(work, moment, {"heldout": cast(Any, SimpleNamespace(outcomes=np.array(rows)))})
    return work


def words(documents: int, each: int, right: float) -> Rows:
    """Documents of which a share is filled in wholly and the rest not at all; half of all tokens are the commonest."""
    return [[one, float(one < right * documents), token % 2] for one in range(documents) for token in range(each)]


def test_tokens_of_one_document_count_as_one_another(tmp_path: Path) -> None:
    """A hundred documents of which each token says the same are a hundred items, however many tokens they have."""
    few, many = (of_words(measured(tmp_path / str(each), after=words(100, each, 0.7)), begun=False) for each in (2, 40))
    half = 1.96 * (0.7 * 0.3 / 100) ** 0.5
    for name, end in (("low", 0.7 - half), ("high", 0.7 + half)):
        assert few[f"filled_in_{name}"] == pytest.approx(many[f"filled_in_{name}"], abs=0.01)
        assert many[f"filled_in_{name}"] == pytest.approx(end, abs=0.015)
    assert many["over_most_frequent"] == pytest.approx(0.2)
    assert many["over_most_frequent_low"] == pytest.approx(0.2 - half, abs=0.02)
    assert "filled_in_change" not in many


def test_what_was_before_is_paired(tmp_path: Path) -> None:
    """One document in ten is new among those that are right: sure, though either share is less sure than that."""
    work = measured(tmp_path, before=words(100, 5, 0.7), after=words(100, 5, 0.8))
    found = of_words(work, begun=True)
    assert found["filled_in_change"] == pytest.approx(0.1)
    assert 0.03 < found["filled_in_change_low"] < 0.1 < found["filled_in_change_high"] < 0.18
    assert found["filled_in_low"] < 0.75


def test_wins_are_paired_by_group_and_said_in_the_report(tmp_path: Path) -> None:
    before, after = [[0.5, 0.0]] * 40, [[float(number % 10 != 0), 2.0 + number % 2] for number in range(40)]
    found = of_preferences(measured(tmp_path, before=before, after=after), [f"g{number}" for number in range(40)])
    assert found["win_rate_change"] == pytest.approx(0.4) and 0.25 < found["win_rate_change_low"] < 0.4
    assert found["margin_change"] == 2.5 and 2.3 < found["margin_change_low"] < 2.5 < found["margin_change_high"] < 2.7
    together = of_preferences(tmp_path, [f"g{number // 10 if number % 10 else 9}" for number in range(40)])
    assert together["win_rate_change_low"] < found["win_rate_change_low"], "what is wrong is of one group"
    alone = of_preferences(tmp_path, ["g"] * 40)
    assert alone["win_rate_low"] is None and alone["win_rate_change_high"] is None

    (tmp_path / "curve").mkdir()
    (tmp_path / "curve/curve.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    figures = {"win_rate_before": 0.5, "win_rate": 0.9, "margin_before": 0.0, "margin": 2.0}

    def note(summary: dict[str, Any]) -> str:
        run = SimpleNamespace(summary=lambda stage: summary, part=lambda stage, name: tmp_path / "curve")
        curve = report_alignment(cast(MadeRun, run), "align").curve
        assert curve is not None
        return curve.note

    low, high = (f"{found[f'win_rate_change_{end}']:.4g}" for end in ("low", "high"))
    assert f"a change of +0.4 ({low} to {high})" in note(figures | found)
    assert "0.5 before, 0.9 after;" in note(figures), "of a build that had no intervals"
    assert "a change of +0.4;" in note(figures | alone)


def test_bits_per_byte_of_the_same_documents_are_paired(tmp_path: Path) -> None:
    """Documents differ by ten times what training has changed: the change is sure all the same."""
    sizes = [100 * (1 + number % 10) for number in range(50)]
    before = [[size * (1.0 + number % 7), size] for number, size in enumerate(sizes)]
    after = [[bits - 0.1 * size, size] for bits, size in before]
    found = of_text(measured(tmp_path, before=before, after=after))
    names = ("bits_per_byte_change_low", "bits_per_byte_change", "bits_per_byte_change_high")
    assert [found[name] for name in names] == pytest.approx([-0.1] * 3)


def test_outcomes_that_are_gone_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing or damaged"):
        of_words(tmp_path, begun=False)
