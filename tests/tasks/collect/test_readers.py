"""Readers: every format and packing gives back what was written, and a bad record costs itself alone."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tasks.collect.unpack
from tasks.collect.discover import PACKINGS, RECORD_FORMATS, Kind, kind_of
from tasks.collect.readers import read_records
from tasks.collect.records import BadRecord, Reading, Record, read_lines
from tasks.collect.unpack import BLOCK_BYTES, BrokenStream, read_blocks

LIMIT = 10_000  # bytes of a document
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gz": lambda data: gzip.compress(data, 1),
    "zst": zstandard.compress,
    "bz2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
}
ROWS = st.lists(
    st.fixed_dictionaries(
        {"text": st.text(st.characters(codec="utf-8", exclude_characters="\r")), "id": st.text("ab1")}
    ),
    min_size=1,
    max_size=6,
)
FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["text", "id"], quoting=csv.QUOTE_ALL, lineterminator="\n", delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


WRITE: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "jsonl": jsonl,
    "json": lambda rows: json.dumps(rows, indent=1).encode(),
    "csv": as_csv,
    "tsv": lambda rows: as_csv(rows, "\t"),
    "parquet": parquet,
}


def records(data: bytes, kind: str) -> list[Record | BadRecord]:
    """What a file of such bytes reads as."""
    with TemporaryDirectory() as folder:
        path = Path(folder, f"a.{kind}")
        path.write_bytes(data)
        found = kind_of(path.name)
        assert found is not None
        return list(read_records(path, found, Reading(("text",), LIMIT), Path(folder)))


def texts(found: list[Record | BadRecord]) -> list[str]:
    return [record.fields["text"] for record in found if isinstance(record, Record)]


def bad(found: list[Record | BadRecord]) -> list[tuple[int, str]]:
    return [(record.line, record.reason) for record in found if isinstance(record, BadRecord)]


@pytest.mark.parametrize("format_name", RECORD_FORMATS)
@given(rows=ROWS, packing=st.sampled_from(("", *PACKINGS)))
@FAST
def test_records_come_back_through_every_format_and_packing(
    rows: list[dict[str, Any]], packing: str, format_name: str
) -> None:
    data = PACK[packing](WRITE[format_name](rows))
    found = records(data, f"{format_name}.{packing}" if packing else format_name)
    assert bad(found) == []
    assert [dict(record.fields) for record in found if isinstance(record, Record)] == rows


@pytest.mark.parametrize("packing", ("", *PACKINGS))
@pytest.mark.parametrize("format_name", ("txt", "md", "rst"))
def test_a_text_file_is_one_record(format_name: str, packing: str) -> None:
    data = PACK[packing]("Ein Füllsel.\n".encode() * 500)
    found = records(data, f"{format_name}.{packing}" if packing else format_name)
    assert texts(found) == ["Ein Füllsel.\n" * 500]


BAD_LINES = {
    "invalid UTF-8": b'{"text": "\xff\xfe"}',
    "malformed JSON": b'{"text": "never closed',
    "not a JSON object": b'["text"]',
    "the record has more": b'{"text": "' + b"x" * (4 * LIMIT) + b'"}',
    "malformed JSON (RecursionError)": b'{"text": ' + b"[" * 19_000 + b"]" * 19_000 + b"}",
}


@pytest.mark.parametrize("reason", BAD_LINES)
@given(rows=ROWS, place=st.integers(0, 6), packing=st.sampled_from(("", "gz", "zst")))
@FAST
def test_a_bad_line_anywhere_never_loses_its_neighbours(
    reason: str, rows: list[dict[str, Any]], place: int, packing: str
) -> None:
    lines = jsonl(rows).splitlines(keepends=True)  # of bytes: only at \n, \r
    place = min(place, len(lines))
    lines.insert(place, BAD_LINES[reason] + b"\n")
    found = records(PACK[packing](b"".join(lines)), f"jsonl.{packing}" if packing else "jsonl")
    assert texts(found) == [row["text"] for row in rows]
    assert [(line, said[: len(reason)]) for line, said in bad(found)] == [(place + 1, reason)]


@pytest.mark.parametrize(
    "line",
    (b'"open quote,b\n', b'"a"b,c\n', b"one field\n", b"a,b,three fields\n", b'"\xff",b\n', b"x" * 5 * LIMIT + b",b\n"),
)
@pytest.mark.parametrize("place", (0, 2, 4))
def test_a_bad_csv_row_anywhere_never_loses_its_neighbours(line: bytes, place: int) -> None:
    rows = [{"text": f"row {number}", "id": "1"} for number in range(4)]
    lines = as_csv(rows).splitlines(keepends=True)
    lines.insert(place + 1, line)
    found = records(b"".join(lines), "csv")
    good = [text for text in texts(found) if text.startswith("row ")]
    assert good == [row["text"] for row in rows]
    wrong = bad(found) or [(1, text) for text in texts(found) if "\udcff" in text]  # the stage finds the surrogate
    assert len(wrong) == 1


def test_a_json_array_keeps_what_stands_before_broken_syntax() -> None:
    found = records(b'[{"text": "one"}, 7,\n {"text": "two"}, {"text": "thr', "json")
    assert texts(found) == ["one", "two"]
    assert [line for line, _ in bad(found)] == [1, 2]


@pytest.mark.parametrize(
    ("data", "reason"),
    (
        (b'[{"text": "one"}', "not closed"),
        (b'[{"text": "one"} {"text": "two"}]', "comma"),
        (b'[{"text": "one"}] rest', "after the end"),
        (b"[]", "no record"),
        (b'[{"text": "' + b"x" * 20 * LIMIT + b'"}]', "more than"),
    ),
)
def test_a_json_file_says_what_is_wrong_with_it(data: bytes, reason: str) -> None:
    assert reason in bad(records(data, "json"))[-1][1]


def test_json_objects_one_after_the_other_are_records() -> None:
    assert texts(records(b'{"text": "one"}\n\n{\n"text":\n"two"}', "json")) == ["one", "two"]


def test_a_parquet_string_that_is_not_utf8_spoils_its_own_row() -> None:
    raw = pa.array([b"one", b"\xff", b"three"], pa.binary())
    file = io.BytesIO()
    pq.write_table(pa.table({"text": pa.StringArray.from_buffers(3, *raw.buffers()[1:])}), file)
    found = records(file.getvalue(), "parquet")
    assert texts(found) == ["one", "three"]
    assert bad(found) == [(2, "invalid UTF-8 in column text")]


@pytest.mark.parametrize("kind", (pa.date32(), pa.timestamp("us"), pa.list_(pa.int64())))
def test_a_parquet_column_that_nobody_asks_for_spoils_nothing(kind: pa.DataType) -> None:
    """A date beyond Python's years, a list."""
    file = io.BytesIO()
    value = pa.array([2**30 if kind == pa.date32() else 2**60]).cast(pa.int32() if kind == pa.date32() else pa.int64())
    column = pa.array([[1]], kind) if pa.types.is_list(kind) else value.view(kind)
    pq.write_table(pa.table({"text": ["one"], "when": column}), file)
    found = records(file.getvalue(), "parquet")
    assert texts(found) == ["one"] and bad(found) == []


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    (
        ("a.txt", gzip.compress(b"text", mtime=0), "gz"),
        ("a.jsonl", zstandard.compress(b"{}"), "zst"),
        ("a.json", bz2.compress(b"[]"), "bz2"),
        ("a.csv", lzma.compress(b"text"), "xz"),
        ("a.txt", b"PK\x03\x04 and so on", "zip"),
        ("a.md", b"a.txt".ljust(257, b"\0") + b"ustar\0", "tar"),
        ("a.rst", b"%PDF-1.7", "pdf"),
        ("a.jsonl", parquet([{"text": "one"}]), "parquet"),
    ),
)
@pytest.mark.parametrize("packing", ("", "gz", "xz"))
def test_a_file_that_holds_something_else_is_one_bad_record(name: str, data: bytes, kind: str, packing: str) -> None:
    ending = name.partition(".")[2] + (f".{packing}" if packing else "")
    assert bad(records(PACK[packing](data), ending)) == [
        (1, f"what the file holds looks like .{kind}: unpack or convert it")
    ]


