"""The recipes of docs/sources.md run as they stand."""

import bz2
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from collecting import documents_of
from hub_files import Hub, commit_id, serve_hub
from support import ROOT
from web_archives import answer, record, web_page, write_archive

from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.collect.config import CollectConfig
from tasks.collect.stage import collect
from tasks.engine.builder import Builder
from tasks.engine.context import Execution
from tasks.engine.stage import engine_in_force
from tasks.fetch.stage import fetch
from tasks.mix.section import CollectSection

HUB = Hub(
    "roneneldan/TinyStories",
    {commit_id(1): {"data/train.jsonl": "".join(f'{{"text": "Story {n}."}}\n' for n in range(40)).encode()}},
    {"main": commit_id(1)},
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


@pytest.mark.parametrize(("source", "lay_out"), (("warc", archives), ("wikipedia", dump), ("huggingface", None)))
def test_the_recipe_of_a_source_runs(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, lay_out: Callable[[Path], None] | None
) -> None:
    page = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {source}$.*?```yaml\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    config = CollectConfig(**yaml.safe_load(found[1])["collect"])
    monkeypatch.chdir(tmp_path)
    if lay_out is not None:
        lay_out(tmp_path)
    with serve_hub(HUB):
        monkeypatch.setenv("HF_ENDPOINT", HUB.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
            artifact = collect(config, fetch(config.fetching) if config.fetching.sources else None)
    assert isinstance(artifact, Artifact)
    assert len(documents_of(artifact)) >= 40


def test_the_recipes_of_a_mix_are_valid() -> None:
    page = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8").partition("\n## mix\n")[2]
    sections = [
        CollectSection(**yaml.safe_load(found)["collect"])
        for found in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    ]
    assert [section.mix is not None and section.mix.by for section in sections] == ["source", "language"]
