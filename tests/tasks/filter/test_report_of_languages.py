"""The filter's section of the report by language: every document is in it once, and it stays short."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from document_sets import run

from storage.documents import TRAIN
from storage.store.artifacts import Artifact, Part
from tasks.collect.report import report as collect_report
from tasks.engine.about import DOCUMENTS
from tasks.filter import FilterConfig, filter_documents
from tasks.filter.languages import WORD_LENGTHS
from tasks.filter.report import report
from tasks.wording import as_per_cent

SHORT, LONG = "Too short.", "Long enough to be kept by the rule."
CONFIG = FilterConfig.model_validate({"preset": "none", "min_words": 5})


@dataclass(frozen=True)
class Made:
    """A run of one stage, as the report reads it."""

    artifact: Artifact
    figures: dict[str, Any]

    def part(self, stage: str, name: str) -> Part | None:
        return self.artifact[name]

    def read(self, stage: str, name: str) -> Part | None:
        return None

    def config(self, stage: str) -> dict[str, Any]:
        return CONFIG.model_dump()

    def summary(self, stage: str) -> dict[str, Any]:
        return self.figures


def made(home: Path, *rows: tuple[str, str]) -> Made:
    shards = [[(f"{text} {number}", TRAIN, "test", language) for number, (text, language) in enumerate(rows)]]
    return Made(*run(home, filter_documents, CONFIG, *shards))


def test_read_kept_and_dropped_by_language(home: Path) -> None:
    rows = [(LONG, "de"), (SHORT, "de"), (LONG, "de"), (LONG, "zu"), (SHORT, "zu"), (LONG, "")]
    table, *_ = report(made(home, *rows), "filter").tables
    assert table.columns == ("language", "read", "kept", "dropped", "share dropped")
    assert table.rows == (
        ("de", "3", "2", "1", as_per_cent(1 / 3)),
        ("zu", "2", "1", "1", as_per_cent(0.5)),
        ("not known", "1", "1", "0", as_per_cent(0.0)),
    )


def test_of_many_languages_the_largest_are_shown_and_the_others_counted(home: Path) -> None:
    names = sorted(WORD_LENGTHS)[:30]
    rows = [(LONG, name) for place, name in enumerate(names) for _ in range(2 if place >= 10 else 1)]
    table, *_ = report(made(home, *rows, (SHORT, names[1])), "filter").tables
    assert table.rows[0] == (names[1], "2", "1", "1", as_per_cent(0.5))
    assert {row[1] for row in table.rows[:20]} == {"2"}
    assert table.rows[20:] == (("and 10 more", "11", "11", "0", as_per_cent(0.0)),)


@pytest.mark.parametrize(
    ("languages", "shown"), [(("de", "zu", "de", ""), ("de 2", "zu 1", "none stated 1")), (("",), ())]
)
def test_collect_shows_the_languages_that_sources_state(
    home: Path, languages: tuple[str, ...], shown: tuple[str, ...]
) -> None:
    given = made(home, *((LONG, language) for language in languages))
    counts = collect_report(Documents(given.artifact, {}), "collect").counts
    assert [f"{row.what} {row.count}" for rows in counts.values() for row in rows] == list(shown)


class Documents(Made):
    """Of a stage that has no other part."""

    def part(self, stage: str, name: str) -> Part | None:
        return self.artifact[name] if name == DOCUMENTS else None
