"""Which of similar documents stays: the rules of `deduplicate.keep`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from document_sets import Rows, rows_of, run, texts_of
from pydantic import ValidationError

from storage.documents import HELDOUT, TRAIN
from storage.errors import DataError
from tasks.deduplicate import DeduplicateConfig, deduplicate

WORDS = " ".join(f"w{word}" for word in np.random.default_rng(1).integers(0, 10_000, 120))


def document(end: str, split: str = TRAIN, source: str = "test", **metadata: Any) -> tuple[str, ...]:
    """One of many that are alike."""
    return (f"{WORDS} {end}".rstrip(), split, source, "", json.dumps(metadata))


def kept(home: Path, config: DeduplicateConfig, *shards: Rows) -> list[str]:
    """The ends of the documents that stay; the ledger names a twin that stays for each other."""
    artifact, summary = run(home, deduplicate, config, *shards)
    stay = {row["id"] for row in rows_of(artifact, "documents")}
    assert {row["twin"] for row in rows_of(artifact, "ledger")} <= stay
    assert summary["read"] == summary["kept"] + summary["dropped"] == sum(map(len, shards))
    return [text.removeprefix(WORDS).strip() for text in texts_of(artifact)]


def test_the_longest_or_the_earliest_stays(home: Path) -> None:
    shards = [[document("a")], [document("and longer")], [document("b")]]
    assert kept(home, DeduplicateConfig(), *shards) == ["and longer"]
    assert kept(home, DeduplicateConfig(keep="earliest"), *shards) == ["a"]


def test_of_equal_texts_the_one_with_the_better_score_stays(home: Path) -> None:
    rows = [document("same", source="a", quality=0.2), document("same", source="b", quality=0.9)]
    artifact, _ = run(home, deduplicate, DeduplicateConfig(keep="best_score", score_field="quality"), rows)
    assert [row["source"] for row in rows_of(artifact, "documents")] == ["b"]


@pytest.mark.parametrize("worse", [{"stars": 4.5}, {"stars": -1}, {}, {"stars": "5"}, {"stars": True}, {"stars": None}])
def test_the_best_score_stays_and_no_number_is_the_worst(worse: dict[str, Any], home: Path) -> None:
    rows = [document("much longer than the other", **worse), document("b", stars=5), document("c", stars=5)]
    assert kept(home, DeduplicateConfig(keep="best_score", score_field="stars"), rows) == ["b"]


def test_documents_of_equal_score_go_by_length(home: Path) -> None:
    rows = [document("a", stars=5), document("longer", stars=5), document("the longest of all", stars=1)]
    assert kept(home, DeduplicateConfig(keep="best_score", score_field="stars"), rows) == ["longer"]


def test_a_score_that_nobody_has_is_an_error_that_names_what_there_is(home: Path) -> None:
    with pytest.raises(DataError, match="no document has a number starz in its metadata; they hold file, stars"):
        run(
            home,
            deduplicate,
            DeduplicateConfig(keep="best_score", score_field="starz"),
            [document("", stars=1, file="x")],
        )


def test_sources_go_by_their_priority_and_others_come_last(home: Path) -> None:
    config = DeduplicateConfig(keep="source_priority", source_priority=("books", "web"))
    rows = [
        document("the longest one here", source="other"),
        document("a", source="web"),
        document("b", source="books"),
    ]
    assert kept(home, config, rows) == ["b"]
    assert kept(home, config, [*rows[:2], ("something else", TRAIN, "books")])[0] == "a"


def test_a_source_that_is_not_there_is_an_error(home: Path) -> None:
    config = DeduplicateConfig(keep="source_priority", source_priority=("boks",))
    with pytest.raises(DataError, match="no document is of boks; the sources are books"):
        run(home, deduplicate, config, [document("", source="books")])


@pytest.mark.parametrize(
    "config",
    [
        DeduplicateConfig(keep="earliest"),
        DeduplicateConfig(keep="best_score", score_field="stars"),
        DeduplicateConfig(keep="source_priority", source_priority=("good",)),
    ],
)
def test_what_is_held_out_stays_whatever_the_rule(config: DeduplicateConfig, home: Path) -> None:
    rows = [document("long training text", source="good", stars=5), document("a", HELDOUT, "poor", stars=1)]
    assert kept(home, config, rows) == ["a"]


@pytest.mark.parametrize(
    "settings", [{"keep": "best_score"}, {"score_field": "x"}, {"keep": "source_priority"}, {"source_priority": ["a"]}]
)
def test_a_rule_and_what_it_goes_by_are_set_together(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="set both or neither"):
        DeduplicateConfig.model_validate(settings)