def test_many_blanks_in_a_json_file_are_skipped_at_once() -> None:
    assert texts(records(b"[" + b" " * 10**7 + b'{"text": "one"}' + b"\n" * 10**6 + b"]", "json")) == ["one"]


def test_a_file_that_is_not_parquet_is_one_bad_record() -> None:
    assert [line for line, _ in bad(records(b"PAR1 no such thing", "parquet"))] == [1]


def test_a_bom_and_windows_line_ends_are_not_part_of_a_record() -> None:
    assert texts(records(b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "two"}\r\n', "jsonl")) == ["one", "two"]
    assert texts(records(b'\xef\xbb\xbf[{"text": "one"}]', "json")) == ["one"]
    assert texts(records(b"\xef\xbb\xbftext,id\r\none,1\r\n", "csv")) == ["one"]


def test_a_text_file_says_where_it_is_not_utf8() -> None:
    ((line, reason),) = bad(records(b"one\ntwo \xff\n", "txt"))
    assert line == 2 and reason.startswith("invalid UTF-8 (it looks like cp1252 or ")
    assert texts(records("one".encode("utf-16"), "txt")) == ["one"]


@pytest.mark.parametrize("kind", ("txt", "jsonl.gz", "csv", "parquet"))
def test_an_empty_file_is_a_bad_record(kind: str) -> None:
    assert bad(records(b"", kind)) == [(1, "empty file")]


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_cut_file_keeps_its_whole_records(packing: str) -> None:
    rows = [{"text": f"{number} {'word ' * (number % 7)}"} for number in range(60_000)]
    data = PACK[packing](jsonl(rows))
    found = records(data[: len(data) * 3 // 4], f"jsonl.{packing}")
    kept = texts(found)
    assert kept == [row["text"] for row in rows[: len(kept)]]
    # bzip2 and xz give up whole blocks of up to 900 kB; the others nearly all that is there.
    assert len(kept) > (30_000 if packing in ("gz", "zst") else 0)
    ((line, reason),) = bad(found)
    assert line == len(kept) + 1
    assert re.fullmatch(
        rf"the \.{packing} stream ends early: the file was cut; [0-9,]+ bytes could be unpacked", reason
    )


@pytest.mark.parametrize("packing", PACKINGS)
def test_streams_one_after_the_other_are_one_file(packing: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(PACK[packing](b"one ") + PACK[packing](b"two") + b"\0" * 8)
    assert b"".join(read_blocks(path, packing)) == b"one two"


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_damaged_stream_is_said_to_be_damaged(packing: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(PACK[packing](b"one ") + b"this is no stream of that kind")
    with pytest.raises(BrokenStream, match=r"damaged|cut"):
        list(read_blocks(path, packing))


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_decompression_bomb_is_stopped(packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.collect.unpack, "FREE_BYTES", 2**20)
    monkeypatch.setattr(tasks.collect.unpack, "MAX_GROWTH", 10)
    path = tmp_path / "a"
    path.write_bytes(PACK[packing](b"\0" * 40 * 2**20))
    blocks = read_blocks(path, packing)
    total = 0
    with pytest.raises(BrokenStream, match="10 times its size"):
        for block in blocks:
            total += len(block)
    assert total <= 2**20 + 10 * path.stat().st_size


@given(
    lines=st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"")), max_size=8),
    size=st.integers(1, 9),
    limit=st.integers(1, 25),
)
@FAST
def test_lines_do_not_depend_on_how_the_blocks_fall(lines: list[bytes], size: int, limit: int) -> None:
    data = b"start\n" + b"".join(line + b"\n" for line in lines)
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    expected = [(number, line + b"\n") for number, line in enumerate((b"start", *lines), 1)]
    assert list(read_lines(blocks, limit=10**6)) == expected
    short = [(number, line if len(line) <= limit + 1 else None) for number, line in expected]
    assert list(read_lines(blocks, limit)) == short


def test_a_line_longer_than_a_block_is_whole() -> None:
    long = b"x" * (3 * BLOCK_BYTES)
    assert list(read_lines([long[:BLOCK_BYTES], long[BLOCK_BYTES:], b"\nend"], 10**6)) == [
        (1, long + b"\n"),
        (2, b"end"),
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    (
        ("a.jsonl.gz", Kind("jsonl", "gz")),
        ("A.TXT", Kind("txt")),
        ("a.b.md.xz", Kind("md", "xz")),
        ("a.gz", None),
        (".txt", None),
        ("jsonl", None),
        ("a.HTM", Kind("html")),
        ("a.pdf.gz", Kind("pdf", "gz")),
        ("a.doc", None),
    ),
)
def test_a_name_says_the_kind(name: str, kind: Kind | None) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "a\x01b"}', "column 12: a control character (U+0001) is inside a text: write it as \\u0001"),
        (b'{"text": "caf', "column 14: the line ends within a text: close the text, or write a line break in it"),
        (b'{"text": "C:\\users"}', "column 14: \\u is not followed by four hexadecimal digits"),
        (b'{"text": "C:\\temp\\go"}', "column 18: a backslash begins no escape: write it as"),
        (b'{"text" "one"}', "column 9: a colon is missing behind the name"),
        (b'{"text": "one" "a": 1}', "column 16: a comma or a closing bracket is missing"),
        (b'{"text": }', "column 10: a value is missing"),
        (b'{"text": "one"} {"text": "two"}', "column 17: there is more after the end of the value"),
    ],
)
def test_a_malformed_line_is_explained_in_a_sentence_with_its_column(line: bytes, said: str) -> None:
    ((number, reason),) = bad(records(b'{"text": "good"}\n' + line + b"\n", "jsonl"))
    assert number == 2 and reason.startswith(f"malformed JSON at {said}"), reason
