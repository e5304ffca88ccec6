"""New, edited and removed text: which shards and documents the data stages work on, and that no result shows it.

Each change is built on a copy of a home that knows the corpus, and in an empty home: the artifacts must be equal.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from collecting import install

import tasks.collect.slices
import tasks.filter.signals
import tasks.tokenize.fill_in
from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.collect.config import CollectConfig
from tasks.collect.stage import collect
from tasks.deduplicate import DeduplicateConfig, deduplicate
from tasks.engine.builder import Builder
from tasks.engine.context import Execution
from tasks.engine.stage import engine_in_force
from tasks.filter import FilterConfig, filter_documents
from tasks.tokenize.stage import TokenizeConfig, tokenize
from tasks.tokenize.tokenizer import TokenizerConfig, train_tokenizer

FILES, DOCUMENTS, IN_A_SHARD = 4, 40, 20
SETTINGS: dict[str, Any] = {"documents_per_shard": IN_A_SHARD, "heldout_fraction": 0.2}
VOCABULARY = ["".join(Random(number).choices("aeioubcdlmnrst", k=2 + number % 9)) for number in range(2000)]


def text(number: int) -> str:
    """A document like no other."""
    random = Random(number)
    return " ".join(random.choices(VOCABULARY, k=60)).capitalize() + f". The number of it is {number}."


def write(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))


@dataclass
class Built:
    """What a build of the data stages has made, and what it has worked on."""

    artifacts: dict[str, Artifact] = field(default_factory=dict)
    shards: dict[str, tuple[int, int]] = field(default_factory=dict)  # stage -> built, reused
    measured: int = 0  # documents, by the filter
    encoded: int = 0  # documents, by tokenize

    @property
    def digests(self) -> dict[str, str]:
        return {stage: artifact.digest for stage, artifact in self.artifacts.items()}


def build(home: Path, config: CollectConfig, tokenizer: Artifact | None = None) -> Built:
    """The data stages; `tokenizer` is one of an earlier build, as in retraining."""
    built, calls = Built(), Counter[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMILL_HOME", str(home))
        for module, name in ((tasks.filter.signals, "signals_of"), (tasks.tokenize.fill_in, "encode")):
            patch.setattr(module, name, _counted(getattr(module, name), name, calls))
        with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
            documents: Any = collect(config)
            unique: Any = deduplicate(DeduplicateConfig(), documents)
            clean: Any = filter_documents(FilterConfig(preset="none"), unique, documents)
            frozen: Any = tokenizer or train_tokenizer(TokenizerConfig(vocabulary_size=400), clean)
            tokenize(TokenizeConfig(canaries=0), clean, frozen)
    for result in builder.results:
        assert result.artifact is not None and result.record is not None
        built.artifacts[result.stage] = result.artifact
        counts = result.record.get("shards_built", 0), result.record.get("shards_reused", 0)
        built.shards[result.stage] = counts if result.outcome == "built" else (0, sum(counts))
    built.measured, built.encoded = calls["signals_of"], calls["encode"]
    return built


def _counted(original: Callable[..., Any], name: str, calls: Counter[str]) -> Callable[..., Any]:
    def counting(*arguments: Any) -> Any:
        if name == "signals_of":
            calls[name] += 1
            return original(*arguments)
        tokenizer, texts = arguments
        texts = list(texts)
        calls[name] += len(texts)
        return original(tokenizer, texts)

    return counting


@dataclass
class Corpus:
    """A folder of files that are large enough to be slices of their own, and a home that has built it."""

    folder: Path
    home: Path
    first: Built

    @property
    def config(self) -> CollectConfig:
        return CollectConfig(files=({"path": str(self.folder)},), **SETTINGS)

    def rebuild(self) -> Built:
        """Build again; an empty home must come to the same."""
        again = build(self.home, self.config, self.first.artifacts["tokenizer"])
        fresh = build(self.home.with_name("fresh"), self.config, self.first.artifacts["tokenizer"])
        assert again.digests == fresh.digests
        return again


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.collect.slices, "SLICE_BYTES", 4000)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    base = tmp_path_factory.mktemp("known")
    folder = base / "texts"
    folder.mkdir()
    for number in range(FILES):
        write(folder / f"text-{number}.jsonl", [text(number * 1000 + row) for row in range(DOCUMENTS)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.collect.slices, "SLICE_BYTES", 4000)
        corpus = Corpus(folder, base / "home", Built())
        corpus.first = build(corpus.home, corpus.config)
    assert corpus.first.shards["collect"] == (FILES, 0)
    assert corpus.first.shards["filter"] == (2 * FILES, 0)
    assert corpus.first.measured == corpus.first.encoded == FILES * DOCUMENTS
    return corpus


@pytest.fixture
def corpus(known: Corpus, tmp_path: Path) -> Corpus:
    """A copy for one test."""
    shutil.copytree(known.folder, tmp_path / "texts")
    shutil.copytree(known.home, tmp_path / "home", symlinks=True)
    return Corpus(tmp_path / "texts", tmp_path / "home", known.first)


NEW = [text(90_000 + row) for row in range(IN_A_SHARD)]


@pytest.mark.parametrize(
    "name",
    ["a-new.jsonl", *(pytest.param(name, marks=pytest.mark.slow) for name in ("zz-new.jsonl", "text-1a.jsonl"))],
)
def test_a_new_file_costs_its_own_shards_wherever_it_sorts(corpus: Corpus, name: str) -> None:
    write(corpus.folder / name, NEW)
    again = corpus.rebuild()
    assert again.shards["collect"] == (1, FILES)
    for stage in ("deduplicate", "filter", "tokenize"):
        assert again.shards[stage] == (1, 2 * FILES), stage
    assert again.measured == again.encoded == len(NEW)


@pytest.mark.slow
def test_a_few_lines_in_a_small_file_that_sorts_first_do_not_move_a_large_one(corpus: Corpus) -> None:
    write(corpus.folder / "a-new.jsonl", NEW[:2])
    again = corpus.rebuild()
    assert again.shards["collect"] == (1, FILES) and again.shards["tokenize"] == (1, 2 * FILES)
    assert again.measured == again.encoded == 2


@pytest.mark.slow
def test_lines_that_are_appended_cost_the_shards_behind_them(corpus: Corpus) -> None:
    with (corpus.folder / "text-2.jsonl").open("a") as file:
        file.writelines(json.dumps({"text": one}) + "\n" for one in NEW)
    again = corpus.rebuild()
    assert again.shards["collect"] == (1, FILES - 1), "the file is read again, whole"
    for stage in ("deduplicate", "filter", "tokenize"):
        assert again.shards[stage] == (1, 2 * FILES), stage


@pytest.mark.slow
def test_a_line_that_is_edited_costs_its_shard_and_one_document(corpus: Corpus) -> None:
    path = corpus.folder / "text-2.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:5], json.dumps({"text": NEW[0]}) + "\n", *lines[6:]]))
    again = corpus.rebuild()
    assert again.shards["collect"] == (1, FILES - 1)
    assert again.shards["filter"] == again.shards["tokenize"] == (1, 2 * FILES - 1)
    assert again.measured == again.encoded == 1


def test_a_line_that_is_taken_out_moves_the_rest_of_its_file_and_costs_no_document(corpus: Corpus) -> None:
    path = corpus.folder / "text-2.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    again = corpus.rebuild()
    assert again.shards["filter"] == again.shards["tokenize"] == (2, 2 * FILES - 2)
    assert again.measured == again.encoded <= 1, "the document that crossed from one shard into the other"


@pytest.mark.slow
def test_a_file_that_is_taken_out_costs_nothing(corpus: Corpus) -> None:
    (corpus.folder / "text-2.jsonl").unlink()
    again = corpus.rebuild()
    assert again.shards["collect"] == (0, FILES - 1)
    assert {again.shards[stage] for stage in ("deduplicate", "filter", "tokenize")} == {(0, 2 * FILES - 2)}
    assert again.measured == again.encoded == 0


def test_a_new_document_that_replaces_an_old_copy_costs_itself_alone(corpus: Corpus) -> None:
    longer = [f"{text(number * 1000 + 3)} It goes on for a few more words here." for number in range(FILES)]
    write(corpus.folder / "zz-new.jsonl", longer)
    again = corpus.rebuild()
    assert 3 < again.shards["filter"][0] <= FILES + 1, "old shards have lost a document, unless it is held out"
    assert again.measured == again.encoded <= FILES


@pytest.mark.slow
def test_a_forced_build_takes_nothing_over(corpus: Corpus) -> None:
    from tasks.engine.planner import Options

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMILL_HOME", str(corpus.home))
        calls = Counter[str]()
        patch.setattr(
            tasks.filter.signals, "signals_of", _counted(tasks.filter.signals.signals_of, "signals_of", calls)
        )
        options = Options(force=frozenset({"filter"}))
        with Builder(Store(corpus.home), Execution(workers=1), options) as builder, engine_in_force(builder):
            collected: Any = collect(corpus.config)
            unique: Any = deduplicate(DeduplicateConfig(), collected)
            filter_documents(FilterConfig(preset="none"), unique, collected)
    assert calls["signals_of"] == FILES * DOCUMENTS
    forced = builder.results[-1].artifact
    assert forced is not None and forced.digest == corpus.first.digests["filter"]


def module(name: str) -> str:
    """Python source with one docstring of many words."""
    return f'"""{text(sum(map(ord, name)))}\n\n{text(7 * sum(map(ord, name)))}\n"""\n'


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CollectConfig]:
    """Lays packages down (name -> version) and gives a config that reads them, the last one held out."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "site").mkdir()

    def lay_out(**versions: str) -> CollectConfig:
        for name, version in versions.items():
            install(tmp_path / "site", name, version, {f"{name}/__init__.py": module(name + version)})
        source = {"packages": list(versions), "heldout_packages": [list(versions)[-1]]}
        return CollectConfig(docstrings=source, **SETTINGS)

    return lay_out


def test_a_package_that_is_added_or_upgraded_costs_itself_alone(
    home: Path, tmp_path: Path, packages: Callable[..., CollectConfig]
) -> None:
    first = build(home, packages(alpha="1", beta="1", omega="1"))
    assert first.shards["collect"] == (3, 0)
    tokenizer = first.artifacts["tokenizer"]
    for number, versions in enumerate(
        [
            {"aardvark": "1", "alpha": "1", "beta": "1", "omega": "1"},
            {"aardvark": "1", "alpha": "1", "beta": "2", "omega": "1"},
        ]
    ):
        config = packages(**versions)
        again = build(home, config, tokenizer)
        for stage in ("collect", "deduplicate", "filter", "tokenize"):
            assert again.shards[stage] == (1, 3), (versions, stage)
        assert again.measured == again.encoded == 1
        assert build(tmp_path / f"fresh-{number}", config, tokenizer).digests == again.digests
