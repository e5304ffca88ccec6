"""Documents at rest come back as they were, in equal bytes, and a group has one split."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import storage.documents
from storage.documents import (
    HELDOUT,
    PAIRS_SCHEMA,
    SCHEMA,
    TRAIN,
    Document,
    RowWriter,
    document_id,
    document_row,
    read_documents,
    read_rows,
    split_of,
    write_documents,
    write_rows,
)


def document(number: int, text: str = "some text") -> Document:
    return Document(
        document_id("s", f"g{number}", text), text, "s", f"g{number}", TRAIN, metadata={"b": [1, "ü"], "a": number}
    )


def test_documents_come_back_as_they_were_written(tmp_path: Path) -> None:
    documents = [document(number, f"text {number}\n\N{SNOWMAN}") for number in range(2500)]
    assert write_documents(tmp_path / "a.parquet", documents) == 2500
    assert list(read_documents(tmp_path / "a.parquet")) == documents


def test_equal_documents_make_equal_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("a.parquet", "b.parquet"):
        write_documents(tmp_path / name, (document(number) for number in range(100)))
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_no_rows_make_a_readable_file(tmp_path: Path) -> None:
    assert write_rows(tmp_path / "a.parquet", (), PAIRS_SCHEMA) == 0
    assert list(read_rows(tmp_path / "a.parquet")) == []
    assert pq.read_schema(tmp_path / "a.parquet").names == PAIRS_SCHEMA.names


def test_long_texts_do_not_gather_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.documents, "ROW_GROUP_CHARACTERS", 1000)
    with RowWriter(tmp_path / "a.parquet", SCHEMA) as writer:
        for number in range(10):
            writer.add(document_row(document(number, "x" * 600)))
    assert writer.count == 10 and writer.characters == 10 * (32 + 600 + 1 + 2 + 5 + 19)
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert [file.metadata.row_group(number).num_rows for number in range(5)] == [2] * 5


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    write_documents(tmp_path / "a.parquet", [document(1)])
    assert list(read_rows(tmp_path / "a.parquet", ["text", "split"])) == [{"text": "some text", "split": TRAIN}]


def test_no_field_may_be_missing(tmp_path: Path) -> None:
    with pytest.raises((pa.ArrowException, ValueError)):
        write_rows(tmp_path / "a.parquet", [{**document_row(document(1)), "text": None}], SCHEMA)


def test_what_is_not_given_is_empty() -> None:
    row = document_row(Document("i", "t", "s", "g", TRAIN))
    assert row == {
        **{"id": "i", "text": "t", "source": "s", "group": "g", "split": TRAIN},
        **{"url": "", "title": "", "lang": "", "license": "", "metadata": "{}"},
    }


def test_an_id_depends_on_source_group_and_text_and_on_where_they_end() -> None:
    ids = {
        document_id("a", "b", "c"),
        document_id("ab", "", "c"),
        document_id("a", "bc", ""),
        document_id("a", "b", "d"),
    }
    assert len(ids) == 4
    assert document_id("a", "b", "c") == document_id("a", "b", "c")


@given(st.text())
def test_a_named_group_is_always_held_out(group: str) -> None:
    group = group.encode("utf-8", "replace").decode()
    assert split_of(group, 0.0, (group,)) == HELDOUT
    assert split_of(group, 0.0) == TRAIN


def test_the_held_out_share_is_what_was_asked_for_and_only_grows() -> None:
    groups = [f"group {number}" for number in range(5000)]
    tenth = {group for group in groups if split_of(group, 0.1) == HELDOUT}
    fifth = {group for group in groups if split_of(group, 0.2) == HELDOUT}
    assert 400 < len(tenth) < 600  # 500 expected, standard deviation 21
    assert tenth < fifth
