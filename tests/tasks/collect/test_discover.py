"""Files as people have them: endings, encodings, cut archives, blank rows, links, brackets, nested fields."""

import bz2
import gzip
import json
from pathlib import Path

import pytest
import zstandard
from document_sets import rows_of
from test_collect_files import EVERYTHING_TRAINS, documents_of, run_collect, write_lines
from test_readers import PACK, WRITE, jsonl

from flows.plan import make_plan
from flows.recipe import load_recipe
from storage.errors import DataError, LlmillError
from storage.store.local import Store
from tasks.collect.discover import PACKINGS
from tasks.engine.planner import Options

ROW = {"text": "The mill by the lake was sold to a family from the next village."}


def lines(count: int) -> bytes:
    return b"".join(json.dumps({**ROW, "n": n}).encode() + b"\n" for n in range(count))


def test_usual_endings_are_read_and_others_are_reported_by_ending_and_count(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    packed = {"e.jsonl.zstd": zstandard.compress(lines(2)), "f.jsonl.gzip": gzip.compress(lines(2))}
    plain = {name: lines(2) for name in ("a.jsonl", "b.ndjson", "c.jsonlines", "d.JSONL")}
    texts = {"g.tsv": b"id\ttext\n1\tOne letter.\n", "h.text": b"A text.", "i.markdown": b"# A text"}
    others = {"x.png": b"<p>", "y.png": b"<p>", "z.doc": b"PK"}
    for name, data in (plain | packed | texts | others).items():
        (folder / name).write_bytes(data)
    artifact, summary = run_collect(home, files=[{"path": str(folder)}], **EVERYTHING_TRAINS)
    assert summary["read"] == 2 * 6 + 3 == len(documents_of(artifact))
    notices = " ".join(summary["notices"])
    assert "3 files" in notices and ".png" in notices and ".doc" in notices and "2" in notices


def test_the_plan_names_what_will_not_be_read_before_anything_runs(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a.txt", "b.png", "c.png"):
        (folder / name).write_text("A text.")
    recipe = load_recipe("smoke", ["collect.synthetic=null", f"collect.files=[{{path: '{folder}'}}]"])
    plan = {line.stage: line for line in make_plan(Store(home), recipe, Options(to="collect"))}
    assert plan["collect"].decision.will == "build"
    assert "2 files are not read" in plan["collect"].notices[0] and "2 .png" in plan["collect"].notices[0]


def test_a_folder_whose_name_has_brackets_is_found(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "[EN] texts (2024)"
    folder.mkdir()
    (folder / "a [draft].txt").write_text("A text.")
    (folder / "b.txt").write_text("Another text.")
    for path in (folder, folder / "*.txt", folder / "a [draft].txt"):
        artifact, _ = run_collect(home, files=[{"path": str(path)}], **EVERYTHING_TRAINS)
        assert documents_of(artifact)


def test_a_linked_folder_is_followed_once_and_a_loop_is_reported(home: Path, tmp_path: Path) -> None:
    folder, other = tmp_path / "corpus", tmp_path / "elsewhere"
    folder.mkdir()
    other.mkdir()
    (other / "a.txt").write_text("A text.")
    (folder / "linked").symlink_to(other)
    (other / "back").symlink_to(folder)
    artifact, summary = run_collect(home, files=[{"path": str(folder)}], **EVERYTHING_TRAINS)
    assert [document.text for document in documents_of(artifact)] == ["A text."]
    assert any("back" in notice for notice in summary["notices"])


@pytest.mark.parametrize("format_name", ("jsonl", "json", "csv", "txt", "parquet"))
@pytest.mark.parametrize("packing", PACKINGS)
def test_a_cut_archive_is_refused_wherever_it_was_cut(
    packing: str, format_name: str, home: Path, tmp_path: Path
) -> None:
    rows = [{"text": f"{n} {n * 7919 % 3499}", "id": str(n)} for n in range(3499)]
    whole = PACK[packing]({**WRITE, "txt": jsonl}[format_name](rows))
    path = tmp_path / f"a.{format_name}.{packing}"
    for length in (3, 8, 200, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            DataError, match=rf"(?s){path.name}, (line|row) .*records were read before it.*allow_truncated"
        ):
            run_collect(home, files=[{"path": str(path)}], **EVERYTHING_TRAINS)


@pytest.mark.parametrize("level", (1, 5, 9))
def test_the_level_of_compression_hides_no_cut(level: int, home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt.bz2").write_bytes(bz2.compress(b"A text.", level)[:4])
    with pytest.raises(DataError, match=r"(?s)a\.txt\.bz2, line .*allow_truncated"):
        run_collect(home, files=[{"path": str(tmp_path)}], **EVERYTHING_TRAINS)


@pytest.mark.parametrize("packing", ("gz", "zst"))
def test_a_cut_archive_fails_the_stage_unless_it_is_allowed(packing: str, home: Path, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl.{packing}"
    whole = PACK[packing](jsonl([{"text": f"{n} {n * 7919 % 30_000}"} for n in range(30_000)]))
    path.write_bytes(whole[: len(whole) // 2])
    source = {"path": str(path)}
    with pytest.raises(DataError, match=rf"(?s){path.name}, line .*could be unpacked; .*allow_truncated"):
        run_collect(home, files=[source], **EVERYTHING_TRAINS)
    _, summary = run_collect(home, files=[{**source, "allow_truncated": True}], **EVERYTHING_TRAINS)
    assert any("the rest of a file is lost" in notice for notice in summary["notices"])


def test_blank_rows_are_empty_and_not_bad(home: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [{"text": text} for text in ["", " \n", "One line.", "", "Two lines."]])
    artifact, summary = run_collect(home, files=[{"path": str(tmp_path / "a.jsonl")}], **EVERYTHING_TRAINS)
    assert (summary["read"], summary["kept"], summary["dropped"], summary["quarantined"]) == (5, 2, 3, 0)
    assert rows_of(artifact, "quarantine") == []


ENCODED = ("utf-16", "utf-16-le", "utf-16-be", "utf-32-le", "cp1252", "iso2022_jp", "shift_jis", "koi8-r")
SAMPLES = {
    "iso2022_jp": "日本語の文章です。これは読めなければなりません。",
    "shift_jis": "日本語の文章です。これは読めなければなりません。" * 8,
    "koi8-r": "Это русский текст, который должен быть прочитан правильно. " * 8,
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_text_in_other_encodings_is_read_or_refused_and_never_garbage(
    encoding: str, home: Path, tmp_path: Path
) -> None:
    text = SAMPLES.get(encoding, "Größe und Straße, ein Satz mit Umlauten: äöü. " * 8).strip()
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    try:
        artifact, _ = run_collect(home, files=[{"path": str(tmp_path / "a.txt")}], **EVERYTHING_TRAINS)
    except LlmillError as error:
        assert "encoding" in str(error)
    else:
        assert [document.text for document in documents_of(artifact)] == [text]
    stated = [{"path": str(tmp_path / "a.txt"), "encoding": encoding}]
    artifact, _ = run_collect(home, files=stated, **EVERYTHING_TRAINS)
    assert [document.text for document in documents_of(artifact)] == [text]


def test_nested_fields_and_semicolons_are_found(home: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [{"body": {"text": "Nested."}}])
    (tmp_path / "b.csv").write_text("id;text\n1;One, with a comma.\n2;Two.\n")
    nested = [{"path": str(tmp_path / "a.jsonl"), "text_field": "body.text"}]
    artifact, _ = run_collect(home, files=nested, **EVERYTHING_TRAINS)
    assert [document.text for document in documents_of(artifact)] == ["Nested."]
    artifact, _ = run_collect(home, files=[{"path": str(tmp_path / "b.csv")}], **EVERYTHING_TRAINS)
    assert [document.text for document in documents_of(artifact)] == ["One, with a comma.", "Two."]


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("https://example.org/a.jsonl", "download"),
        ("hf://datasets/a/b", "collect.huggingface (dataset: a/b)"),
        ("s3://bucket/a.jsonl", "download"),
        ("s3://commoncrawl/a.warc.gz", "collect.warc (urls: [https://data.commoncrawl.org/a.warc.gz])"),
    ],
)
def test_an_address_is_refused_as_one(address: str, advice: str, home: Path) -> None:
    with pytest.raises(LlmillError) as refused:
        run_collect(home, files=[{"path": address}])
    assert address in str(refused.value) and advice in str(refused.value).lower()


def test_files_of_another_section_are_left_out_with_its_name(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.warc.gz").write_bytes(b"x")
    with pytest.raises(LlmillError, match=r"none of the 1 files can be read.*are read by collect\.warc"):
        run_collect(home, files=[{"path": str(folder)}])
    (folder / "a.txt").write_text("A text.")
    _, summary = run_collect(home, files=[{"path": str(folder)}], **EVERYTHING_TRAINS)
    assert "1 .warc.gz" in summary["notices"][0] and "read by collect.warc" in summary["notices"][0]
    with pytest.raises(LlmillError, match=r"are read by collect\.files"):
        run_collect(home, warc=[{"path": str(folder / "a.txt")}])
