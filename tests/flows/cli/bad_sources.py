"""Bad input in the user's texts and pairs: the rows of the table that need files."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import zstandard
from bad_input import BadInput, Contents
from document_files import epub, packed, pdf

WORDS = "The quick brown fox number {} jumps over the lazy dog and runs away."
LINES = "".join(json.dumps({"text": WORDS.format(number)}) + "\n" for number in range(400)).encode()
COLLECT = "run recipe.yaml --plain --to collect"
PLAN = "plan recipe.yaml --to collect"  # where a look at the files is enough


def _tar(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def _source(name: str, path: str, data: Contents, *holds: str, options: str = "", slow: bool = False) -> BadInput:
    """A row about one file of texts."""
    recipe = f"collect: {{files: [{{path: '{path}'{options}}}], max_bad_fraction: 0}}\n"
    return BadInput(name, COLLECT, (path, *holds), {"recipe.yaml": recipe, path: data}, slow=slow)


def _special(name: str, make: str, *holds: str) -> BadInput:
    """A row about a folder that holds something that is not an ordinary file, beside a good one."""

    def prepare(folder: Path, home: Path) -> None:
        SPECIAL[make](folder / "texts" / "b.txt")

    files = {"recipe.yaml": "collect: {files: [{path: texts}]}\n", "texts/a.txt": "A text that can be read."}
    return BadInput(name, PLAN, ("texts", "b.txt", *holds), files, prepare)


SPECIAL = {
    "pipe": os.mkfifo,
    "dangling link": lambda path: path.symlink_to("gone.txt"),
    "loop of links": lambda path: path.symlink_to(path.name),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "error of the disk": lambda path: path.symlink_to("/proc/self/mem"),
    "name that is not UTF-8": lambda path: Path(os.fsdecode(os.fsencode(path) + b"\xff.txt")).write_text("Text."),
}

PATHS = (
    BadInput(
        "path that matches nothing",
        PLAN,
        ("nowhere", "matches no file", "Give a folder, a glob"),
        {"recipe.yaml": "collect: {files: [{path: 'nowhere/*.txt'}]}\n"},
    ),
    BadInput(
        "folder given for a file",
        PLAN,
        ("a.jsonl", "the folder holds no file", "collect.files[0].path"),
        {"recipe.yaml": "collect: {files: [{path: a.jsonl}]}\n"},
        lambda folder, home: (folder / "a.jsonl").mkdir(),
    ),
    BadInput(
        "files of no known kind",
        PLAN,
        ("texts", "none of the 1 files can be read", ".pdf", "Readable: .txt"),
        {"recipe.yaml": "collect: {files: [{path: texts}]}\n", "texts/a.doc": "Words."},
    ),
    BadInput(
        "pipe for a file",
        PLAN,
        ("a.txt", "not an ordinary file"),
        {"recipe.yaml": "collect: {files: [{path: a.txt}]}\n"},
        lambda folder, home: os.mkfifo(folder / "a.txt"),
    ),
    _special("pipe in a folder", "pipe", "not an ordinary file"),
    _special("dangling link", "dangling link", "leads nowhere"),
    _special("loop of links", "loop of links", "leads nowhere"),
    _special("device", "device", "not an ordinary file"),
    _special("file that cannot be read", "error of the disk", "cannot be read"),
    _special("file name that is not UTF-8", "name that is not UTF-8", "is not UTF-8", "Rename"),
    BadInput(
        "package that is not installed",
        PLAN,
        ("collect.docstrings.packages", "no-such-package", "not installed"),
        {"recipe.yaml": "collect: {docstrings: {packages: [numpy, no-such-package]}}\n"},
    ),
)

CONTENTS = (
    _source("empty file", "a.txt", "", "line 1", "empty"),
    _source("empty Parquet file", "a.parquet", b"", "row 1", "empty", slow=True),
    _source("text that is not UTF-8", "a.txt", b"one\ntwo caf\xe9\n", "line 2", "invalid UTF-8"),
    _source(
        "UTF-16 that ends in half a letter",
        "a.txt",
        "Some text.".encode("utf-16")[:-1],
        "line 1",
        "invalid utf",
        slow=True,
    ),
    _source("line that is not UTF-8", "a.jsonl", LINES + b'{"text": "caf\xe9"}\n', "line 401", "invalid UTF-8"),
    _source("malformed JSON line", "a.jsonl", LINES + b'{"text": "caf\n', "line 401", "malformed JSON", "column"),
    _source("JSON line that is not an object", "a.jsonl", LINES + b"[1]\n", "line 401", "not a JSON object", slow=True),
    _source("NUL bytes", "a.jsonl", LINES + bytes(200) + b"\n", "line 401", "malformed JSON"),
    _source("deeply nested JSON", "a.jsonl", LINES + b"[" * 200_000 + b"\n", "line 401", "malformed JSON"),
    _source(
        "huge line", "a.jsonl", lambda: LINES + b'{"text": "' + b"x" * 40_000_000 + b'"}\n', "line 401", "more than"
    ),
    _source(
        "huge CSV field", "a.csv", lambda: b'text\n"' + b"x" * 100_000_000 + b'"\n', "line 2", "more than", slow=True
    ),
    _source("text that is not a string", "a.jsonl", LINES + b'{"text": 1e999}\n', "line 401", "not text but float"),
    _source("wrong text field", "a.jsonl", '{"body": "Some words.", "title": "x"}\n', "no field 'text'", "body, title"),
    _source("CSV without the column", "a.csv", "id,body\n1,Some words.\n", "no field 'text'", "body, id", "text_field"),
    _source(
        "half a surrogate pair", "a.jsonl", LINES + b'{"text": "\\ud800"}\n', "line 401", "half a surrogate", slow=True
    ),
    _source("text with a NUL", "a.txt", "one\0two", "line 1", "a NUL character", slow=True),
    _source("picture named txt", "a.txt", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, "line 1", slow=True),
    _source("text that is too long", "a.txt", lambda: b"word " * 2_000_000, "line 1", "max_document_bytes", slow=True),
    _source("nothing but nulls", "a.jsonl", '{"text": null}\n' * 9, "all of its 9 records are empty", slow=True),
    _source("nothing but blank lines", "a.jsonl", "\n" * 9, "nothing in it is read", slow=True),
    _source("CSV with a header alone", "a.csv", "id,text\n", "nothing in it is read", slow=True),
    _source("CSV with a longer row", "a.csv", "id,text\n1,Some words.\n2,a,b,c\n", "line 3", "fields", slow=True),
    _source("JSON with a list inside", "a.json", '{"rows": [{"text": "Words."}]}', "the list 'rows'", slow=True),
    _source("JSON that is a number", "a.json", "5", "line 1", "not a JSON object", slow=True),
    _source(
        "group field that is not there",
        "a.jsonl",
        LINES,
        "no field 'site'",
        "group_field",
        options=", group_field: site",
        slow=True,
    ),
)


def _with_dictionary() -> bytes:
    samples: list[Any] = [WORDS.format(number).encode() for number in range(2000)]
    dictionary = zstandard.train_dictionary(4096, samples)
    return zstandard.ZstdCompressor(dict_data=dictionary).compress(LINES)


def _parquet(text: str | int) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"text": [text] * 9}), file)
    return file.getvalue()


PACKED = (
    _source("gz that is text", "a.jsonl.gz", "Plain text.", "line 1", "malformed JSON"),
    _source("Parquet that is JSON", "a.parquet", LINES, "row 1", "not readable as Parquet"),
    _source("JSON lines that are Parquet", "a.jsonl", b"PAR1\x15\x04\x15\x0aPAR1", "line 1", "looks like .parquet"),
    _source("cut JSON", "a.json", b'[{"text": "one"}, {"text": "tw', "line 1", "malformed JSON"),
    _source(
        "cut gz",
        "a.jsonl.gz",
        gzip.compress(LINES)[:-40],
        "the file was cut",
        "records were read before it",
        "allow_truncated",
    ),
    _source("gz in gz", "a.jsonl.gz", gzip.compress(gzip.compress(LINES)), "line 1", "looks like .gz"),
    _source(
        "gz in gz by name", "a.jsonl.gz.gz", gzip.compress(gzip.compress(LINES)), "none of the 1 files can be read"
    ),
    _source(
        "tar in gz", "a.txt.gz", gzip.compress(_tar("a.txt", b"Some text.")), "line 1", "looks like .tar", "unpack"
    ),
    _source("zip named txt", "a.txt", b"PK\x03\x04" + bytes(40), "line 1", "looks like .zip", slow=True),
    _source("cut zst", "a.jsonl.zst", zstandard.compress(LINES)[:-40], "the file was cut", slow=True),
    _source("cut bz2", "a.jsonl.bz2", bz2.compress(LINES)[:-40], "the file was cut", slow=True),
    _source("cut xz", "a.jsonl.xz", lzma.compress(LINES)[:-40], "the file was cut", slow=True),
    _source("damaged gz", "a.jsonl.gz", gzip.compress(LINES)[:-8] + bytes(8), "the .gz stream is damaged", slow=True),
    _source(
        "text behind a gz", "a.jsonl.gz", gzip.compress(LINES) + b"and so on", "the .gz stream is damaged", slow=True
    ),
    _source("zst that needs a dictionary", "a.jsonl.zst", _with_dictionary, "dictionary", slow=True),
    _source("cut Parquet", "a.parquet", lambda: _parquet("Words.")[:-9], "not readable as Parquet", slow=True),
    _source("Parquet of numbers", "a.parquet", lambda: _parquet(5), "row 1", "not text but int", slow=True),
    _source("bomb in zst", "a.json.zst", lambda: zstandard.compress(b"[" + b" " * 10**8), "250 times its size"),
    _source("bomb in bz2", "a.txt.bz2", lambda: bz2.compress(bytes(40_000_000), 1), "line 1", "more than", slow=True),
)

LOCKED: dict[str, str | bytes] = {"META-INF/encryption.xml": "<encryption><EncryptedData/></encryption>"}
LAUGHS = "<!DOCTYPE a [<!ENTITY a 'lol'>" + "".join(
    f"<!ENTITY {chr(98 + number)} '{f'&{chr(97 + number)};' * 10}'>" for number in range(9)
)
LAUGHS += "]><a>&j;</a>"
READS = "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>"


def _protected() -> bytes:
    """A PDF whose trailer says that a password is needed, which nobody has."""
    lock = b"/Encrypt << /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -44 >> /ID [<00><00>] /Info" % (
        b"ab" * 32,
        b"cd" * 32,
    )
    return pdf(["Some words."]).replace(b"/Info", lock)


def _without_chapter() -> bytes:
    file = io.BytesIO(epub({"one": "<p>Words.</p>"}, ["one"]))
    made = io.BytesIO()
    with zipfile.ZipFile(file) as book, zipfile.ZipFile(made, "w") as copy:
        for name in book.namelist():
            if "one" not in name:
                copy.writestr(name, book.read(name))
    return made.getvalue()


DOCUMENTS = (  # what else goes wrong inside of them: tests/tasks/collect
    _source("page without a tag", "a.html", "Words alone.", "line 1", "not HTML"),
    _source("page that is a PDF", "a.html", b"%PDF-1.4 and so on", "line 1", "looks like .pdf", slow=True),
    _source("page nested too deep", "a.html", "<html><body>" + "<ul><li>x " * 9000, "line 1", "nested too deep"),
    _source("cut PDF", "a.pdf", pdf(["Some words."])[:250], "line 1", "not readable as PDF"),
    _source("scanned PDF", "a.pdf", pdf([]), "line 1", "no text: scanned or protected"),
    _source("old Word file", "a.docx", b"\xd0\xcf\x11\xe0" + bytes(99), "line 1", "an old .doc", slow=True),
    _source("cut book", "a.epub", epub({"one": "<p>Words.</p>"}, ["one"])[:-90], "line 1", "damaged or cut", slow=True),
    _source("PDF with a password", "a.pdf", _protected, "line 1", "protected", slow=True),
    _source("book with a lock", "a.epub", packed(LOCKED), "line 1", "no text: protected", slow=True),
    _source("book without chapters", "a.epub", packed({"x.txt": "x"}), "line 1", "not readable as .epub", slow=True),
    _source(
        "book whose chapter is not there", "a.epub", _without_chapter, "line 1", "not readable as .epub", slow=True
    ),
    _source("bomb in a book", "a.epub", lambda: packed({"a": bytes(3 * 10**8)}), "line 1", "is too much", slow=True),
    _source("Word file without a text", "a.docx", packed({"x.txt": "x"}), "not readable as .docx", slow=True),
    _source("XML that grows without end", "a.xml", LAUGHS, "line 1", "malformed XML", slow=True),
    _source("XML that reads a file", "a.xml", READS, "line 1", "malformed XML", slow=True),
    _source("XML with more behind its end", "a.xml", "<a>Some words.</a><b>Others.</b>", "line 1", "malformed XML"),
    _source("dump of Wikipedia among texts", "a.xml", "<mediawiki><page/></mediawiki>", "collect.wikipedia", slow=True),
    _source("mail without a header", "a.eml", "Some words.", "line 1", "not an e-mail", slow=True),
    _source(
        "encoding that is not sure",
        "a.txt",
        ("Żółte liście spadają na zieloną łąkę, a źródło szumi. " * 5).encode("iso8859_2"),
        "line 1",
        "set `encoding` of this source",
        options=", encoding: ask",
    ),
)

ARCHIVES = (
    _source("cut tar", "a.tar", _tar("a.txt", b"Some text.")[:600], "cut", "allow_truncated"),
    _source("tar without an end", "a.tar", _tar("a.txt", b"Some text.")[:1024], "ends early", "allow_truncated"),
    _source("cut tar.gz", "a.tgz", gzip.compress(_tar("a.txt", b"Some text."))[:-9], "the file was cut", slow=True),
    _source("zip that is none", "a.zip", "Some text.", "no list of its members", slow=True),
    _source("cut zip", "a.zip", packed({"a.txt": "Some text."})[:-9], "no list of its members", "1 members were read"),
    _source("bomb in zip", "a.zip", lambda: packed({"a.txt": bytes(10**8)}), "250 times its size"),
    _source(
        "archives in an archive",
        "a.zip",
        packed({"b.zip": packed({"a.txt": "x"})}),
        "nothing in it is read",
        "an archive in an archive",
        slow=True,
    ),
    _source("bad record in an archive", "a.zip", packed({"b.jsonl": LINES + b"{"}), "a.zip/b.jsonl, line 401"),
)


def _few(name: str, command: str, *holds: str, more: str = "", slow: bool = False) -> BadInput:
    """A row about four hundred short texts, which are too few for something."""
    recipe = f"collect: {{files: [{{path: a.jsonl}}]}}\nfilter: {{preset: none}}\n{more}"
    return BadInput(name, command, holds, {"recipe.yaml": recipe, "a.jsonl": LINES}, slow=slow)


AMOUNTS = (
    BadInput(
        "rule that takes every document",
        "run smoke --plain --to filter --set filter.min_words=100000",
        ("no document is left of", "min_words", "--set filter.min_words"),
    ),
    _few("too little text for the vocabulary", "run recipe.yaml --plain --to tokenizer", "vocabulary_size="),
    _few(
        "too little text for the context",
        "run recipe.yaml --plain --to pretrain",
        "training tokens",
        "lower pretrain.context_length",
        more="tokenizer: {vocabulary_size: 270}\npretrain: {context_length: 131072, batch_tokens: 131072}\n",
        slow=True,
    ),
    BadInput(
        "nothing held out",
        COLLECT,
        ("none of 2 documents is held out", "collect.heldout_groups"),
        {
            "recipe.yaml": "collect: {files: [{path: '*.txt'}], heldout_fraction: 0, heldout_groups: [b.txt]}\n",
            "a.txt": "Some words.",
            "c.txt": "Some other words.",
        },
    ),
    BadInput(
        "everything held out",
        COLLECT,
        ("every document is held out", "collect.heldout_fraction"),
        {
            "recipe.yaml": "collect: {files: [{path: '*.txt'}], heldout_groups: [a.txt, b.txt]}\n",
            "a.txt": "Some words.",
            "b.txt": "Some other words.",
        },
    ),
    BadInput(
        "one document, to be trained on and held out",
        COLLECT,
        ("one document cannot be both trained on and held out", "set collect.files[0].separator"),
        {"recipe.yaml": "collect: {files: [{path: a.txt}]}\n", "a.txt": "Some words."},
    ),
)

ROWS = (*PATHS, *CONTENTS, *PACKED, *DOCUMENTS, *ARCHIVES, *AMOUNTS)
