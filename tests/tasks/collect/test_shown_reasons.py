"""What is shown of many bad records and of many files whose encoding was found out: the most frequent, with counts."""

from pathlib import Path

import pytest
from collecting import run_collect

from storage.errors import DataError


def test_many_bad_records_are_shown_by_kind_the_most_frequent_first(home: Path, tmp_path: Path) -> None:
    lines = [f'{{"text": \'no {number}' for number in range(7)]  # malformed, each at the same column
    lines += [f"[{number}]" for number in range(40)]
    lines += ['{"text": 3}'] * 2 + ['{"text": "good"}'] * 20
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError) as caught:
        run_collect(home, files=[{"path": str(tmp_path / "a.jsonl")}])
    shown = [line.strip() for line in str(caught.value).splitlines()[1:4]]
    assert shown[0] == "40 records: not a JSON object (a.jsonl, line 8)"
    assert shown[1].startswith("7 records: malformed JSON") and shown[1].endswith("(a.jsonl, line 1)")
    assert shown[2].startswith("2 records: field 'text' is not text but int")


def test_reasons_that_differ_in_a_number_are_one_kind(home: Path, tmp_path: Path) -> None:
    lines = ['{"text": "' + "x" * (120 + number) + '"}' for number in range(30)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, "[]", '{"text": "good"}']) + "\n")
    with pytest.raises(DataError) as caught:
        run_collect(home, files=[{"path": str(tmp_path / "a.jsonl")}], max_document_bytes=100)
    assert "30 records: 120 bytes, max_document_bytes is 100, and like it (a.jsonl, line 1)" in str(caught.value)


def test_what_was_found_out_of_files_is_one_notice_a_source(home: Path, tmp_path: Path) -> None:
    text = "Привет всем, кто читает эти строки о погоде. " * 20
    (tmp_path / "texts").mkdir()
    for number in range(3):
        (tmp_path / "texts" / f"{number}.txt").write_bytes(f"{text} {number}".encode("cp1251"))
    ours = {
        "utf-16-le": "Plain words.",
        "utf-32-le": "Plain words.",
        "cp932": "これは日本語の文章です。",
        "euc_kr": "한국어 문장입니다.",
        "iso2022_jp": "これは日本語の文章です。",
    }
    for encoding, text in ours.items():
        (tmp_path / "texts" / f"{encoding}.txt").write_bytes((text * 40).encode(encoding))
    _, summary = run_collect(home, files=[{"path": str(tmp_path / "texts")}], heldout_fraction=0.0)
    (notice,) = [line for line in summary["notices"] if "found out" in line]
    assert notice.startswith("source files: 8 files are read in an encoding that was found out: 3 cp1251, ")
    assert "1 in others" in notice and "`encoding`" in notice
