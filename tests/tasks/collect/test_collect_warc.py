"""The `warc` source, run as the stage: what of a web archive becomes a document, and what is said of the rest."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import zstandard
from collecting import documents_of, rows_of, run_collect
from support import shared_data
from web_archives import answer, digest, packed, record, web_page, write_archive

from storage.errors import DataError
from tasks.collect.config import CollectConfig
from tasks.collect.observe import observe_sources
from tasks.collect.warc import host_of, is_soft_404

TRAINS: dict[str, Any] = {"heldout_fraction": 0.0}
STORY = "The lighthouse keeper wrote down the weather of every day, for forty years, in small blue books."
PAGE = web_page("The keeper", STORY, "Nobody read them until the tower was sold and the boxes were opened.")


def test_pages_become_documents_with_all_that_is_known_of_them(home: Path, tmp_path: Path) -> None:
    licensed = PAGE.replace(
        "</article>", '<a rel="license" href="https://creativecommons.org/licenses/by/4.0/">CC</a></article>'
    )
    source = write_archive(tmp_path / "a.warc.gz", record(answer(licensed), "https://www.a.example/keeper"))
    artifact, summary = run_collect(home, warc=[source | {"lang": "xx", "license": "none"}], **TRAINS)
    (page,) = documents_of(artifact)
    assert STORY in page.text
    assert (page.title, page.url, page.lang) == ("The keeper", "https://www.a.example/keeper", "en")
    assert page.license.startswith("https://creativecommons.org/licenses/by/4.0/")
    assert (page.group, page.source) == ("a.example", "warc")
    assert page.metadata == {"file": "a.warc.gz", "line": 1, "fetched": "2026-01-02T03:04:05Z"}
    assert (summary["read"], summary["kept"]) == (1, 1)


def test_a_text_whose_encoding_nobody_states_is_not_spoiled(home: Path, tmp_path: Path) -> None:
    short = "Grüße aus München, wo die Straßen breit sind und die Bäume im Mai blühen."
    page = web_page("Brief", short).encode("cp1252")
    source = write_archive(
        tmp_path / "a.warc.gz",
        record(answer(page, media_type="text/html"), "https://a.example/1"),
        record(answer(short.encode("cp1252"), media_type="text/plain"), "https://a.example/2"),
    )
    artifact, _ = run_collect(home, warc=[source], **TRAINS)
    found = documents_of(artifact)
    assert len(found) == 2 and all(short in document.text for document in found)
    assert {(one.metadata["encoding"], one.metadata["encoding_guessed"]) for one in found} == {("cp1252", True)}


@pytest.mark.parametrize("packs_dictionary", [False, True])
def test_records_that_are_packed_with_a_dictionary_are_read(home: Path, tmp_path: Path, packs_dictionary: bool) -> None:
    """As IIPC's rules for .warc.zst have it: the dictionary in a skippable frame before all records."""
    records = [record(answer(PAGE), f"https://a.example/{number}") for number in range(5)]
    dictionary = zstandard.ZstdCompressionDict(PAGE.encode() * 3, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    whole = zstandard.ZstdCompressor().compress(dictionary.as_bytes()) if packs_dictionary else dictionary.as_bytes()
    packer = zstandard.ZstdCompressor(dict_data=dictionary)
    frame = b"\x5d\x2a\x4d\x18" + len(whole).to_bytes(4, "little") + whole
    path = tmp_path / "a.warc.zst"
    path.write_bytes(frame + b"".join(map(packer.compress, records)))
    artifact, _ = run_collect(home, warc=[{"path": str(path)}], **TRAINS)
    assert len(documents_of(artifact)) == 5
    path.write_bytes(frame[:50])
    with pytest.raises(DataError, match="ends early, within its dictionary"):
        run_collect(home, warc=[{"path": str(path)}], **TRAINS)


def test_what_is_no_page_is_dropped_and_counted_by_its_reason(home: Path, tmp_path: Path) -> None:
    source = write_archive(
        tmp_path / "a.warc",
        record(b"software: x", "", "warcinfo", media_type="application/warc-fields"),
        record(b"GET / HTTP/1.1\r\n\r\n", kind="request", media_type="application/http; msgtype=request"),
        record(answer(PAGE), "https://a.example/1"),
        record(answer(""), "https://a.example/1", "revisit"),
        record(b"x: y", kind="metadata"),
        record(answer("moved", "301 Moved"), "https://a.example/2"),
        record(answer("gone", "404 Not Found"), "https://a.example/3"),
        record(answer(b"\x89PNG", media_type="image/png"), "https://a.example/4"),
        record(answer(b"%PDF-1.7 ...", media_type="text/html"), "https://a.example/5"),
        record(answer("<html><body></body></html>"), "https://a.example/6"),
        record(answer(web_page("404 - Page not found", "Sorry, this page is gone.")), "https://a.example/7"),
        record(b"20260102 a.example", "dns:a.example", media_type="text/dns"),
        record(b"what", kind="unheard-of"),
    )
    artifact, summary = run_collect(home, warc=[source], **TRAINS)
    assert [page.url for page in documents_of(artifact)] == ["https://a.example/1"]
    dropped = {name.removeprefix("warc.dropped_"): count for name, count in summary.items() if ".dropped_" in name}
    assert dropped == {
        **{"warcinfo": 1, "request": 1, "revisit": 1, "metadata": 1, "status": 2, "content_type": 2},
        **{"no_text": 1, "not_found": 1, "other_record": 2},
    }
    assert (summary["read"], summary["kept"], summary["dropped"], summary["quarantined"]) == (13, 1, 12, 0)


def test_texts_are_taken_as_they_are(home: Path, tmp_path: Path) -> None:
    wet = record(
        "Erste Zeile.\nZweite Zeile: ü.".encode(),
        "http://b.example/",
        "conversion",
        ["WARC-Identified-Content-Language: deu,eng"],
        media_type="text/plain",
    )
    write_archive(tmp_path / "in" / "a.wet.gz", wet)
    latin = answer("caf\xe9\r\nnoir".encode("latin-1"), media_type="text/plain; charset=iso-8859-1")
    write_archive(tmp_path / "in" / "b.warc.wet.gz", record(latin, "http://c.example/a.txt"))
    artifact, _ = run_collect(home, warc=[{"path": str(tmp_path / "in")}], **TRAINS)
    first, second = documents_of(artifact)
    assert (first.text, first.lang, first.group) == ("Erste Zeile.\nZweite Zeile: ü.", "deu", "b.example")
    assert second.text == "café\nnoir"


def test_lines_of_a_site_are_removed_and_counted(home: Path, tmp_path: Path) -> None:
    notice = "We use cookies to make this site better for you, and you agree to that by reading on."
    pages = [
        record(answer(web_page(f"Part {n}", f"{STORY} It was volume {n}.", notice)), f"https://a.example/{n}")
        for n in range(4)
    ]
    source = write_archive(tmp_path / "a.warc.gz", *pages)
    artifact, summary = run_collect(home, warc=[source], **TRAINS)
    assert not any(notice in page.text for page in documents_of(artifact))
    assert summary["warc.site_lines"] == 4
    artifact, _ = run_collect(home, warc=[source | {"site_lines": False}], **TRAINS)
    assert all(notice in page.text for page in documents_of(artifact))


def test_a_site_is_held_out_whole_or_page_by_page(home: Path, tmp_path: Path) -> None:
    pages = [
        record(answer(web_page(f"P {n}", f"{STORY} Page {n}.")), f"https://www.s{n % 8}.example/{n}") for n in range(48)
    ]
    source = write_archive(tmp_path / "a.warc.gz", *pages)
    artifact, _ = run_collect(home, warc=[source], heldout_groups=["s3.example"], heldout_fraction=0.0)
    assert {page.group for page in documents_of(artifact) if page.split == "heldout"} == {"s3.example"}
    artifact, summary = run_collect(home, warc=[source | {"group_by": "page"}], heldout_fraction=0.3)
    assert all(page.group == page.url for page in documents_of(artifact))
    assert 0 < summary["documents_heldout"] < 48


def test_bad_records_are_set_aside_with_their_number_and_reason(home: Path, tmp_path: Path) -> None:
    good = [record(answer(PAGE), f"https://a.example/{n}", headers=[digest(answer(PAGE))]) for n in range(2)]
    source = write_archive(
        tmp_path / "a.warc",
        good[0],
        record(answer(PAGE), "https://a.example/wrong", headers=[digest(b"another block")]),
        record(answer(PAGE), "https://a.example/sha256", headers=[digest(answer(PAGE), "sha256")]),
        record(answer(PAGE), "https://a.example/unknown", headers=["WARC-Block-Digest: blake3:abc"]),
        record(answer(PAGE), "https://a.example/short", length=50),
        record(b"no answer", "https://a.example/none"),
        record(answer(b"\x1f\x8bxx", headers=["Content-Encoding: gzip"]), "https://a.example/gzip"),
        record(answer(b"a\0b", media_type="text/plain"), "https://a.example/nul"),
        good[1],
    )
    artifact, summary = run_collect(home, warc=[source], max_bad_fraction=0.9, **TRAINS)
    kept = ["0", "sha256", "unknown", "1"]
    assert [page.url.rpartition("/")[2] for page in documents_of(artifact)] == kept
    assert [(row["line"], row["reason"][:40]) for row in rows_of(artifact, "quarantine")] == [
        (2, "its contents do not have the digest that"),
        (5, "its Content-Length is wrong: no record b"),
        (6, "no HTTP answer: the status line is missi"),
        (7, "its body is not encoded as the header sa"),
        (8, "a NUL character: this is not text"),
    ]
    assert summary["read"] == summary["kept"] + summary["dropped"] + summary["quarantined"] == 9


@pytest.mark.parametrize(
    ("name", "data", "message"),
    (
        ("a.warc", b"", "empty file"),
        ("a.warc", b"Hello, this is a text.\n" * 9, "no header of a record where one must begin"),
        ("a.warc.gz", packed([record(answer(PAGE))])[:-40], "the .gz stream ends early: the file was cut"),
        ("a.warc.gz", packed([record(b"\0" * 150_000_000)]), "unpacks to more than 250 times its size"),
        ("a.warc.lz4", b"\x04\x22\x4d\x18 no lz4", "the .lz4 stream is cut or damaged"),
        ("a.warc.zst", b"\x28\xb5\x2f\xfd no zst", "the .zst stream"),
        ("a.warc", record(answer(PAGE))[:-60], "the file ends within a record: it was cut"),
    ),
)
def test_a_file_that_cannot_be_read_fails_the_stage(
    home: Path, tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        run_collect(home, warc=[{"path": str(tmp_path / name)}], **TRAINS)


def test_of_a_cut_file_what_is_before_is_kept_where_the_recipe_allows_it(home: Path, tmp_path: Path) -> None:
    pages = [record(answer(web_page(f"P {n}", f"{STORY} Page {n}.")), f"https://a.example/{n}") for n in range(4)]
    source = write_archive(tmp_path / "a.warc.gz", *pages)
    data = (tmp_path / "a.warc.gz").read_bytes()
    (tmp_path / "a.warc.gz").write_bytes(data[:-50])
    with pytest.raises(DataError, match=r"(?s)the file was cut.*collect\.warc\.0\.allow_truncated=true"):
        run_collect(home, warc=[source], **TRAINS)
    artifact, summary = run_collect(home, warc=[source | {"allow_truncated": True}], max_bad_fraction=0.3, **TRAINS)
    assert [page.title for page in documents_of(artifact)] == ["P 0", "P 1", "P 2"]
    assert summary["quarantined"] == 1


@pytest.mark.parametrize(
    ("title", "expected"),
    (
        *((title, True) for title in ("404", "Error 404 (Not Found)!!1", "Page not found - Shop", "Not Found")),
        *((title, True) for title in ("Seite nicht gefunden | Amt", "Page introuvable", "Página no encontrada")),
        *((title, False) for title in ("", "A tale", "Room 1404", "How to fix your car", "v1.404.2 is out")),
    ),
)
def test_soft_404s_are_known_by_their_titles(title: str, expected: bool) -> None:
    assert is_soft_404(title, "Sorry, there is nothing here.") is expected
    assert not is_soft_404(title, "word " * 500), "a long page is about something"


def test_hosts() -> None:
    hosts = [
        host_of(url) for url in ("https://WWW.A.example:8080/x", "http://user@b.example", "dns:a", "http://[::1", "")
    ]
    assert hosts == ["a.example", "b.example", "", "", ""]


def test_versions_of_the_libraries_that_read_pages_are_observed(tmp_path: Path) -> None:
    observed = observe_sources(CollectConfig(warc=[write_archive(tmp_path / "a.warc", record(answer(PAGE)))]))
    assert {"warc/a.warc", "library/fastwarc", "library/trafilatura"} <= observed.keys()


def test_all_real_archives_are_read(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(shared_data("warc"), folder)
    (folder / "warcio_example-bad.warc.gz.bad").rename(folder / "warcio_example-bad.warc.gz")
    artifact, summary = run_collect(home, warc=[{"path": str(folder)}], max_bad_fraction=0.02, **TRAINS)
    assert {page.metadata["file"] for page in documents_of(artifact)} >= {
        *("dolma_sample-0000.warc.gz", "iipc_IAH-urls-wget.warc.gz", "jwarc_cc.warc.gz"),
        *("resiliparse_clueweb-quirk.warc.gz", "resiliparse_warcfile.warc.gz", "resiliparse_warcfile.warc.lz4"),
        *("warcio_example.warc.gz", "warcio_example-bad-non-chunked.warc.gz"),
    }
    assert [(row["file"], row["reason"][:30]) for row in rows_of(artifact, "quarantine")] == [
        ("warcio_example-trunc.warc", "its Content-Length is wrong: n"),
        ("warcio_example-wrong-chunks.warc.gz", "its contents do not have the d"),
    ]
    assert summary["read"] == 277
    same: dict[str, list[tuple[str, str]]] = {}
    for page in documents_of(artifact):
        if page.metadata["file"].startswith("resiliparse_warcfile"):
            same.setdefault(page.metadata["file"], []).append((page.url, page.text))
    assert same["resiliparse_warcfile.warc.gz"] == same["resiliparse_warcfile.warc.lz4"]
