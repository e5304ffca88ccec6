"""The `wikipedia` source, run as the stage: dumps good and bad, what is kept of them and what is said of the rest."""

import bz2
import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard
from collecting import documents_of, rows_of, run_collect
from support import shared_data

from storage.errors import DataError
from tasks.collect.config import CollectConfig
from tasks.collect.observe import observe_sources

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="de">
<siteinfo><sitename>W</sitename><dbname>dewiki</dbname><base>https://de.wikipedia.org/wiki/Wikipedia:Hauptseite</base>
<namespaces><namespace key="0" /><namespace key="6">Datei</namespace><namespace key="14">Kategorie</namespace>
</namespaces></siteinfo>
"""
TAIL = "</mediawiki>\n"
TRAINS: dict[str, Any] = {"heldout_fraction": 0.0}


def page(title: str, text: str, namespace: int = 0, more: str = "", model: str = "wikitext", number: int = 1) -> str:
    return (
        f"<page><title>{title}</title><ns>{namespace}</ns><id>{number}</id>{more}<revision><id>77</id>"
        f"<timestamp>2026-01-02T03:04:05Z</timestamp><model>{model}</model><text>{text}</text></revision></page>\n"
    )


def articles(count: int) -> str:
    return "".join(page(f"Article {number}", f"This is the text of article {number}.") for number in range(count))


def dump(path: Path, pages: str, encoding: str = "utf-8") -> dict[str, str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((HEAD + pages + TAIL).encode(encoding))
    return {"path": str(path)}


def test_a_dump_of_one_article_is_not_told_to_be_parted(home: Path, tmp_path: Path) -> None:
    source = dump(tmp_path / "one.xml", page("A", "The text of it.") + page("B", "", more="<redirect />"))
    with pytest.raises(DataError, match=r"1 document was kept of 2 read.*Give more text") as refused:
        run_collect(home, wikipedia=[source])
    assert "separator" not in str(refused.value)


def test_articles_become_documents_with_all_that_the_dump_says(home: Path, tmp_path: Path) -> None:
    pages = (
        page(
            "Katze & Hund".replace("&", "&amp;"),
            "Die '''Katze''' [[Datei:a.jpg|x]]schläft.[[Kategorie:Tier]]",
            number=5,
        )
        + page("Mieze", "#WEITERLEITUNG [[Katze]]", more='<redirect title="Katze" />')
        + page("Diskussion:Katze", "Hallo", namespace=1)
        + page("Datei:a.jpg", "Bild", namespace=6)
        + page("Daten", "{}", model="json")
        + page("Leer", "{{nur|Vorlage}}")
        + page("Nichts", "")
    )
    artifact, summary = run_collect(home, wikipedia=[dump(tmp_path / "a.xml", pages)], **TRAINS)
    (article,) = documents_of(artifact)
    assert article.text == "Die Katze schläft."
    assert (article.title, article.group, article.lang) == ("Katze & Hund", "Katze & Hund", "de")
    assert article.url == "https://de.wikipedia.org/wiki/Katze_%26_Hund"
    assert article.license == "CC-BY-SA-4.0"
    known = {"file": "a.xml", "line": 5, "id": "5", "revision": "77", "timestamp": "2026-01-02T03:04:05Z"}
    assert article.metadata == known
    assert (summary["read"], summary["kept"], summary["dropped"], summary["empty"]) == (7, 1, 6, 2)
    dropped = {"redirect": 1, "other_namespace": 2, "other_model": 1}
    assert {name: summary[f"wikipedia.dropped_{name}"] for name in dropped} == dropped


def test_a_recipe_says_language_and_licence_where_they_differ(home: Path, tmp_path: Path) -> None:
    source = dump(tmp_path / "a.xml", articles(1)) | {"lang": "nds", "license": "CC0-1.0", "name": "wiki"}
    artifact, _ = run_collect(home, wikipedia=[source], **TRAINS)
    (article,) = documents_of(artifact)
    assert (article.lang, article.license, article.source) == ("nds", "CC0-1.0", "wiki")


@pytest.mark.parametrize(
    ("name", "encoding"),
    (
        *(("a.xml", "utf-8"), ("a.xml.bz2", "utf-16"), ("a.xml.gz", "utf-8"), ("a.xml.zst", "utf-8")),
        ("a-pages-articles1.xml-p1p99.bz2", "utf-8"),
    ),
)
def test_every_packing_and_encoding_holds_the_same_articles(
    home: Path, tmp_path: Path, name: str, encoding: str
) -> None:
    source = dump(tmp_path / name, articles(3), encoding)
    data = (tmp_path / name).read_bytes()
    packing = name.rpartition(".")[2]
    packed = {
        "bz2": lambda: bz2.compress(data[:200]) + bz2.compress(data[200:]),  # multistream
        "gz": lambda: gzip.compress(data),
        "zst": lambda: zstandard.compress(data),
    }
    (tmp_path / name).write_bytes(packed.get(packing, lambda: data)())
    artifact, _ = run_collect(home, wikipedia=[source], **TRAINS)
    assert [article.title for article in documents_of(artifact)] == ["Article 0", "Article 1", "Article 2"]
    assert documents_of(artifact)[2].text == "This is the text of article 2."


def test_an_article_is_held_out_by_its_title_in_every_dump(home: Path, tmp_path: Path) -> None:
    old, new = (
        dump(tmp_path / "old.xml", articles(60)),
        dump(tmp_path / "new.xml", articles(60).replace("text", "page")),
    )
    artifact, summary = run_collect(home, wikipedia=[old | {"name": "old"}, new | {"name": "new"}])
    splits: dict[str, set[str]] = {}
    for article in documents_of(artifact):
        splits.setdefault(article.title, set()).add(article.split)
    assert summary["documents_heldout"] > 0
    assert all(len(found) == 1 for found in splits.values())


LAUGHS = '<!DOCTYPE a [<!ENTITY a "lol">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9)
)
BAD_DUMPS: Mapping[str, tuple[bytes, str]] = {
    "billion laughs": (f"{LAUGHS}]><mediawiki>&j;</mediawiki>".encode(), "declares a document type"),
    "external entity": (
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><mediawiki>&x;</mediawiki>',
        "declares",
    ),
    "external document type": (
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><mediawiki/>',
        "declares a document type",
    ),
    "undefined entity": (f"{HEAD}{page('A', '&nope;')}{TAIL}".encode(), "undefined entity"),
    "another document": (b"<html><body>Hello</body></html>", "it begins with <html>"),
    "a text": (b"Hello, this is no XML.", "not well-formed XML"),
    "no bytes": (b"", "empty file"),
    "blanks": (b" \n ", "the file was cut"),
    "cut between pages": ((HEAD + articles(2)).encode(), "ends within an element: the file was cut"),
    "cut in a page": ((HEAD + articles(2))[:-30].encode(), "ends within an element: the file was cut"),
    "elements that are not closed": (f"{HEAD}{page('A', 'x')}<page></mediawiki>".encode(), "mismatched tag"),
    "not UTF-8": (f"{HEAD}".encode() + b"<page><title>\xff</title></page></mediawiki>", "not well-formed"),
    "a depth bomb": (b"<mediawiki>" + b"<a>" * 100_000, "more than 20 deep"),
    "a tag without end": (b'<mediawiki a="' + b"x" * 6_000_000, "a tag or comment of more than 4 MiB"),
    "two roots": (f"{HEAD}{TAIL}{HEAD}{TAIL}".encode(), "junk after document element"),
}


@pytest.mark.parametrize("kind", BAD_DUMPS)
def test_a_dump_that_cannot_be_read_fails_the_stage_and_says_why(home: Path, tmp_path: Path, kind: str) -> None:
    data, message = BAD_DUMPS[kind]
    (tmp_path / "a.xml").write_bytes(data)
    with pytest.raises(DataError, match=re.escape(message)):
        run_collect(home, wikipedia=[{"path": str(tmp_path / "a.xml")}], **TRAINS)


def test_a_dump_cut_in_its_packing_fails_or_keeps_what_is_before(home: Path, tmp_path: Path) -> None:
    pages = "".join(page(f"A {number}", str(hash((number, "x")) ** 40)) for number in range(3000))
    source = dump(tmp_path / "a.xml.bz2", pages)
    packed = bz2.compress((tmp_path / "a.xml.bz2").read_bytes(), compresslevel=1)
    (tmp_path / "a.xml.bz2").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"(?s)the \.bz2 stream ends early.*wikipedia\.0\.allow_truncated=true"):
        run_collect(home, wikipedia=[source], **TRAINS)
    artifact, summary = run_collect(home, wikipedia=[source | {"allow_truncated": True}], **TRAINS)
    assert 100 < summary["kept"] < 2900
    assert [article.title for article in documents_of(artifact)] == [f"A {n}" for n in range(summary["kept"])]
    assert summary["quarantined"] == 1


def test_wikitext_made_to_hang_the_parser_costs_its_page_alone(home: Path, tmp_path: Path) -> None:
    pages = articles(2) + page("Trap", "&lt;b&gt;{{" * 60_000) + page("Last", "The end.")
    source = dump(tmp_path / "a.xml", pages) | {"seconds": 1}
    start = time.monotonic()
    artifact, _ = run_collect(home, wikipedia=[source], max_bad_fraction=0.3, **TRAINS)
    assert time.monotonic() - start < 30
    assert [article.title for article in documents_of(artifact)] == ["Article 0", "Article 1", "Last"]
    (row,) = rows_of(artifact, "quarantine")
    assert row["reason"] == "its wikitext could not be parsed: timed out after 1 s"
    assert row["excerpt"] == "Trap"


def test_an_article_that_is_too_long_costs_itself(home: Path, tmp_path: Path) -> None:
    pages = page("Long", "word " * 30) + page("Longer", "word " * 1000) + page("Short", "word")
    source = dump(tmp_path / "a.xml", pages)
    artifact, _ = run_collect(home, wikipedia=[source], max_bad_fraction=0.9, max_document_bytes=100, **TRAINS)
    assert [row["reason"] for row in rows_of(artifact, "quarantine")] == [
        "149 bytes, max_document_bytes is 100",
        "the record has more than 400 bytes",
    ]


def test_the_parsers_version_is_observed_where_a_dump_is_read_and_nowhere_else(tmp_path: Path) -> None:
    source = dump(tmp_path / "a.xml", articles(1))
    assert sorted(observe_sources(CollectConfig(wikipedia=[source]))) == ["library/mwparserfromhell", "wikipedia/a.xml"]
    (tmp_path / "a.txt").write_text("A text.")
    assert sorted(observe_sources(CollectConfig(files=[{"path": str(tmp_path / "a.txt")}]))) == ["files/a.txt"]


def grams(text: str) -> Counter[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return Counter(zip(*(words[start:] for start in range(4)), strict=False))


def test_real_articles_agree_with_their_clean_text(home: Path) -> None:
    path = shared_data("dirty", "enwiki_pages-articles_excerpt.xml.bz2")
    lines = zstandard.open(shared_data("corpus", "wiki_en.jsonl.zst"), "rt", encoding="utf-8").read().splitlines()
    rows = [row for row in map(json.loads, lines) if row["source"] == "wikipedia-en"]
    artifact, summary = run_collect(home, wikipedia=[{"path": str(path)}])
    assert (summary["kept"], summary["wikipedia.dropped_redirect"]) == (106, 99)
    texts = {article.title: article.text for article in documents_of(artifact)}
    assert not any(mark in text for text in texts.values() for mark in ("{{", "[[", "<ref", "{|"))
    scores = []
    for row in rows:
        made, clean = grams(texts[row["title"]]), grams(row["text"])
        common = (made & clean).total()
        scores.append(2 * common / (made.total() + clean.total()))
    assert sum(scores) / len(scores) > 0.975  # 0.982 measured


def test_a_real_dump_in_utf16_is_read(home: Path) -> None:
    path = shared_data("dirty", "bgwiki_pages-articles_utf16.xml.bz2")
    artifact, summary = run_collect(home, wikipedia=[{"path": str(path)}], **TRAINS)
    (article,) = documents_of(artifact)
    assert (article.lang, article.title, summary["dropped"]) == ("bg", "Григориански календар", 2)
    assert "Григорианският календар" in article.text
