"""The source `files`, run as the stage, and pairs: what comes out, what is set aside, what one more file costs."""

import gzip
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from collecting import documents_of, rows_of, run_collect
from pydantic import ValidationError
from support import shared_data

from storage.errors import DataError
from storage.store.artifacts import StoredFile
from tasks.collect.config import CollectConfig
from tasks.collect.observe import observe_sources
from tasks.collect.slices import SLICE_BYTES, cut_slices

EVERYTHING_TRAINS: dict[str, Any] = {"heldout_fraction": 0.0}


def write_lines(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def books(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"book-{number:03d}.txt").write_text(f"This is the text of book {number}.\r\nIt has two lines.\n")


def test_text_files_become_documents_grouped_by_file(home: Path, tmp_path: Path) -> None:
    books(tmp_path / "in" / "deep", 3)
    (tmp_path / "in" / ".hidden.txt").write_text("hidden")
    (tmp_path / "in" / "picture.png").write_bytes(b"png")
    artifact, summary = run_collect(
        home, files=[{"path": str(tmp_path / "in"), "license": "CC0-1.0"}], heldout_groups=["deep/book-001.txt"]
    )
    documents = documents_of(artifact)
    assert [document.group for document in documents] == [f"deep/book-{number:03d}.txt" for number in range(3)]
    assert documents[0].text == "This is the text of book 0.\nIt has two lines.\n"
    assert documents[1].split == "heldout"
    assert {document.license for document in documents} == {"CC0-1.0"}
    assert documents[0].metadata == {"file": "deep/book-000.txt", "line": 1}
    assert (summary["read"], summary["kept"], summary["dropped"], summary["quarantined"]) == (3, 3, 0, 0)


def test_records_carry_what_they_say_of_themselves(home: Path, tmp_path: Path) -> None:
    row = {"body": "Some text.", "title": "T", "url": "http://x", "lang": "de", "license": "MIT", "id": 7, "site": "x"}
    write_lines(tmp_path / "a.jsonl", [row, {"body": "More text.", "site": "y"}])
    source = {"path": str(tmp_path / "a.jsonl"), "text_field": "body", "group_field": "site", "lang": "en"}
    artifact, _ = run_collect(home, files=[source], **EVERYTHING_TRAINS)
    first, second = documents_of(artifact)
    assert (first.title, first.url, first.lang, first.license, first.group) == ("T", "http://x", "de", "MIT", "x")
    assert first.metadata["id"] == "7"
    assert (second.lang, second.group) == ("en", "y")


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_score_of_a_record_is_kept_as_a_number(form: str, home: Path, tmp_path: Path) -> None:
    """What is no finite number is none: a word, a truth, an empty cell."""
    scores = [2, "0.5", "high", True, None, "nan"]
    path = tmp_path / f"a.{form}"
    if form == "jsonl":
        write_lines(path, [{"text": f"Text {n}.", "meta": {"q": score}} for n, score in enumerate(scores)])
    else:
        cells = ["2", "0.5", "high", "True", "", "nan"]
        path.write_text("text,q\n" + "".join(f"Text {n}.,{cell}\n" for n, cell in enumerate(cells)))
    field = "meta.q" if form == "jsonl" else "q"
    artifact, _ = run_collect(home, files=[{"path": str(path), "score_field": field}], **EVERYTHING_TRAINS)
    assert [document.metadata.get("score") for document in documents_of(artifact)] == [2.0, 0.5, None, None, None, None]


def test_records_without_a_group_field_are_held_out_one_by_one(home: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [{"text": f"Text number {number}."} for number in range(300)])
    artifact, summary = run_collect(home, files=[{"path": str(tmp_path / "a.jsonl")}])
    assert 10 < summary["documents_heldout"] < 60  # 30 expected
    assert len({document.group for document in documents_of(artifact)}) == 300


def test_bad_records_are_set_aside_with_file_line_and_reason(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_lines(folder / "a.jsonl", [{"text": f"Good {number}."} for number in range(5)])
    with (folder / "a.jsonl").open("ab") as file:
        file.write(b'{"text": "\xff"}\n{"text": 5}\n{"text": " "}\n{"no": "text"}\n{"text": "\\ud800"}\n')
        file.write(json.dumps({"text": "x" * 200}).encode() + b"\n{")
    artifact, summary = run_collect(
        home, files=[{"path": str(folder)}], max_bad_fraction=0.9, max_document_bytes=100, **EVERYTHING_TRAINS
    )
    assert [(row["line"], row["reason"]) for row in rows_of(artifact, "quarantine")] == [
        (6, "invalid UTF-8 (it looks like cp1252 or iso8859_2 or cp1254 or cp1257: set `encoding` of this source)"),
        (7, "field 'text' is not text but int"),
        (9, "no field 'text'"),
        (10, "half a surrogate pair in the text"),
        (11, "200 bytes, max_document_bytes is 100"),
        (12, 'malformed JSON at column 2: a name in double quotes is missing, or the closing "}"'),
    ]
    assert {row["file"] for row in rows_of(artifact, "quarantine")} == {"a.jsonl"}
    assert (summary["read"], summary["kept"], summary["quarantined"], summary["dropped"]) == (12, 5, 6, 1)
    assert summary["empty"] == 1, "a blank row is not a bad one"


@pytest.mark.parametrize(
    ("name", "data"),
    (
        ("a.json", b'[{"text": "one"}, {"text": "t\xffo"}, {"text": "three"}]'),
        ("a.csv", b"text\none\nt\xffo\nthree\n"),
    ),
)
def test_bytes_that_are_not_utf8_spoil_their_own_record(home: Path, tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    files = [{"path": str(tmp_path / name)}]
    artifact, _ = run_collect(home, files=files, max_bad_fraction=0.5, **EVERYTHING_TRAINS)
    assert [document.text for document in documents_of(artifact)] == ["one", "three"]
    (row,) = rows_of(artifact, "quarantine")
    assert row["reason"] == "invalid UTF-8 (another encoding? set `encoding` of this source)"


def test_too_many_bad_records_fail_the_stage_and_name_the_first(home: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [*({"text": f"Good {number}."} for number in range(97)), {}, {"text": 5}])
    with pytest.raises(DataError, match=r"2 of 99 records are bad .*\n  a.jsonl, line 98: no field 'text'"):
        run_collect(home, files=[{"path": str(tmp_path / "a.jsonl")}])
    run_collect(home, files=[{"path": str(tmp_path / "a.jsonl")}], max_bad_fraction=0.03)


def test_a_wrong_text_field_names_the_fields_that_exist(home: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [{"content": "Some text.", "id": "1"}] * 3)
    with pytest.raises(DataError, match=r"no field 'text'.*They have: content, id"):
        run_collect(home, files=[{"path": str(tmp_path / "a.jsonl")}], max_bad_fraction=1.0)


@pytest.mark.parametrize(
    ("path", "message"),
    (
        ("nowhere", "matches no file"),
        ("*.jsonl", "matches no file"),
        ("empty", "the folder holds no file"),
        ("pictures", r"none of the 1 files can be read \(found .png\)"),
        ("zero.txt", "zero.txt, line 1: empty file"),
        ("cut.jsonl.gz", "cut.jsonl.gz, line .*: the .gz stream ends early: the file was cut"),
    ),
)
def test_a_path_that_cannot_be_used_is_named_with_the_fix(home: Path, tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"png")
    (tmp_path / "zero.txt").touch()
    packed = gzip.compress("".join(json.dumps({"text": os.urandom(40).hex()}) + "\n" for _ in range(50)).encode())
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=message) as caught:
        run_collect(home, files=[{"path": str(tmp_path / path)}])
    assert path in str(caught.value)


def test_too_few_documents_are_told_with_what_was_not_read(home: Path, tmp_path: Path) -> None:
    books(tmp_path / "in", 1)
    (tmp_path / "in" / "a.doc").write_bytes(b"an old one")
    with zipfile.ZipFile(tmp_path / "in" / "b.zip", "w") as archive:
        archive.writestr("c.odt", "another")
    with pytest.raises(DataError, match=r"1 file is not read.*1 \.doc(.|\n)*1 member is not read.*1 \.odt"):
        run_collect(home, files=[{"path": str(tmp_path / "in")}])


def test_a_corpus_with_nothing_held_out_is_refused_with_the_fix(home: Path, tmp_path: Path) -> None:
    books(tmp_path / "in", 1)
    files = [{"path": str(tmp_path / "in")}]
    cases: list[dict[str, Any]] = [{"heldout_groups": ["no-such-book.txt"], "heldout_fraction": 0}, {}]
    for settings in cases:
        with pytest.raises(DataError, match=r"one document cannot be both.* set collect\.files\[0\]\.separator"):
            run_collect(home, files=files, **settings)
    books(tmp_path / "in", 2)
    with pytest.raises(DataError, match=r"none of 2 documents is held out.*collect.heldout_groups"):
        run_collect(home, files=files, heldout_groups=["no-such-book.txt"], heldout_fraction=0)
    with pytest.raises(DataError, match="every document is held out"):
        run_collect(home, files=files, heldout_groups=["book-000.txt", "book-001.txt"])


def test_a_recipe_without_a_source_and_names_that_clash_are_refused() -> None:
    with pytest.raises(ValidationError, match="no source"):
        CollectConfig()
    with pytest.raises(ValidationError, match="two sources are named files"):
        CollectConfig(files=[{"path": "a"}, {"path": "b"}])


def test_observations_follow_contents_and_not_touches(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    books(folder, 2)
    config = CollectConfig(files=[{"name": "own", "path": str(folder)}])
    before = observe_sources(config)
    assert sorted(before) == ["own/book-000.txt", "own/book-001.txt"]
    os.utime(folder / "book-000.txt", (0, 0))
    assert observe_sources(config) == before
    (folder / "book-000.txt").write_text("Another text.")
    assert observe_sources(config).keys() == before.keys()
    assert observe_sources(config) != before
    books(folder, 3)
    assert len(observe_sources(config)) == 3


def test_the_same_texts_elsewhere_or_with_more_workers_make_the_same_artifact(home: Path, tmp_path: Path) -> None:
    for place in ("here", "there"):
        books(tmp_path / place, 40)
        write_lines(tmp_path / place / "b.jsonl", [{"text": f"Text {number}."} for number in range(30)])
    runs = [
        run_collect(home, files=[{"path": str(tmp_path / "here")}], documents_per_shard=8),
        run_collect(tmp_path / "2", files=[{"path": str(tmp_path / "there")}], documents_per_shard=8, workers=2),
    ]
    assert runs[0][0].digest == runs[1][0].digest
    assert runs[0][1] == runs[1][1]
    assert len(runs[0][0]["documents"].files) > 4


def test_one_more_file_costs_one_group_and_leaves_the_other_shards(home: Path, tmp_path: Path) -> None:
    books(tmp_path / "in", 200)
    settings: dict[str, Any] = {"files": [{"path": str(tmp_path / "in")}], "documents_per_shard": 20}
    before, _ = run_collect(home, **settings)
    jobs = set((home / "store" / "jobs").rglob("*.json"))
    (tmp_path / "in" / "book-100a.txt").write_text("A book in the middle.")
    after, summary = run_collect(home, **settings)
    assert summary["kept"] == 201
    names = [document.group for document in documents_of(after)]
    assert names == sorted(names), "whatever group was read first"
    assert 1 <= len(set((home / "store" / "jobs").rglob("*.json")) - jobs) <= 2
    old, new = ({file.digest for file in artifact["documents"].files} for artifact in (before, after))
    assert len(old - new) <= 2


def test_slices_are_cut_by_the_files_themselves() -> None:
    files = [StoredFile(f"{number:05d}.txt", "", 1000, Path()) for number in range(5000)]
    slices = cut_slices(files, files_per_slice=50)
    assert [file for part in slices for file in part] == files
    assert 70 < len(slices) < 130  # 101 expected
    added = cut_slices(sorted([*files, StoredFile("02500a.txt", "", 1000, Path())], key=lambda f: f.name), 50)
    assert sum(part not in slices for part in added) <= 2
    big = [StoredFile(f"{number}.txt", "", SLICE_BYTES, Path()) for number in range(5)]
    assert [len(part) for part in cut_slices(big, 50)] == [1] * 5


def test_instruction_data_become_pairs_without_repeats_and_leaks(home: Path, tmp_path: Path) -> None:
    rows = [{"q": f"What is {number}?", "a": f"It is {number}.", "book": f"b{number % 4}"} for number in range(40)]
    rows += [{**rows[0]}, {**rows[0], "book": "b1"}, {**rows[1], "book": "b2"}, {"q": "No answer?"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    source = {"path": str(tmp_path / "a.json"), "prompt_field": "q", "answer_field": "a", "group_field": "book"}
    artifact, summary = run_collect(
        home,
        conversations=[source],
        synthetic={"documents": 20},
        heldout_groups=["b1", "synthetic-0001"],
        max_bad_fraction=0.1,
        heldout_fraction=0,
    )
    pairs = [row for row in rows_of(artifact, "pairs") if row["source"] == "conversations"]
    assert len({(row["prompt"], row["answer"], row["split"]) for row in pairs}) == len(pairs)
    train = {(row["prompt"], row["answer"]) for row in pairs if row["split"] == "train"}
    heldout = {(row["prompt"], row["answer"]) for row in pairs if row["split"] == "heldout"}
    assert not train & heldout
    assert ("What is 0?", "It is 0.") in heldout, "a training pair that is also held out goes"
    assert summary["pairs_leaking"] >= 2
    assert summary["pairs_quarantined"] == 1
    assert summary["pairs_read"] == summary["pairs_train"] + summary["pairs_heldout"] + (
        summary["pairs_repeated"] + summary["pairs_leaking"]
    )


def test_real_corpora_are_read_whole(home: Path) -> None:
    folder = shared_data("corpus")
    sources = [{"name": name, "path": str(folder / f"{name}.jsonl.zst")} for name in ("stories_en", "speeches_en")]
    _, summary = run_collect(home, files=sources)
    assert (summary["stories_en.kept"], summary["speeches_en.kept"]) == (330, 124)
    assert summary["quarantined"] == 0


def test_real_instruction_data_are_read_whole(home: Path) -> None:
    path = shared_data("instruct", "gsm8k_train.jsonl")
    source = {"path": str(path), "prompt_field": "question", "answer_field": "answer"}
    _, summary = run_collect(home, conversations=[source])
    assert summary["pairs_train"] + summary["pairs_heldout"] == 7473
    assert 600 < summary["pairs_heldout"] < 900
