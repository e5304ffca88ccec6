"""Archives read in place: members are files, what is odd is refused by name, what is cut fails the stage."""

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from collecting import documents_of, rows_of, run_collect

from storage.errors import DataError
from tasks.engine.context import Summary

FILES = {
    "a.txt": b"The first text.",
    "deep/b.md": b"# The second",
    "deep/c.jsonl.gz": gzip.compress(b'{"text": "The third."}\n{"text": "The fourth."}\n'),
    "d.html": b"<html><title>Five</title><body><p>The fifth text is a page of some words.</p></body></html>",
}
TEXTS = ["The first text.", "# The second", "The third.", "The fourth.", "The fifth text is a page of some words."]


def tape(files: dict[str, bytes], *members: tarfile.TarInfo, packing: str = "", **settings: Any) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:", **settings) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for member in members:
            archive.addfile(member)
    data = made.getvalue()
    if packing == "zst":
        return zstandard.compress(data)
    packs: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress}
    return packs[packing](data) if packing else data


def zipped(files: dict[str, bytes], **settings: Any) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", settings.get("method", zipfile.ZIP_DEFLATED)) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def collected(home: Path, path: Path, data: bytes, **source: Any) -> tuple[list[str], list[dict[str, Any]], Summary]:
    path.write_bytes(data)
    artifact, summary = run_collect(
        home, files=[{"path": str(path), **source}], heldout_fraction=0.0, max_bad_fraction=1.0
    )
    return [document.text for document in documents_of(artifact)], rows_of(artifact, "quarantine"), summary


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.tar", tape(FILES)),
        ("x.tar", tape(FILES, format=tarfile.GNU_FORMAT)),
        ("x.tar.gz", tape(FILES, packing="gz")),
        ("x.TGZ", tape(FILES, packing="gz")),
        ("x.tar.gz", tape(FILES)),  # unpacked on the way, and the name kept
        ("x.tar.zst", tape(FILES, packing="zst")),
        ("x.zip", zipped(FILES)),
        ("x.zip", zipped(FILES, method=zipfile.ZIP_STORED)),
        ("x.zip", zipped(FILES, method=zipfile.ZIP_LZMA)),
    ],
)
def test_members_are_read_as_files(home: Path, tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    artifact, summary = run_collect(home, files=[{"path": str(tmp_path / name)}], heldout_groups=[f"{name}/a.txt"])
    found = documents_of(artifact)
    assert [document.text for document in found] == TEXTS
    assert [document.metadata["file"] for document in found] == [
        f"{name}/{member}" for member in ("a.txt", "deep/b.md", "deep/c.jsonl.gz", "deep/c.jsonl.gz", "d.html")
    ]
    assert (found[0].split, found[0].title, found[4].title) == ("heldout", "a", "Five")
    assert summary["read"] == summary["kept"] == 5


def test_pairs_are_read_from_archives(home: Path, tmp_path: Path) -> None:
    rows = b"".join(json.dumps({"prompt": f"Ask {n}", "answer": f"Answer {n}"}).encode() + b"\n" for n in range(30))
    (tmp_path / "x.zip").write_bytes(zipped({"README.md": b"Not a pair.", "p.jsonl": rows}))
    _, summary = run_collect(home, conversations=[{"path": str(tmp_path / "x.zip")}])
    assert summary["pairs_read"] == 30
    assert any("1 member is not read" in notice and ".md" in notice for notice in summary["notices"])


def link(name: str, kind: bytes = tarfile.SYMTYPE, target: str = "/etc/passwd") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


ODD = {
    "/etc/a.txt": b"absolute",
    "../b.txt": b"out",
    "deep/../../c.txt": b"out",
    "C:\\d.txt": b"drive",
    "e.zip": zipped({"a.txt": b"inside"}),
    "f.tar.gz": tape({"a.txt": b"inside"}, packing="gz"),
}


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_members_that_are_odd_are_refused_by_name_and_counted(home: Path, tmp_path: Path, form: str) -> None:
    files = {"good.txt": b"A good text.", **ODD, ".hidden.txt": b"hidden", "__MACOSX/x.txt": b"x", "p.png": b"png"}
    if form == "tar":
        links = [link("l.txt"), link("h.txt", tarfile.LNKTYPE, "good.txt"), link("p.txt", tarfile.FIFOTYPE)]
        data = tape(files, *links, tarfile.TarInfo("bad-\udcff.txt"))
        refused = len(ODD) + 4
    else:
        made = io.BytesIO(zipped(files))
        with zipfile.ZipFile(made, "a") as archive:
            entry = zipfile.ZipInfo("l.txt")
            entry.external_attr = 0o120777 << 16
            archive.writestr(entry, "/etc/passwd")
        data, refused = made.getvalue(), len(ODD) + 1
    texts, quarantined, summary = collected(home, tmp_path / f"x.{form}", data)
    assert (texts, quarantined) == (["A good text."], [])
    said = " ".join(summary["notices"])
    assert f"in archives {refused} members are refused: x.{form}//etc/a.txt: its name leads out of the archive" in said
    assert f"x.{form}/../b.txt: its name leads out of the archive" in said
    assert f"x.{form}/e.zip: an archive in an archive" in said
    assert "1 member is not read, as its ending is not known: 1 .png" in said
    assert "2 hidden members are not read" in said
    assert not (tmp_path.parent / "b.txt").exists()


NOISE = {f"{n}.txt": f"Text {n}: ".encode() + os.urandom(3000).hex().encode() for n in range(6)}


@pytest.mark.parametrize(
    ("name", "data", "whole", "reason"),
    [
        ("x.tar", tape(NOISE)[:-20_000], 3, "ends early"),
        ("x.tar", tape(NOISE)[: 2 * (512 + 6144)], 2, "ends early"),  # at the end of a member: as if it were whole
        ("x.tar.gz", tape(NOISE, packing="gz")[:-9000], 3, "the file was cut"),
        ("x.tar.gz", tape(NOISE, packing="gz")[:-8], 6, "the file was cut"),
        ("x.tar.zst", tape(NOISE, packing="zst")[:-9000], 0, "the file was cut"),
        ("x.tar", tape(NOISE) * 2, 6, "more after the end"),
        ("x.tar", b"no tar at all", 0, "damaged or cut"),
        ("x.tar", b"", 0, "damaged or cut"),
        ("x.tar", tape(NOISE)[: 512 + 6144] + b"\xff" * 7168, 1, "cut, or is damaged"),
        ("x.zip", zipped(NOISE)[:-9000], 3, "no list of its members"),
        ("x.zip", zipped(NOISE, method=zipfile.ZIP_STORED)[:-9000], 4, "no list of its members"),
        ("x.zip", b"no zip at all", 0, "no list of its members"),
        ("x.zip", zipped(NOISE)[:4000] + b"\0" * 200 + zipped(NOISE)[4200:], 1, "damaged"),
    ],
)
def test_a_cut_archive_fails_and_keeps_what_was_before_by_choice(
    home: Path, tmp_path: Path, name: str, data: bytes, whole: int, reason: str
) -> None:
    (tmp_path / "good.txt").write_text("A good text.")
    (tmp_path / name).write_bytes(data)
    source = {"path": str(tmp_path / "*.*")}
    with pytest.raises(DataError, match=reason):
        run_collect(home, files=[source])
    artifact, summary = run_collect(
        home, files=[source | {"allow_truncated": True}], heldout_fraction=0.0, max_bad_fraction=1.0
    )
    assert summary["kept"] == 1 + whole
    assert {document.text for document in documents_of(artifact)} - {"A good text."} <= {
        text.decode() for text in NOISE.values()
    }
    assert f"{whole} members were read before it" in rows_of(artifact, "quarantine")[0]["reason"]


def test_a_member_with_a_password_costs_itself(home: Path, tmp_path: Path) -> None:
    data = bytearray(zipped({"a.txt": b"secret", "b.txt": b"A good text."}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    texts, quarantined, _ = collected(home, tmp_path / "x.zip", bytes(data))
    assert texts == ["A good text."]
    assert [(row["file"], row["reason"]) for row in quarantined] == [("x.zip/a.txt", "protected by a password")]


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_an_archive_that_grows_too_much_is_a_break(home: Path, tmp_path: Path, name: str) -> None:
    bomb = {"a.txt": b"\0" * (100 * 2**20)}
    (tmp_path / name).write_bytes(zipped(bomb) if name == "x.zip" else tape(bomb, packing="gz"))
    with pytest.raises(DataError, match="unpacks to more than 250 times its size"):
        run_collect(home, files=[{"path": str(tmp_path / name)}])


def test_bad_records_and_members_are_named_by_archive_and_member(home: Path, tmp_path: Path) -> None:
    files = {"a.jsonl": b'{"text": "Good."}\n{"text": 5}\n', "b.pdf": b"%PDF-1.4 cut", "c.txt": b""}
    texts, quarantined, _ = collected(home, tmp_path / "x.zip", zipped(files))
    assert texts == ["Good."]
    assert [(row["file"], row["line"]) for row in quarantined] == [
        ("x.zip/a.jsonl", 2),
        ("x.zip/b.pdf", 1),
        ("x.zip/c.txt", 1),
    ]
