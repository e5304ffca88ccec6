"""The report says what took most of each source and language, shows it, and says what other presets would keep."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from document_sets import Rows, run, source

from storage.errors import DataError
from storage.store.artifacts import Artifact, Part
from tasks.engine.reported import Table
from tasks.filter import FilterConfig, filter_documents
from tasks.filter.by_group import EXAMPLES_SHOWN, PRESETS_KEEP, TAKEN
from tasks.filter.presets import PRESETS
from tasks.filter.report import LEARNED, report
from tasks.wording import as_per_cent

CODE = "A set is written with brackets: { } holds the members of it, and the book says so at length, as books do. " * 6
SHORT = "Too short."
PLAIN = (
    "The mill stood by the river, and the miller had been there for as long as anyone in the town could remember it."
)


@dataclass(frozen=True)
class Made:
    artifact: Artifact
    given: Artifact
    settings: FilterConfig
    figures: dict[str, Any]

    def part(self, stage: str, name: str) -> Part | None:
        return self.artifact[name]

    def read(self, stage: str, name: str) -> Part | None:
        return self.given[name]

    def config(self, stage: str) -> dict[str, Any]:
        return self.settings.identity()

    def summary(self, stage: str) -> dict[str, Any]:
        return self.figures


def tables(home: Path, config: FilterConfig, *shards: Rows) -> dict[str, Table]:
    artifact, summary = run(home, filter_documents, config, *shards)
    made = Made(artifact, source(home, *shards), config, summary)
    return {table.heading: table for table in report(made, "filter").tables}


def test_of_each_group_the_rule_three_documents_and_other_presets(home: Path) -> None:
    books = [(f"{CODE} Chapter {number}.", "train", "books", "en") for number in range(4)]
    books.append((PLAIN, "train", "books", "en"))
    notes = [*((f"{SHORT} {number}", "train", "notes", "de") for number in range(4)), (PLAIN, "train", "notes", "de")]
    found = tables(home, FilterConfig(preset="none", min_words=20, max_curly_brackets=5), books[:2], books[2:] + notes)
    taken = {row[0]: row[1:] for row in found[TAKEN].rows}
    assert taken["source books"] == ("5", "4", "max_curly_brackets", "4", as_per_cent(0.8))
    assert taken["source notes"] == ("5", "4", "min_words", "4", as_per_cent(0.8))
    assert taken["language de"] == taken["source notes"]
    examples = [row for row in found[EXAMPLES_SHOWN].rows if row[0] == "source books"]
    assert len(examples) == 3
    assert all(row[1] == "max_curly_brackets" and row[4].startswith("A set is") and "6" in row[3] for row in examples)
    kept = {row[0]: dict(zip(PRESETS, row[1:], strict=True)) for row in found[PRESETS_KEEP].rows}
    assert kept["source books"]["none"] == as_per_cent(1)
    assert kept["source books"]["c4"].endswith("% (max_curly_brackets)")
    assert kept["source notes"]["gopher"] == f"{as_per_cent(0)} (min_words)"
    assert kept["source notes"]["general"] == as_per_cent(1)
    assert "on a web page it shows code" in found[PRESETS_KEEP].note


GERMAN = (
    "Die Mühle stand am Fluss, und der Müller war dort, solange sich jemand im Ort erinnern konnte, sagt Blatt {0}."
)


def test_another_preset_has_its_own_languages_unless_the_recipe_names_some(home: Path) -> None:
    documents = [(f"{PLAIN} {PLAIN} Page {number}.", "train", "mixed", "en") for number in range(3)]
    documents += [(f"{GERMAN.format(number)}", "train", "mixed", "de") for number in range(3)]
    shown = {}
    for languages in ((), ("de",)):
        named = {"languages": languages} if languages else {}
        found = tables(home, FilterConfig(preset="c4", min_sentences=None, **named), documents)
        shown[languages] = {row[0]: dict(zip(PRESETS, row[1:], strict=True)) for row in found[PRESETS_KEEP].rows}
    assert shown[()]["language de"]["general"] == as_per_cent(1)
    assert shown[()]["language de"]["c4"] == f"{as_per_cent(0)} (min_language_score)"
    assert shown["de",]["language en"]["general"] == f"{as_per_cent(0)} (min_language_score)"


@pytest.mark.parametrize("others", [[], [(PLAIN, "train", "web", "en")]])
def test_a_source_that_loses_everything_is_explained_where_the_stage_fails(home: Path, others: Rows) -> None:
    books = [(f"{CODE} Chapter {number}.", "train", "books", "en") for number in range(4)]
    with pytest.raises(DataError, match=r"filter\.max_curly_brackets") as raised:
        run(home, filter_documents, FilterConfig(preset="none", max_curly_brackets=5), [*books[:1], *others], books[1:])
    lines = str(raised.value).splitlines()
    assert sum(line.startswith("  max_curly_brackets dropped ") and "6" in line for line in lines) == 3
    (kept,) = [line for line in lines if "of source books would be kept by" in line]
    assert f"none {as_per_cent(1)}" in kept and f"c4 {as_per_cent(0)} (max_curly_brackets)" in kept
    assert "on a web page it shows code" in lines[-1] and "source web" not in str(raised.value)


def test_where_nothing_is_dropped_only_the_presets_are_compared(home: Path) -> None:
    found = tables(home, FilterConfig(preset="none"), [(CODE, "train", "books", "en")])
    assert TAKEN not in found and EXAMPLES_SHOWN not in found and PRESETS_KEEP in found


def test_what_judges_learned_is_shown_and_another_preset_has_none(home: Path, tmp_path: Path) -> None:
    for kind, text in (("good", PLAIN), ("bad", SHORT)):
        (tmp_path / f"{kind}.txt").write_text(text)
    quality = {kind: [str(tmp_path / f"{kind}.txt")] for kind in ("good", "bad")}
    reference = {"paths": [str(tmp_path / "good.txt")]}
    given = {"preset": "none", "quality": quality, "min_quality": 0.5, "reference": reference, "max_bits_per_byte": 60}
    documents = [(f"{PLAIN} Page {number}", "train", "books") for number in range(3)] + [(SHORT, "train", "books")]
    found = tables(home, FilterConfig.model_validate(given), documents)
    learned = {row[0]: row[1] for row in found[LEARNED].rows}
    assert learned["Pieces of good and bad texts that the classifier learned from"] == "2"
    assert learned["Bytes of the reference whose n-grams foretell documents"] == str(len(PLAIN))
    assert [row[3] for row in found[TAKEN].rows if row[0] == "source books"] == ["min_quality"]
    assert next(row for row in found[PRESETS_KEEP].rows if row[0] == "source books")
