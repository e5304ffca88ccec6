"""The stage moderator: what it learns, how it is scored, and which rows and labels it refuses."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from document_sets import rows_of
from tiny_model import LocalContext

from storage.errors import DataError
from storage.store.artifacts import Artifact
from tasks.collect.labelled import LabelsSource
from tasks.engine.builder import builder
from tasks.engine.stage import engine_in_force
from tasks.moderate.moderator import open_moderator
from tasks.moderate.section import ModeratorConfig
from tasks.moderate.training import make_moderator, observe_lists

WORDS = ["river", "castle", "doctor", "engine", "garden", "letter", "market", "window", "bridge", "silver"]


def rows_file(path: Path, count: int = 300, **labels: str) -> Path:
    """Mails, every third of which sells something; a German one that is none sells a little too."""
    draw, names = random.Random(3), {"spam": "spam", "ham": "ham"} | labels
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            spam, lang = number % 3 == 0, "de" if number % 2 else "en"
            said = " ".join(draw.choices(WORDS, k=8))
            offer = "win a free prize now" if spam else "免费" if lang == "de" and number % 5 == 0 else "see you"
            row = {"text": f"{offer} {said} {number}", "label": names["spam" if spam else "ham"], "lang": lang}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def config_of(rows: Path, *labels: str, **more: Any) -> ModeratorConfig:
    source = {"name": "mails", "path": str(rows), "by": ["lang"]}
    categories = [{"name": "spam", "labels": labels or ["spam"], "threshold": 0.5}]
    return ModeratorConfig.model_validate({"categories": categories, "sources": [source], **more})


def judge_artifact(home: Path, folder: Path, words: str) -> Artifact:
    """A moderator of one category `rude` with a list of words."""
    (folder / "words.txt").write_text(words, encoding="utf-8")
    given = {"categories": [{"name": "rude", "words": [{"path": str(folder / "words.txt")}]}]}
    with builder(home) as engine, engine_in_force(engine):
        made = make_moderator(ModeratorConfig.model_validate(given))
    assert isinstance(made, Artifact)
    return made


def test_it_learns_and_says_how_well(home: Path, tmp_path: Path) -> None:
    config = config_of(rows_file(tmp_path / "rows.jsonl"))
    with builder(home) as engine, engine_in_force(engine):
        made = make_moderator(config)
    assert isinstance(made, Artifact)
    summary = engine.results[-1].summary
    assert (summary["labelled_rows"], summary["quarantined"]) == (300, 0) and summary["heldout_rows"] > 15
    assert summary["spam_f1"] == 1.0
    judge = open_moderator(made["moderator"].path)
    assert judge.judge("win a FREE prize now, river").flagged == ("spam",)
    assert judge.judge("see you at the river").flagged == ()
    figures = json.loads((made["figures"] / "figures.json").read_text())
    (spam,) = figures["categories"]
    assert (spam["precision"], spam["recall"], spam["best_f1"]) == (1.0, 1.0, 1.0) and spam["of_it"] > 3
    assert {(one["field"], one["value"]) for one in figures["groups"]} == {
        ("lang", "de"),
        ("lang", "en"),
        ("source of the recipe", "mails"),
    }
    items = rows_of(made, "items")
    assert len(items) == summary["heldout_rows"] and all((row["score"] >= 0.5) == row["is_of_it"] for row in items)
    text = (made["moderator"] / "words.json").read_text() + (made["moderator"] / "moderation.json").read_text()
    assert "river" not in text, "no text of a row is in the judge"


def test_the_same_rows_make_the_same_judge(tmp_path: Path) -> None:
    config = config_of(rows_file(tmp_path / "rows.jsonl"))
    for name in ("one", "two"):
        make_moderator.function(config, context=LocalContext(tmp_path / name))
    for file in ("moderator/classifier.safetensors", "moderator/moderation.json", "figures/figures.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_what_it_reads_decides_whether_it_is_made_again(tmp_path: Path) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", 30)
    words = tmp_path / "words.txt"
    words.write_text("fool\n")
    config = config_of(rows).model_dump()
    config["categories"] = [*config["categories"], {"name": "rude", "words": [{"path": str(words)}]}]
    read = ModeratorConfig.model_validate(config)
    before = observe_lists(read)
    assert set(before) == {"mails/rows.jsonl", "rude/words/0/words.txt"}
    words.write_text("dolt\n")
    after = observe_lists(read)
    assert {name for name in before if before[name] != after[name]} == {"rude/words/0/words.txt"}


def test_false_alarms_are_counted_by_group(tmp_path: Path) -> None:
    """A word list that flags what German mails say flags no English one."""
    (tmp_path / "words.txt").write_text("免费\n", encoding="utf-8")
    config = config_of(rows_file(tmp_path / "rows.jsonl", 600), heldout_fraction=0.5).model_dump()
    config["categories"][0]["words"] = [{"path": str(tmp_path / "words.txt")}]
    make_moderator.function(ModeratorConfig.model_validate(config), context=LocalContext(tmp_path / "out"))
    groups = json.loads((tmp_path / "out/figures/figures.json").read_text())["groups"]
    alarms = {one["value"]: one["false_alarms"] for one in groups if one["field"] == "lang"}
    assert alarms["en"] == 0 and 0.1 < alarms["de"] < 0.5


def test_a_category_learns_from_sources_that_have_its_labels_alone(tmp_path: Path) -> None:
    first = rows_file(tmp_path / "one.jsonl")
    second = rows_file(tmp_path / "two.jsonl", spam="rude", ham="kind")
    sources = [{"name": "one", "path": str(first)}, {"name": "two", "path": str(second)}]
    categories = [{"name": name, "labels": [name]} for name in ("spam", "rude")]
    config = ModeratorConfig.model_validate({"categories": categories, "sources": sources})
    make_moderator.function(config, context=LocalContext(tmp_path / "out"))
    figures = json.loads((tmp_path / "out/figures/figures.json").read_text())
    assert figures["rows"] == sum(one["rows"] for one in figures["categories"]), "a row counts for one of them"
    assert [one["f1"] for one in figures["categories"]] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        ('{"text": "a", "label": "spam"}\n' * 30, ["spam"], "none of its .* training rows is not of it"),
        ('{"text": "a", "label": "ham"}\n' * 30, ["spam"], r"categories.0.labels: no row has the label 'spam'.* ham"),
        ('{"text": "a"}\n' * 3, ["spam"], r"collect.labels\[0\]: 3 of 3 rows.*rows.jsonl, line 1: .*label"),
        ('{"text": "a", "label": "spam"}\n{"tex\n', ["spam"], r"1 of 2 rows.*rows.jsonl, line 2"),
        ('{"text": "a", "label": [1]}\n', ["spam"], "rows.jsonl, line 1: the label, field 'label'"),
        ('{"text": "\\ud800", "label": "spam"}\n', ["spam"], "line 1: half a surrogate pair"),
    ],
)
def test_rows_that_teach_nothing_are_named(text: str, labels: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        make_moderator.function(config_of(tmp_path / "rows.jsonl", *labels), context=LocalContext(tmp_path / "out"))


def test_few_bad_rows_are_set_aside_and_said(tmp_path: Path) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", 200)
    with rows.open("a") as file:
        file.write('{"text": "no label"}\n')
    summary = make_moderator.function(config_of(rows), context=LocalContext(tmp_path / "out"))
    assert (summary["labelled_rows"], summary["quarantined"]) == (200, 1)


def test_numbers_may_be_labels_and_a_table_a_source(tmp_path: Path) -> None:
    """The form of the Davidson tweets: a column without a name, whole numbers for classes."""
    lines = ["\ufeff,class,tweet", *(f'{number},{number % 2},"word{number % 2} and, {number}"' for number in range(80))]
    (tmp_path / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    source = LabelsSource(path=str(tmp_path / "rows.csv"), text_field="tweet", label_field="class")
    config = ModeratorConfig.model_validate({"categories": [{"name": "one", "labels": ["1"]}], "sources": [source]})
    assert make_moderator.function(config, context=LocalContext(tmp_path / "out"))["one_f1"] == 1.0
