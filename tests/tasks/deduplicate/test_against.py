"""Corpora outside: what is like a document of theirs goes, and they are never written."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from document_sets import rows_of, run, source, texts_of, training
from pydantic import ValidationError

from storage.documents import HELDOUT, TRAIN
from storage.errors import DataError
from tasks.deduplicate import DeduplicateConfig, deduplicate
from tasks.deduplicate.about import DEDUPLICATE
from tasks.deduplicate.shingles import encode, shingle, shingle_sets
from tasks.deduplicate.signatures import signatures
from tasks.deduplicate.similarity import jaccard
from tasks.engine.builder import builder
from tasks.engine.stage import engine_in_force


def prose(seed: int, words: int = 120) -> str:
    return " ".join(f"w{word}" for word in np.random.default_rng(seed).integers(0, 10_000, words))


def corpus(path: Path, *texts: str, rows_per_group: int = 2, **columns: list[object]) -> DeduplicateConfig:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": list(texts), **columns}), path, row_group_size=rows_per_group)
    return DeduplicateConfig.model_validate({"against": [{"name": "known", "path": str(path.parent)}]})


def test_what_is_like_an_external_document_goes_and_the_ledger_says_like_which(home: Path, tmp_path: Path) -> None:
    config = corpus(tmp_path / "known" / "a.parquet", prose(8), prose(1), prose(2) + " tail", id=["x", "y", "z"])
    rows = [(prose(1).upper(), TRAIN), (prose(2), HELDOUT), (prose(3), TRAIN), (prose(2) + " longer tail", TRAIN)]
    artifact, summary = run(home, deduplicate, config, rows)
    assert texts_of(artifact) == [prose(3)], "the held-out copy goes too, and the external documents are not written"
    ledger = rows_of(artifact, "ledger")
    assert [(row["reason"], row["twin"], row["shard"]) for row in ledger] == [
        ("against known", "y", 0),
        ("against known", "z", 0),
        ("against known", "z", 0),
    ]
    assert ledger[1]["jaccard"] == jaccard(*shingle_sets([prose(2), prose(2) + " tail"], 5))
    assert (summary["read"], summary["kept"], summary["dropped"], summary["dropped_against.known"]) == (4, 1, 3, 3)
    assert summary["dropped_exact"] == summary["dropped_near"] == 0


def test_a_document_without_id_is_named_by_file_and_row(home: Path, tmp_path: Path) -> None:
    config = corpus(tmp_path / "known" / "sub" / "a.parquet", *map(prose, range(5)))
    config = DeduplicateConfig.model_validate({"against": [{"name": "known", "path": str(tmp_path / "known")}]})
    artifact, _ = run(home, deduplicate, config, training(prose(9)), training(prose(3)))
    (row,) = rows_of(artifact, "ledger")
    assert (row["twin"], row["shard"]) == ("known/sub/a.parquet:3", 1)


def test_an_earlier_run_is_a_corpus(home: Path) -> None:
    earlier, _ = run(home, deduplicate, DeduplicateConfig(), training(prose(1), prose(2)))
    path = str(earlier["documents"].path)
    config = DeduplicateConfig.model_validate({"against": [{"name": "earlier", "path": path}]})
    artifact, _ = run(home, deduplicate, config, training(prose(3), prose(2) + " more"))
    assert texts_of(artifact) == [prose(3)]


def test_external_documents_that_are_alike_hide_none_of_each_other(home: Path, tmp_path: Path) -> None:
    """Many that share their bands: what is like any of them goes."""
    words = prose(1).split()
    variants = [" ".join([*words[:place], "changed", *words[place + 1 :]]) for place in range(2, 118, 3)]
    config = corpus(tmp_path / "known" / "a.parquet", *variants)
    artifact, summary = run(home, deduplicate, config, training(prose(5), *variants, prose(1)))
    assert texts_of(artifact) == [prose(5)]
    assert summary["dropped_against.known"] == len(variants) + 1


def test_an_external_document_counts_though_it_is_like_another_one(home: Path, tmp_path: Path) -> None:
    """a and b are alike, and b and c, but not a and c."""
    words = prose(1).split()
    one, two = ([*words[:place], "edited", *words[place + 1 :]] for place in (30, 30))
    two[60] = "edited"
    a, b, c = prose(1) + " and a longer tail", " ".join(one) + " tail", " ".join(two)
    config = corpus(tmp_path / "known" / "a.parquet", a, b, id=["a", "b"])
    config = config.model_copy(update={"bands": 112, "rows": 1, "threshold": 0.85})
    artifact, _ = run(home, deduplicate, config, training(c))
    assert jaccard(*shingle_sets([a, b], 5)) >= 0.85 > jaccard(*shingle_sets([a, c], 5))
    assert [row["twin"] for row in rows_of(artifact, "ledger")] == ["b"]


def test_a_document_meets_others_of_a_bucket_than_its_ends(home: Path, tmp_path: Path) -> None:
    """In one bucket: two external documents like each other, between them another, and a document like that one."""
    shared, one, other = prose(1, 200), prose(2, 60), prose(3, 60)
    texts = [f"{shared} {end}" for end in (one, other, one + " x", other + " x")]
    shingles = shingle(encode(texts), 5)
    seed = next(seed for seed in range(100) if len(np.unique(signatures(shingles, 1, seed))) == 1)
    config = corpus(tmp_path / "known" / "a.parquet", *texts[:3])
    config = config.model_copy(update={"bands": 1, "rows": 1, "seed": seed})
    artifact, _ = run(home, deduplicate, config, training(texts[3]))
    assert [row["twin"] for row in rows_of(artifact, "ledger")] == ["known/a.parquet:1"]


def test_editing_the_corpus_builds_again_and_moving_it_does_not(home: Path, tmp_path: Path) -> None:
    def outcome(config: DeduplicateConfig) -> tuple[str, str]:
        with builder(home) as engine, engine_in_force(engine):
            artifact = deduplicate(config, source(home, training(prose(1), prose(2))))
            return engine.results[-1].outcome, artifact.digest  # type: ignore[union-attr]

    first = outcome(corpus(tmp_path / "one" / "a.parquet", prose(1)))
    assert first[0] == "built"
    assert outcome(corpus(tmp_path / "two" / "a.parquet", prose(1))) == ("reused", first[1])
    again = outcome(corpus(tmp_path / "one" / "a.parquet", prose(2)))
    assert again[0] == "built" and again[1] != first[1]


def test_a_corpus_is_signed_once(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = []
    original = deduplicate.function.__globals__["sign_shard"]

    def counting(config: dict[str, object], inputs: dict[str, Path], out: Path) -> object:
        signed.append(inputs["documents"].name)
        return original(config, inputs, out)

    counting.__module__, counting.__qualname__ = original.__module__, original.__qualname__
    monkeypatch.setitem(deduplicate.function.__globals__, "sign_shard", counting)
    config = corpus(tmp_path / "known" / "a.parquet", prose(1))
    run(home, deduplicate, config, training(prose(2)))
    corpus(tmp_path / "known" / "b.parquet", prose(2))
    run(home, deduplicate, config, training(prose(2)))
    assert [name for name in signed if not name.startswith("0")] == ["a.parquet", "b.parquet"]


def test_what_is_no_corpus_is_an_error_that_says_what_to_do(home: Path, tmp_path: Path) -> None:
    config = corpus(tmp_path / "known" / "a.parquet", "x")
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "known" / "a.parquet")
    with pytest.raises(DataError, match=r"known/a\.parquet has no column text, but body"):
        run(home, deduplicate, config, training("x"))
    (tmp_path / "known" / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read as documents"):
        run(home, deduplicate, config, training("x"))
    (tmp_path / "known" / "a.parquet").unlink()
    with pytest.raises(DataError, match=r"deduplicate.against\[0\].path"):
        run(home, deduplicate, config, training("x"))
    with pytest.raises(ValidationError, match="two corpora in against are named known"):
        DeduplicateConfig.model_validate({"against": [{"name": "known", "path": "a"}, {"name": "known", "path": "b"}]})


def test_other_kinds_of_text_columns_are_read(home: Path, tmp_path: Path) -> None:
    config = corpus(tmp_path / "known" / "a.parquet", "")
    texts = pa.array([prose(1), None, prose(2)], pa.large_string())
    pq.write_table(pa.table({"text": texts.dictionary_encode(), "id": [1, 2, 3]}), tmp_path / "known" / "a.parquet")
    artifact, _ = run(home, deduplicate, config, training(prose(2), prose(3)))
    assert texts_of(artifact) == [prose(3)]
    assert [row["twin"] for row in rows_of(artifact, "ledger")] == ["3"]


def test_people_are_told_which_corpus_holds_the_like() -> None:
    step = {"verdict": "dropped", "reason": "against known", "twin": "known/a.parquet:31", "twin_label": ""}
    words = DEDUPLICATE.words({**step, "jaccard": 0.91, "estimated_jaccard": 0.9})
    assert words == [
        "like a document of the corpus known: similarity 0.91 (estimated 0.9)",
        "that is known/a.parquet:31",
    ]
