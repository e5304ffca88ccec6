"""The stage augment: which documents have other forms, what marks them, and what stays as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
from document_sets import Rows, rows_of, source, training
from pydantic import ValidationError

from storage.documents import HELDOUT
from storage.store.artifacts import Artifact
from tasks.augment.config import AugmentConfig
from tasks.augment.stage import augment
from tasks.engine.builder import builder
from tasks.engine.context import Execution
from tasks.engine.listener import StageResult
from tasks.engine.stage import engine_in_force
from tasks.filter.config import FilterConfig
from tasks.filter.stage import filter_documents

ALL: dict[str, Any] = {"share": 1.0}
ENGLISH = [f"The river, number {n}, is quiet.\n\nIt is wide, too; and late.\n\nNobody knows why." for n in range(30)]
OTHERS = [f"第{n}条河很安静，也很宽。\n\n没有人知道为什么。" for n in range(10)]
THAI = [f"แม่น้ำ {n} เงียบสงบ\n\nไม่มีใครรู้ว่าทำไม" for n in range(10)]
HELD = [(f"Die Straße Nummer {n}, hier.\n\nEin Absatz.\n\nNoch einer.", HELDOUT) for n in range(10)]
SHARDS: tuple[Rows, ...] = ([*training(*ENGLISH), *HELD[:5]], [*training(*OTHERS, *THAI), *HELD[5:]])


def changed(home: Path, *shards: Rows, workers: int = 1, **settings: Any) -> tuple[Artifact, Artifact, StageResult]:
    """What the stage reads, what it makes, and how."""
    given = source(home, *(shards or SHARDS))
    with builder(home, Execution(workers=workers)) as engine, engine_in_force(engine):
        clean = filter_documents(FilterConfig(preset="none"), given, given)
        artifact = augment(AugmentConfig.model_validate(settings), clean, clean)
    assert isinstance(artifact, Artifact) and isinstance(clean, Artifact)
    return clean, artifact, engine.results[-1]


def made(artifact: Artifact) -> list[dict[str, Any]]:
    """The rows of changed documents, with their marks."""
    rows = [row | {"mark": json.loads(row["metadata"]).get("augmented")} for row in rows_of(artifact, "documents")]
    return [row for row in rows if row["mark"]]


@pytest.mark.parametrize("kind", ["noise", "dropout", "shuffle", "middle"])
def test_forms_are_marked_beside_their_sources_and_no_heldout_document_has_one(home: Path, kind: str) -> None:
    strong = {"noise": {"case": 0.9, "punctuation": 0.9}, "dropout": {"words": 0.5}}.get(kind, {})
    settings: dict[str, Any] = {kind: ALL | strong}
    clean, artifact, result = changed(home, max_share=1.0, **settings)
    before, rows = {row["id"]: row for row in rows_of(clean, "documents")}, made(artifact)
    assert {row["split"] for row in rows} == {"train"} and len(rows) >= 30
    assert len({row["id"] for row in rows_of(artifact, "documents")}) == len(before) + len(rows)
    for row in rows:
        of = before[row["mark"]["of"]]
        assert row["mark"]["kind"] == kind and of["split"] == "train"
        assert all(row[name] == of[name] for name in ("source", "group", "lang", "license", "url", "title"))
        assert row["text"].strip() and (kind == "middle") == (row["text"] in of["text"])
    kept = [row for row in rows_of(artifact, "documents") if row["id"] in before]
    assert kept == list(before.values()), "originals stay as they are, in their order"
    ledger = rows_of(artifact, "ledger")
    assert [(row["id"], row["twin"]) for row in ledger] == [(row["id"], row["mark"]["of"]) for row in rows]
    summary = result.summary
    assert (summary["read"], summary["kept"], summary[f"augmented_{kind}"]) == (60, 60, len(rows))
    assert summary["augmented_bytes"] == sum(len(row["text"].encode()) for row in rows)


def test_signals_of_changed_documents_are_those_of_their_sources(home: Path) -> None:
    clean, artifact, _ = changed(home, shuffle=ALL, max_share=1.0)
    before = {row["id"]: row for row in rows_of(clean, "signals")}
    after = {row["id"]: row for row in rows_of(artifact, "signals")}
    for row in made(artifact):
        assert after[row["id"]] == before[row["mark"]["of"]] | {"id": row["id"]}
    assert {name: row for name, row in after.items() if name in before} == before


def test_the_share_of_changed_documents_is_capped_and_what_is_kept_is_a_matter_of_ids(home: Path) -> None:
    _, artifact, result = changed(home, max_share=0.2, noise=ALL, shuffle=ALL)
    summary = result.summary
    share = summary["augmented_bytes"] / (summary["augmented_bytes"] + summary["original_bytes"])
    assert 0.15 < share <= 0.2
    assert "augment.max_share" in " ".join(summary["notices"])
    kinds = {row["mark"]["kind"] for row in made(artifact)}
    assert kinds == {"noise", "shuffle"}, "no kind takes the room of the others"
    everything = [row for shard in SHARDS for row in shard]
    _, other, _ = changed(home, everything, max_share=0.2, noise=ALL, shuffle=ALL)
    texts = [sorted(row["text"] for row in made(one)) for one in (artifact, other)]
    assert len(texts[0]) == len(texts[1]) and abs(len(texts[0]) - 12) < 8


def test_shards_and_workers_change_nothing_and_another_seed_does(home: Path, tmp_path: Path) -> None:
    one = changed(home, noise=ALL, dropout={"share": 0.5}, workers=1)[1]
    other_home = tmp_path / "other"
    other_home.mkdir()
    two = changed(other_home, noise=ALL, dropout={"share": 0.5}, workers=2)[1]
    assert one.digest == two.digest
    seeded = changed(home, noise=ALL, dropout={"share": 0.5}, seed=2)[1]
    assert seeded.digest != one.digest


def test_a_new_shard_changes_no_other_shard_and_no_other_document(home: Path) -> None:
    before = changed(home, noise={"share": 0.3}, max_share=0.9)[1]
    _, after, result = changed(
        home, *SHARDS, training("A new one, here.", "And, another."), noise={"share": 0.3}, max_share=0.9
    )
    assert result.outcome == "built"
    assert [file.digest for file in after["documents"].files][:2] == [file.digest for file in before["documents"].files]


def test_changed_documents_can_stand_in_place_of_their_sources(home: Path) -> None:
    clean, artifact, result = changed(home, middle={"share": 1.0, "instead": True}, max_share=1.0)
    training_ids = {row["id"] for row in rows_of(clean, "documents") if row["split"] == "train"}
    left = {row["id"] for row in rows_of(artifact, "documents")}
    assert not training_ids & left and result.summary["replaced"] == len(training_ids) == 50
    assert sum(row["split"] == HELDOUT for row in rows_of(artifact, "documents")) == 10
    cuts = {row["id"]: row for row in rows_of(artifact, "middles")}
    assert set(cuts) == {row["id"] for row in made(artifact)}
    capped = changed(home, middle={"share": 1.0, "instead": True}, max_share=0.3)
    summary = capped[2].summary
    assert 0 < summary["replaced"] < 50, "a source whose form is left out stays"
    assert len(rows_of(capped[1], "documents")) == 60


def test_a_source_in_whose_place_several_forms_stand_is_counted_once(home: Path) -> None:
    kinds: dict[str, Any] = {kind: ALL | {"instead": True} for kind in ("noise", "dropout", "shuffle")}
    for most in (1.0, 0.5):
        _, artifact, result = changed(home, max_share=most, **kinds)
        sizes = {True: 0, False: 0}
        for row in rows_of(artifact, "documents"):
            sizes["augmented" in row["metadata"]] += len(row["text"].encode()) if row["split"] == "train" else 0
        share = sizes[True] / sum(sizes.values())
        assert most - 0.1 < share <= most
        assert (result.summary["augmented_bytes"], result.summary["original_bytes"]) == (sizes[True], sizes[False])
        assert any("max_share" in notice for notice in result.summary["notices"]) == (most < 1)


def test_a_document_without_anything_to_change_has_no_form_and_the_user_hears_of_it(home: Path) -> None:
    _, artifact, result = changed(home, training("one paragraph", "another"), shuffle=ALL, noise=ALL | {"case": 0.0})
    assert made(artifact) == [] and result.summary["augmented"] == 0
    assert [notice.partition(" has")[0] for notice in result.summary["notices"]] == [
        "augment: noise",
        "augment: shuffle",
    ]


def test_a_section_that_changes_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="noise, dropout, shuffle, middle"):
        AugmentConfig()
