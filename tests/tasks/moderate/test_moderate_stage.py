"""The stage moderate: what is flagged goes, with its reason; what is not stays as it is."""

from pathlib import Path
from typing import Any

import pytest
from document_sets import rows_of, source, texts_of, training
from test_training import judge_artifact

from storage.store.artifacts import Artifact
from tasks.engine.builder import builder
from tasks.engine.context import Execution
from tasks.engine.stage import engine_in_force
from tasks.filter import FilterConfig, filter_documents
from tasks.moderate.section import ModerateConfig, ModeratorConfig
from tasks.moderate.stage import moderate
from tasks.moderate.training import make_moderator

CLEAN, RUDE = "The river is quiet and wide.", "You are a fool. The river is quiet."
LONG = (CLEAN + " ") * 40 + RUDE + (" " + CLEAN) * 40
PAIRS = (("What is a fool?", "Somebody unwise."), ("Who is he?", "A f00l."), ("Where?", "Here."))
World = tuple[Path, Artifact, Artifact]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A home, what filter has left, and a judge."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("words")
    documents = source(home, training(CLEAN, RUDE, LONG), training("他是傻瓜吗", CLEAN + "!"), pairs=PAIRS)
    with builder(home, Execution(workers=1)) as engine, engine_in_force(engine):
        clean = filter_documents(FilterConfig(preset="none"), documents, documents)
    assert isinstance(clean, Artifact)
    return home, clean, judge_artifact(home, folder, "fool\n傻瓜\n")


def moderated(world: World, config: ModerateConfig) -> tuple[Artifact, Any]:
    home, clean, judge = world
    with builder(home, Execution(workers=1)) as engine, engine_in_force(engine):
        result = moderate(config, clean, judge)
        assert isinstance(result, Artifact)
        return result, engine.results[-1].summary


def test_what_is_flagged_is_dropped_with_its_reason(world: World) -> None:
    artifact, summary = moderated(world, ModerateConfig())
    assert texts_of(artifact) == [CLEAN, CLEAN + "!"]
    assert [row["answer"] for row in rows_of(artifact, "pairs")] == ["Somebody unwise.", "Here."]
    names = ("part", "rule", "value", "threshold", "shard")
    assert {tuple(row[name] for name in names) for row in rows_of(artifact, "ledger")} == {
        ("documents", "rude", 1.0, 0.5, 0),
        ("documents", "rude", 1.0, 0.5, 1),
        ("pairs", "rude", 1.0, 0.5, 0),
    }
    assert (summary["read"], summary["kept"], summary["dropped"], summary["pairs_dropped"]) == (5, 2, 3, 1)
    assert summary["flagged_rude"] == 4
    verdicts = rows_of(artifact, "verdicts")
    assert [row["score_rude"] for row in verdicts] == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert 0 < verdicts[2]["share"] < 0.2 and rows_of(artifact, "labels") == []


def test_a_long_document_may_hold_a_flagged_passage(world: World) -> None:
    assert texts_of(moderated(world, ModerateConfig(max_flagged=0.3))[0]) == [CLEAN, LONG, CLEAN + "!"]


def test_a_report_drops_nothing_and_copies_nothing(world: World) -> None:
    artifact, summary = moderated(world, ModerateConfig(documents="report"))
    assert (summary["dropped"], summary["flagged_rude"]) == (0, 4) and rows_of(artifact, "ledger") == []
    for part in ("documents", "pairs", "signals"):
        assert artifact[part].digest == world[1][part].digest


def test_a_folder_of_public_lists_judges_each_document_by_its_language(home: Path, tmp_path: Path) -> None:
    """As LDNOOBW's repository is: a file a language, some of a region, beside files that are no lists."""
    lists = {"de": "dolt\n", "en": "# rude\nfool\n", "fr-CA-u-sd-caqc": "sot\n", "th": "โง่\n", "zh": "傻瓜\n"}
    for name, words in (lists | {"LICENSE": "river\n", "README.md": "quiet\n", "USERS.md": "wide\n"}).items():
        (tmp_path / name).write_text(words, encoding="utf-8")
    config = ModeratorConfig.model_validate({"categories": [{"name": "rude", "words": [{"path": str(tmp_path)}]}]})
    said = (
        ("A dolt.", "en"),
        ("A dolt.", "de"),
        ("Un sot.", "fr"),
        ("เขาโง่มาก", "th"),
        ("他是傻瓜吗", "zh"),
        (CLEAN, "en"),
    )
    documents = source(home, [(text, "train", "web", language) for text, language in said])
    with builder(home, Execution(workers=1)) as engine, engine_in_force(engine):
        judge = make_moderator(config)
        clean = filter_documents(FilterConfig(preset="none"), documents, documents)
        result = moderate(ModerateConfig(), clean, judge)
    assert isinstance(result, Artifact)
    assert texts_of(result) == ["A dolt.", CLEAN], "the German word in an English text stays"
