"""Pages, books, e-mails and Word files of the user's own: one document a file, with what the file says of itself."""

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import docx
import pytest
from collecting import documents_of, rows_of, run_collect
from document_files import epub, packed, pdf

from storage.documents import Document
from storage.errors import DataError

SENTENCE = "The river rises in the hills above the town and reaches the sea after two hundred miles."
PARAGRAPHS = "".join(f"<p>{number}. {SENTENCE}</p>" for number in range(3))
PAGE = f"<html lang='en'><title>Rivers</title><body><article>{PARAGRAPHS}</article></body></html>"
MAIL = (
    "From: Ann <ann@example.org>\r\nDate: Mon, 06 May 2024 23:30:00 -0500\r\n"
    "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMIME-Version: 1.0\r\n"
)


def collected(home: Path, folder: Path, files: dict[str, bytes], **source: Any) -> dict[str, Document]:
    """The documents by the files that they come from."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    artifact, _ = run_collect(home, files=[{"path": str(folder), **source}], heldout_fraction=0.0)
    return {document.group: document for document in documents_of(artifact)}


def reasons(home: Path, folder: Path, files: dict[str, bytes]) -> dict[str, str]:
    """The reasons by files, beside one good text."""
    folder.mkdir(exist_ok=True)
    for name, data in (files | {"good.txt": b"A good text."}).items():
        (folder / name).write_bytes(data)
    artifact, _ = run_collect(home, files=[{"path": str(folder)}], heldout_fraction=0.0, max_bad_fraction=1.0)
    return {row["file"]: row["reason"] for row in rows_of(artifact, "quarantine")}


def test_a_folder_of_pages_books_and_mails_is_read(home: Path, tmp_path: Path) -> None:
    made = docx.Document()
    made.add_paragraph(SENTENCE)
    made.save(word := io.BytesIO())
    tei = (
        "<?xml version='1.0' encoding='iso-8859-1'?><TEI xmlns='http://www.tei-c.org/ns/1.0' xml:lang='de'><teiHeader>"
        "<fileDesc><titleStmt><title>Flüsse</title></titleStmt><publicationStmt><date when='1901-02-03'/><availability>"
        "<licence target='https://creativecommons.org/publicdomain/zero/1.0/'/></availability></publicationStmt></fileDesc>"
        "</teiHeader><text><body><head>Eins</head><p>Der <hi>Fluß</hi>\n fließt.</p></body></text></TEI>"
    ).encode("iso-8859-1")
    files = {
        "a.html": PAGE.encode(),
        "b.HTM.gz": gzip.compress(PAGE.encode()),
        "c.xhtml": PAGE.encode(),
        "d.xml": tei,
        "e.eml": f"{MAIL}Content-Type: text/plain; charset=iso-8859-1\r\n\r\nSchöne Grüße".encode("iso-8859-1"),
        "f.pdf": pdf([SENTENCE], title="Rivers"),
        "g.epub": epub({"one": f"<h1>Eins</h1><p>{SENTENCE}</p>", "two": "<p>The end.</p>"}, ["two", "one"]),
        "h.docx": word.getvalue(),
        "i.txt": SENTENCE.encode(),
    }
    found = collected(home, tmp_path / "in", files, license="CC0-1.0")
    assert list(found) == sorted(files)
    for name in ("a.html", "b.HTM.gz", "c.xhtml"):
        assert found[name].text == "\n\n".join(f"{n}. {SENTENCE}" for n in range(3)), name
        assert (found[name].title, found[name].lang, found[name].license) == ("Rivers", "en", "CC0-1.0")
    tei_text = found["d.xml"]
    assert tei_text.text == "Eins\n\nDer Fluß fließt."
    assert (tei_text.title, tei_text.lang) == ("Flüsse", "de")
    assert tei_text.license == "https://creativecommons.org/publicdomain/zero/1.0/"
    mail = found["e.eml"]
    assert (mail.text, mail.title) == ("Schöne Grüße", "Grüße")
    assert (mail.metadata["date"], mail.metadata["from"]) == ("2024-05-06", "Ann <ann@example.org>")
    assert (found["f.pdf"].text, found["f.pdf"].title) == (SENTENCE + "\n", "Rivers")
    assert (found["f.pdf"].metadata["date"], found["f.pdf"].metadata["pages"]) == ("2024-05-06", 1)
    book = found["g.epub"]
    assert book.text == f"The end.\n\n# Eins\n\n{SENTENCE}"
    assert (book.title, book.lang, book.license, book.metadata["date"]) == ("A Book", "de", "CC BY 4.0", "2024-05-06")
    assert (found["h.docx"].text, found["h.docx"].title) == (SENTENCE, "h")


def test_a_mail_is_its_text_then_its_page_and_attachments_are_counted(home: Path, tmp_path: Path) -> None:
    def parts(*bodies: str) -> bytes:
        inside = "".join(f"--x\r\n{body}\r\n" for body in bodies)
        return f"{MAIL}Content-Type: multipart/mixed; boundary=x\r\n\r\n{inside}--x--\r\n".encode()

    text = "Content-Type: text/plain\r\n\r\nIn words."
    page = f"Content-Type: text/html; charset=utf-8\r\n\r\n{PAGE}"
    attached = "Content-Type: text/plain\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nNot this."
    picture = "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo="
    odd = "Content-Type: text/plain; charset=no-such\r\n\r\nOdd but readable."
    found = collected(
        home,
        tmp_path / "in",
        {
            "a.eml": parts(text, page, attached, picture),
            "b.eml": parts(page, attached),
            "c.eml": parts(odd),
            "d.eml": parts(picture),
        },
    )
    assert list(found) == ["a.eml", "b.eml", "c.eml"]
    assert (found["a.eml"].text, found["a.eml"].metadata["attachments"]) == ("In words.", 2)
    assert (found["b.eml"].text.count(SENTENCE), found["b.eml"].metadata["attachments"]) == (3, 1)
    assert (found["c.eml"].text, "attachments" in found["c.eml"].metadata) == ("Odd but readable.", False)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.html", "<html><body><p>{}</p></body></html>"),
        ("a.xml", "<book><p>{}</p></book>"),
        ("a.eml", f"{MAIL}\r\n{{}}"),
        ("b.eml", f"{MAIL}Content-Type: text/html\r\n\r\n<html><body><p>{{}}</p></body></html>"),
    ],
)
def test_a_file_whose_encoding_nobody_states_is_not_spoiled(home: Path, tmp_path: Path, name: str, form: str) -> None:
    text = "Grüße aus München, wo die Straßen breit sind und die Bäume im Mai blühen."
    folder = tmp_path / "in"
    document = collected(home, folder, {name: form.format(text).encode("cp1252")})[name]
    assert document.text == text
    _, summary = run_collect(home, files=[{"path": str(folder), "name": "again"}], heldout_fraction=0.0)
    assert "1 file is read as cp1252 by a guess" in summary["notices"][0]
    assert (document.metadata["encoding"], document.metadata["encoding_guessed"]) == ("cp1252", True)


def test_words_and_sentences_of_a_pdf_that_lines_part_are_put_together(home: Path, tmp_path: Path) -> None:
    lines = [
        "An exam-",
        "ple of a well-",
        "known rule that goes on",
        "over lines. Another well-known one",
        "is this. It ends here.",
        "A heading",
        "The next sen-",
    ]
    found = collected(home, tmp_path / "in", {"a.pdf": pdf(lines, ["tence is on the next page."])})
    assert found["a.pdf"].text == (
        "An example of a well-known rule that goes on over lines. Another well-known one is this. It ends here.\n"
        "A heading\nThe next sentence is on the next page.\n"
    )


def test_a_word_file_keeps_headings_lists_and_tables(home: Path, tmp_path: Path) -> None:
    made = docx.Document()
    made.core_properties.title = "A file"
    made.add_heading("Towns", level=2)
    for name in ("Oxford", "Reading"):
        made.add_paragraph(name, style="List Bullet")
    table = made.add_table(rows=2, cols=2)
    cells = [cell for row in table.rows for cell in row.cells]
    for cell, text in zip(cells, ("Town", "Mile", "Oxford", "10"), strict=True):
        cell.text = text
    made.save(word := io.BytesIO())
    whole = collected(home, tmp_path / "a", {"a.docx": word.getvalue()})["a.docx"]
    assert whole.text == "## Towns\n\n- Oxford\n- Reading\n\n| Town | Mile |\n|---|---|\n| Oxford | 10 |"
    assert whole.title == "A file"
    plain = collected(home, tmp_path / "a", {}, pages={"keep": []})["a.docx"]
    assert plain.text == "Towns\n\nOxford\nReading"


def test_a_cell_that_goes_over_others_has_its_text_once(home: Path, tmp_path: Path) -> None:
    made = docx.Document()
    table = made.add_table(rows=3, cols=2)
    for row, texts in zip(table.rows, (("Towns", ""), ("Oxford", "10"), ("", "20")), strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    table.cell(0, 0).merge(table.cell(0, 1))
    table.cell(1, 0).merge(table.cell(2, 0))
    made.save(word := io.BytesIO())
    found = collected(home, tmp_path / "a", {"a.docx": word.getvalue()})["a.docx"]
    assert found.text == "| Towns |  |\n|---|---|\n| Oxford | 10 |\n|  | 20 |"


@pytest.mark.parametrize("empty", ["", " ", "<!-- the back of the title -->"])
def test_an_empty_chapter_costs_a_book_nothing(home: Path, tmp_path: Path, empty: str) -> None:
    book = epub({"one": f"<p>{SENTENCE}</p>", "two": "", "three": "<p>It ends there.</p>"}, ["one", "two", "three"])
    with zipfile.ZipFile(io.BytesIO(book)) as packed_book:
        members = {name: packed_book.read(name) for name in packed_book.namelist()}
    data = packed(members | {"OEBPS/text/two.xhtml": empty})
    assert collected(home, tmp_path / "a", {"a.epub": data})["a.epub"].text == f"{SENTENCE}\n\nIt ends there."


BOMB = packed({"word/document.xml": b"\0" * 300 * 2**20})
LAUGHS = (
    "<!DOCTYPE a [<!ENTITY a 'ha'>"
    + "".join(f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(12))
    + "]><a>&m;</a>"
)
PROTECTED = packed({"META-INF/encryption.xml": "<encryption><EncryptedData/></encryption>"})
MEDIAWIKI = b"<mediawiki xmlns='http://www.mediawiki.org/xml/export-0.10/'><page/></mediawiki>"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.pdf", pdf([]), "no text: scanned or protected"),
        ("a.pdf", pdf([SENTENCE])[:300], "not readable as PDF"),
        ("a.pdf", b"not a PDF at all", "not readable as PDF"),
        ("a.docx", packed({"x.txt": "x"}), "not readable as .docx"),
        ("a.docx", b"\xd0\xcf\x11\xe0" + b"\0" * 100, "no text: protected by a password, or an old .doc"),
        ("a.docx", BOMB, "it unpacks to 1 files of 314,572,800 bytes, which is too much"),
        ("a.docx", BOMB[:-100], "damaged or cut"),
        ("a.epub", packed({"x.txt": "x"}), "not readable as .epub"),
        ("a.epub", PROTECTED, "no text: protected"),
        ("a.epub", BOMB, "it unpacks to"),
        ("a.xml", b"text</a>", "malformed XML at line 1"),
        ("a.xml", LAUGHS.encode(), "malformed XML at line 1"),
        ("a.xml", b"<!DOCTYPE a SYSTEM 'a.dtd'><a>x &bogus; y</a>", "malformed XML at line 1"),
        ("a.xml", b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>", "malformed XML at line 1"),
        ("a.xml", MEDIAWIKI, "a dump of MediaWiki"),
        ("a.eml", b"no header here\n\nwords", "not an e-mail: it has no header"),
        ("a.html", b"words without a tag", "not HTML"),
        ("a.html", b"%PDF-1.4 binary", "what the file holds looks like .pdf"),
        ("a.html", b"<p>" + b"x" * 17 * 2**20, "the file has more than 16,777,216 bytes"),
    ],
)
def test_what_cannot_be_read_costs_itself_and_says_why(
    home: Path, tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    found = reasons(home, tmp_path / "in", {name: data})
    assert list(found) == [name]
    assert found[name].startswith(reason)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.html", b"<html><body><script>menu()</script></body></html>"),
        ("a.eml", MAIL.encode() + b"\r\n"),
        ("a.xml", b"<a><b/></a>"),
        ("a.epub", epub({"one": "<img src='x.png'/>"}, ["one"])),
    ],
)
def test_what_is_whole_and_has_no_text_is_counted_as_empty(home: Path, tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / "good.txt").write_text("A good text.")
    (tmp_path / name).write_bytes(data)
    _, summary = run_collect(home, files=[{"path": str(tmp_path / "*.*")}], heldout_fraction=0.0)
    assert (summary["read"], summary["kept"], summary["empty"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("<?xml version='1.0' encoding='IBM855'?><a>Река &laquo;Дон&raquo;</a>".encode("cp855"), "Река «Дон»"),
        ("<?xml version='1.0'?><a>Fluß &amp; See &lt;1&gt;</a>".encode("utf-16"), "Fluß & See <1>"),
        (b"<!DOCTYPE a [<!ENTITY who 'Ann'>]><a><b>By &who;</b><c>end</c></a>", "By Ann\n\nend"),
        (PAGE.replace("<p>", "<p>a < b <br>").encode(), "0. " + SENTENCE),  # a page that is named as XML
    ],
)
def test_xml_is_read_in_its_encoding_and_with_entities(home: Path, tmp_path: Path, data: bytes, text: str) -> None:
    assert text in collected(home, tmp_path / "in", {"a.xml": data})["a.xml"].text


GERMAN = "Die Bäume blühen, die Vögel hören früh auf, und über den Hügeln weht ein kühler, süßer Wind. " * 3
POLISH = "Żółte liście spadają na zieloną łąkę, a świeże źródło szumi cicho wśród kwitnących dębów. " * 3


@pytest.mark.parametrize(
    ("encoding", "text", "read_as"),
    [("cp1250", POLISH, "cp1250"), ("iso8859_2", POLISH, "iso8859_2"), ("cp1252", GERMAN, "cp1252")],
)
def test_a_guess_of_the_encoding_is_said_and_stands_beside_the_text(
    home: Path, tmp_path: Path, encoding: str, text: str, read_as: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    artifact, summary = run_collect(home, files=[{"path": str(path)}], heldout_fraction=0.0)
    (document,) = documents_of(artifact)
    assert document.text == text
    assert document.metadata["encoding"] == read_as
    guessed = "encoding_guessed" in document.metadata
    assert summary["notices"] == [
        f"source files: 1 file is read as {read_as}{' by a guess' if guessed else ''} "
        "(found out: `encoding` of the source says otherwise)"
    ]


def test_with_ask_what_is_not_sure_is_reported(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(POLISH.encode("iso8859_2"))
    artifact, _ = run_collect(home, files=[{"path": str(path)}], heldout_fraction=0.0)
    assert documents_of(artifact)[0].metadata["encoding_guessed"]
    with pytest.raises(DataError, match=r"it looks like .*: set `encoding` of this source"):
        run_collect(home, files=[{"path": str(path), "encoding": "ask"}])


def test_a_list_of_the_files_beside_them_is_left_out_and_said(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_text(f"{MAIL}\r\nIn words.")
    (tmp_path / "manifest.jsonl").write_text('{"path": "a.eml", "label": "ham"}\n')
    artifact, summary = run_collect(home, files=[{"path": str(tmp_path / "*")}], heldout_fraction=0.0)
    assert [document.text for document in documents_of(artifact)] == ["In words."]
    assert "1 record is left out of lists of files (manifest, metadata)" in summary["notices"][0]
    (tmp_path / "a.eml").unlink()
    with pytest.raises(DataError, match=r"They have: label, path"):
        run_collect(home, files=[{"path": str(tmp_path / "*")}])


def test_texts_of_every_kind_are_repaired_by_choice_and_counted(home: Path, tmp_path: Path) -> None:
    spoiled = "Schöne Grüße aus Köln".encode().decode("cp1252")
    (tmp_path / "a.txt").write_text(spoiled)
    (tmp_path / "b.html").write_text(PAGE.replace(SENTENCE, spoiled), encoding="utf-8")
    (tmp_path / "c.txt").write_text("It’s “fine” – ﬁne…")
    path = str(tmp_path / "*.*")
    artifact, summary = run_collect(home, files=[{"path": path, "repair_unicode": True}], heldout_fraction=0.0)
    texts = [document.text for document in documents_of(artifact)]
    assert (texts[0], texts[2]) == ("Schöne Grüße aus Köln", "It’s “fine” – ﬁne…")
    assert "Schöne Grüße aus Köln" in texts[1]
    assert summary["repaired"] == 2
    artifact, summary = run_collect(home, files=[{"path": path}], heldout_fraction=0.0)
    assert documents_of(artifact)[0].text == spoiled
    assert "repaired" not in summary


@pytest.mark.parametrize(
    ("path", "section"),
    [
        ("https://example.org/a.html", "collect.web (urls: [https://example.org/a.html])"),
        ("https://example.org/a.warc.gz", "collect.warc (urls: [https://example.org/a.warc.gz])"),
        ("hf://datasets/wikitext", "collect.huggingface (dataset: wikitext)"),
        ("https://huggingface.co/datasets/squad/tree/main", "collect.huggingface (dataset: squad)"),
        ("https://huggingface.co/datasets/org/set/tree/main", "collect.huggingface (dataset: org/set)"),
        ("s3://bucket/a.jsonl", "aws s3 cp --recursive s3://bucket/a.jsonl FOLDER"),
    ],
)
def test_an_address_is_refused_with_the_section_that_reads_it(home: Path, path: str, section: str) -> None:
    with pytest.raises(DataError) as caught:
        run_collect(home, files=[{"path": path}])
    assert section in str(caught.value)
