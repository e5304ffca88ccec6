"""Documents that are damaged, in a form of their own or in an encoding that nobody states: what of them is read."""

from pathlib import Path
from typing import Any

import pytest
from collecting import documents_of, rows_of, run_collect

from storage.documents import Document
from storage.errors import DataError

MAIL = "From: Ann <ann@example.org>\r\nSubject: Words\r\nMIME-Version: 1.0\r\n"


def damaged(name: str, data: str, home: Path, tmp_path: Path) -> Document | str:
    """The document of one file, or why it is bad."""
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "in" / name).write_text(data)
    (tmp_path / "in" / "other.txt").write_text("Another text.")
    settings: dict[str, Any] = {"heldout_fraction": 0.0, "max_bad_fraction": 1.0}
    artifact, summary = run_collect(home, files=[{"path": str(tmp_path / "in")}], **settings)
    found = [document for document in documents_of(artifact) if document.metadata["file"] == name]
    if found:
        assert "damaged" not in found[0].metadata or "1 file is damaged XML, and read as far" in summary["notices"][0]
        return found[0]
    return str(rows_of(artifact, "quarantine")[0]["reason"])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("<book><p>One.</p><p>Two was cut in the mid", "One.\n\nTwo was cut in the mid"),
        ("<book><p>Fish & chips, a<b & c.</p><p>Two.</p></book>", None),
        (
            "<book><p>Fish & chips.</p><p>http://a.example/?b=1&c=2</p></book>",
            "Fish & chips.\n\nhttp://a.example/?b=1&c=2",
        ),
        ("<book><p>One.</b></p><p>Two.</p></book>", None),
        ("<book><p>One &#1234567890; two.</p></book>", "One \ufffd two."),
        ("<book><p><![CDATA[A <part> that is cut", "A <part> that is cut"),
        ("<book>One.</book><p>There is much more text behind the end than before it.</p>", None),
        ("Only words, and no element.", None),
        ("<!DOCTYPE a [<!ENTITY b 'One'>]><book><p>&b; & two</p></book>", None),
    ],
)
def test_malformed_xml_is_read_where_no_text_is_lost(data: str, text: str | None, home: Path, tmp_path: Path) -> None:
    found = damaged("a.xml", data, home, tmp_path)
    if text is None:
        assert isinstance(found, str) and found.startswith("malformed XML at line 1: ")
    else:
        assert isinstance(found, Document) and found.text == text
        assert found.metadata["damaged"].startswith("malformed XML at line 1: ")


def test_html_that_a_feed_holds_as_text_is_read_as_html(home: Path, tmp_path: Path) -> None:
    html = "&lt;p&gt;Tom &amp;amp; &lt;b&gt;Jerry&lt;/b&gt; run.&lt;/p&gt;&lt;ul&gt;&lt;li&gt;One&lt;/li&gt;&lt;/ul&gt;"
    encoded = "<content:encoded xmlns:content='urn:c'><![CDATA[<p>More<br/>of it.</p>]]></content:encoded>"
    item = f"<item><title>A &amp;lt; B</title><description>{html}</description>{encoded}</item>"
    rss = f"<rss><channel>{item}</channel></rss>"
    atom = "<feed xmlns='http://www.w3.org/2005/Atom'><entry><title>a &lt;b&gt; c</title>"
    atom += f"<content type='html'>{html}</content></entry></feed>"
    book = "<book><p>Write &lt;p&gt; for a paragraph.</p></book>"
    for name, data in {"a.xml": rss, "b.xml": atom, "c.xml": book}.items():
        (tmp_path / name).write_text(data)
    artifact, _ = run_collect(home, files=[{"path": str(tmp_path / "*.xml")}], heldout_fraction=0.0)
    found = {document.group: document for document in documents_of(artifact)}
    assert found["a.xml"].text == "A < B\n\nTom & Jerry run.\n\n- One\n\nMore\nof it."
    assert found["b.xml"].text == "a <b> c\n\nTom & Jerry run.\n\n- One"
    assert found["c.xml"].text == "Write <p> for a paragraph."


def test_an_mbox_that_is_named_as_an_e_mail_is_refused_by_its_name(home: Path, tmp_path: Path) -> None:
    message = "From a@example.org Thu Jan  1 00:00:00 2026\nFrom: a@example.org\nSubject: A\n\nSome words.\n"
    assert isinstance(damaged("one.eml", message, home, tmp_path), Document)
    said = damaged("two.eml", f"{message}\n{message}", home, tmp_path)
    assert isinstance(said, str) and "an mbox of 2 e-mails" in said and "git mailsplit" in said


SHAPES = {  # of files whose text is bytes in an encoding: none of them states one
    "a.txt": "{}",
    "a.csv": "text\n{}\n",
    "a.jsonl": '{{"text": "{}"}}\n',
    "a.html": "<html><body><p>{}</p></body></html>",
    "a.xml": "<book><p>{}</p></book>",
    "a.eml": f"{MAIL}\r\n{{}}",
    "b.eml": f"{MAIL}Content-Type: text/html\r\n\r\n<html><body><p>{{}}</p></body></html>",
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_stated_encoding_and_ask_hold_for_every_kind_of_file(name: str, home: Path, tmp_path: Path) -> None:
    text = "Zażółć gęślą jaźń powiedział stary rybak i poszedł nad rzekę."
    path = tmp_path / name
    path.write_bytes(SHAPES[name].format(text).encode("iso8859_2"))
    source = {"path": str(path)}
    artifact, _ = run_collect(home, files=[source | {"encoding": "iso8859-2"}], heldout_fraction=0.0)
    assert documents_of(artifact)[0].text.strip() == text
    artifact, _ = run_collect(home, files=[source | {"encoding": "cp1251"}], heldout_fraction=0.0)
    spoiled = text.encode("iso8859_2").decode("cp1251")
    assert documents_of(artifact)[0].text.split() == spoiled.split(), "what is stated is believed"
    with pytest.raises(DataError, match=r"set `encoding` of this source"):
        run_collect(home, files=[source | {"encoding": "ask"}], heldout_fraction=0.0)
    with pytest.raises(DataError, match=r"invalid (utf|UTF)-8"):
        run_collect(home, files=[source | {"encoding": "utf-8"}], heldout_fraction=0.0)


def test_a_stated_encoding_counts_before_what_a_page_says(home: Path, tmp_path: Path) -> None:
    text = "Schöne Grüße aus Köln"
    page = f"<html><head><meta charset='utf-8'></head><body><p>{text}</p></body></html>"
    (tmp_path / "a.html").write_bytes(page.encode("cp1252"))
    (tmp_path / "a.xml").write_bytes(f"<?xml version='1.0' encoding='koi8-r'?><p>{text}</p>".encode("cp1252"))
    sources = [{"path": str(tmp_path / "a.*"), "encoding": "cp1252"}]
    artifact, _ = run_collect(home, files=sources, heldout_fraction=0.0)
    assert [document.text for document in documents_of(artifact)] == [text, text]
