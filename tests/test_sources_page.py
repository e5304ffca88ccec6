"""The recipes of docs/sources.md run as they stand."""

import bz2
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from collecting import documents_of, rows_of
from document_files import epub
from hub_files import Hub, serve_hub
from sites import page, serving
from support import ROOT
from users_said import said, write
from web_archives import answer, record, web_page, write_archive

from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.collect.config import CollectConfig
from tasks.collect.labelled import Labelled, labelled_rows
from tasks.collect.stage import collect
from tasks.engine.builder import Builder
from tasks.engine.context import Execution
from tasks.engine.stage import engine_in_force
from tasks.fetch.stage import fetch
from tasks.mix.section import CollectSection

HUB = Hub(
    "roneneldan/TinyStories",
    {
        "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64": {
            "data/train-0.jsonl": "".join(f'{{"text": "Story {n}."}}\n' for n in range(40)).encode()
        }
    },
    {},
)


def archives(folder: Path) -> None:
    pages = [
        record(answer(web_page(f"P {n}", f"Page {n} of a site, with a text. " * 5)), f"https://s{n}.example/")
        for n in range(40)
    ]
    write_archive(folder / "archives" / "a.warc.gz", *pages)


def dump(folder: Path) -> None:
    pages = "".join(
        f"<page><title>T {n}</title><ns>0</ns><id>{n}</id><revision><text>Article {n}.</text></revision></page>"
        for n in range(120)
    )
    data = bz2.compress(f"<mediawiki>{pages}</mediawiki>".encode())
    (folder / "simplewiki-latest-pages-articles.xml.bz2").write_bytes(data)


def corpus(folder: Path) -> None:
    home = folder / "home of the user"
    for number in range(40):
        (home / "corpus" / f"{number}.txt").parent.mkdir(parents=True, exist_ok=True)
        (home / "corpus" / f"{number}.txt").write_text(f"Text {number} of a corpus.")
    (home / "corpus" / "book.epub").write_bytes(epub({"one": "<p>Words of a book.</p>"}, ["one"]))


LAY_OUT: dict[str, Callable[[Path], None] | None] = {
    "files": corpus,
    "warc": archives,
    "wikipedia": dump,
    "huggingface": None,
}


def recipe_of(source: str) -> dict[str, Any]:
    """The section `collect` of the recipe below a heading of the page."""
    page = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {source}$.*?```yaml\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    return dict(yaml.safe_load(found[1])["collect"])


def collected(home: Path, config: CollectConfig) -> Artifact:
    with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
        artifact = collect(config, fetch(config.fetching) if config.fetching.sources else None)
    assert isinstance(artifact, Artifact)
    return artifact


def test_every_source_has_a_recipe_that_is_run_here() -> None:
    page = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## (\w+)$", page, re.MULTILINE)) == {
        *LAY_OUT,
        "web",
        "conversations",
        "feedback",
        "labels",
        "mix",
    }


def test_the_recipe_of_feedback_runs(home: Path) -> None:
    """With a text that takes no time in the place of all docstrings."""
    users = [f"{number:02x}" * 32 for number in range(40)]
    write(home, *(said(f"Where is {n}?", user, n, rating="up", answer="Here.") for n, user in enumerate(users)))
    section = recipe_of("feedback") | {"docstrings": None, "synthetic": {"documents": 20}}
    rows = [row for row in rows_of(collected(home, CollectConfig(**section)), "pairs") if row["source"] == "feedback"]
    assert len(rows) == 40 and {row["split"] for row in rows} == {"train", "heldout"}, "liked answers are learned"


def test_the_recipe_of_conversations_runs(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "chat/alpaca.json": json.dumps([{"instruction": f"Question {n}?", "output": "So."} for n in range(20)]),
        "chat/judged.json": json.dumps([{"prompt": "Why?", "chosen": "So.", "rejected": "No."}]),
        "sms.tsv": "label\tmsg\nham\tOk lar\nspam\tWin it\n",
        "reviews/pos/1.txt": "A fine film.",
        "reviews/neg/2.txt": "A long film.",
        "faq.csv": "asked,told\nWhere?,There.\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    artifact = collected(home, CollectConfig(**recipe_of("conversations")))
    rows = {part: rows_of(artifact, part) for part in ("pairs", "preferences", "labels")}
    assert {part: len(found) for part, found in rows.items()} == {"pairs": 21, "preferences": 1, "labels": 4}
    assert {row["answer"] for row in rows["labels"]} == {"ham", "spam", "pos", "neg"}


def test_the_recipe_of_labels_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tweets.csv").write_text("tweet,class,lang\nA fine day,kind,en\nGeh weg,rude,de\n")
    monkeypatch.chdir(tmp_path)
    (source,) = CollectSection(**recipe_of("labels") | {"synthetic": {"documents": 20}}).labels
    rows = [row for row in labelled_rows(source, "collect.labels[0]") if isinstance(row, Labelled)]
    assert [(row.text, row.label, row.values) for row in rows] == [
        ("A fine day", "kind", (("lang", "en"),)),
        ("Geh weg", "rude", (("lang", "de"),)),
    ]


@pytest.mark.slow
def test_the_recipe_of_a_site_runs(home: Path) -> None:
    """Its address is the only thing that is another one here."""
    pages = {f"/en/{number}": page(f"Page {number} of a site, with words. " * 9) for number in range(40)}
    with serving({"/": page("Home", *pages, "/de/1"), "/de/1": page("Seite"), **pages}) as site:
        (source,) = recipe_of("web")["web"]
        source |= {"urls": [site.url()], "allow_private": True, "delay_seconds": 0}
        artifact = collected(home, CollectConfig(web=[source], heldout_fraction=0))
    urls = {document.url.removeprefix(site.url("")) for document in documents_of(artifact)}
    assert urls >= set(pages) and "/de/1" not in urls


@pytest.mark.parametrize(("source", "lay_out"), LAY_OUT.items())
def test_the_recipe_of_a_source_runs(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, lay_out: Callable[[Path], None] | None
) -> None:
    config = CollectConfig(**recipe_of(source))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home of the user"))
    if lay_out is not None:
        lay_out(tmp_path)
    with serve_hub(HUB):
        monkeypatch.setenv("HF_ENDPOINT", HUB.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        assert len(documents_of(collected(home, config))) >= 40


def test_the_recipes_of_a_mix_are_valid() -> None:
    page = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8").partition("\n## mix\n")[2]
    sections = [
        CollectSection(**yaml.safe_load(found)["collect"])
        for found in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    ]
    assert [section.mix is not None and section.mix.by for section in sections] == ["source", "language", "source"]
