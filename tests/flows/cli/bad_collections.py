"""Bad input in web archives and dumps of wikis, in archives of files, and addresses where a path belongs."""

import bz2
import gzip
import io
import stat
import tarfile
import zipfile

import zstandard
from bad_input import BadInput, Contents
from bad_sources import COLLECT, PLAN, WORDS
from document_files import packed as zipped
from web_archives import answer, digest, packed, record, web_page

PAGE = answer(web_page("A page", *(WORDS.format(number) for number in range(5))))
HEAD = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" xml:lang="en">'
ARTICLE = "<page><title>{0}</title><ns>0</ns><id>1</id><revision><text>{1}</text></revision></page>"


def _row(section: str, name: str, path: str, data: Contents, *holds: str, options: str = "", slow: bool) -> BadInput:
    """A row about one file of a section; nothing bad is allowed in it."""
    recipe = f"collect: {{{section}: [{{path: '{path}'{options}}}], max_bad_fraction: 0}}\n"
    return BadInput(name, COLLECT, (path, *holds), {"recipe.yaml": recipe, path: data}, slow=slow)


def _warc(name: str, path: str, data: Contents, *holds: str, slow: bool = True) -> BadInput:
    return _row("warc", name, path, data, *holds, slow=slow)


def _dump(name: str, path: str, data: Contents, *holds: str, options: str = "", slow: bool = True) -> BadInput:
    return _row("wikipedia", name, path, data, *holds, options=options, slow=slow)


def _archive(name: str, path: str, data: Contents, *holds: str, slow: bool = True) -> BadInput:
    return _row("files", name, path, data, *holds, slow=slow)


WEB_ARCHIVES = (
    _warc(
        "WARC that is a text", "a.warc", "Hello, this is a text.\n" * 9, "record 1", "no header of a record", slow=False
    ),
    _warc("empty WARC", "a.warc", b"", "record 1", "empty"),
    _warc("WARC that is an archive", "a.warc", zipped({"a.warc": "x"}), "record 1", "looks like .zip"),
    _warc("cut WARC", "a.warc", record(PAGE)[:-60], "ends within a record", "allow_truncated"),
    _warc("cut WARC.gz", "a.warc.gz", packed([record(PAGE)])[:-40], "the file was cut", "allow_truncated", slow=False),
    _warc(
        "damaged member of a WARC.gz",
        "a.warc.gz",
        packed([record(PAGE)])[:30] + b"\xff" * 9 + packed([record(PAGE)]),
        "record 1",
        "damaged",
    ),
    _warc("bomb in a WARC.gz", "a.warc.gz", lambda: packed([record(bytes(150_000_000))]), "250 times its size"),
    _warc("cut WARC.zst", "a.warc.zst", zstandard.compress(record(PAGE))[:-9], "ends early", "allow_truncated"),
    _warc("record whose length is wrong", "a.warc", record(PAGE, length=50), "record 1", "Content-Length is wrong"),
    _warc("record without a length", "a.warc", record(PAGE, length="many"), "record 1", "Content-Length"),
    _warc("record whose digest is wrong", "a.warc", record(PAGE, headers=[digest(b"another")]), "record 1", "digest"),
    _warc("record that is no answer", "a.warc", record(b"no answer"), "record 1", "no HTTP answer"),
    _warc(
        "answer that is not packed as it says",
        "a.warc",
        record(answer(b"\x1f\x8bxx", headers=["Content-Encoding: gzip"])),
        "record 1",
        "not encoded as the header says",
    ),
    _warc(
        "bomb in an answer",
        "a.warc",
        lambda: record(answer(gzip.compress(bytes(10**8)), headers=["Content-Encoding: gzip"])),
        "record 1",
        "more than",
    ),
    _warc(
        "page in a WARC that is nested too deep",
        "a.warc",
        record(answer("<html><body>" + "<ul><li>x " * 9000)),
        "record 1",
        "nested too deep",
    ),
    _warc(
        "WARC of pages that were not found",
        "a.warc",
        record(answer(web_page("404 - Page not found", "Sorry, this page is gone."))),
        "no document was kept",
        "not_found",
    ),
    _warc(
        "WARC of pictures",
        "a.warc",
        record(answer(b"\x89PNG", media_type="image/png")),
        "no document was kept",
        "content_type",
    ),
    _warc(
        "WARC of requests",
        "a.warc",
        record(b"GET / HTTP/1.1\r\n\r\n", kind="request"),
        "no document was kept",
        "request",
    ),
)

BOMB = '<!DOCTYPE a [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]><mediawiki>&b;</mediawiki>'
DUMPS = (
    _dump("dump that is a page", "a.xml", "<html><body>Hello</body></html>", "it begins with <html>", slow=False),
    _dump("dump that is a text", "a.xml", "Hello, this is no XML.", "not well-formed XML"),
    _dump("empty dump", "a.xml", b"", "empty file"),
    _dump("cut dump", "a.xml", HEAD + ARTICLE.format("A", "x"), "the file was cut", "allow_truncated", slow=False),
    _dump("cut dump.bz2", "a.xml.bz2", bz2.compress((HEAD + "</mediawiki>").encode())[:-4], "the file was cut"),
    _dump("damaged dump.bz2", "a.xml.bz2", b"BZh91AY&SY" + bytes(40), "the .bz2 stream is damaged"),
    _dump("dump with entities", "a.xml", BOMB, "declares a document type or entities"),
    _dump(
        "dump that reads a file",
        "a.xml",
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><mediawiki/>',
        "declares a document type or entities",
    ),
    _dump("dump nested too deep", "a.xml", "<mediawiki>" + "<a>" * 100_000, "more than 20 deep"),
    _dump(
        "wikitext that hangs its parser",
        "a.xml",
        HEAD + ARTICLE.format("Trap", "&lt;b&gt;{{" * 60_000) + "</mediawiki>",
        "timed out after 1 s",
        options=", seconds: 1",
    ),
    _dump("page without a title", "a.xml", HEAD + ARTICLE.format("", "x") + "</mediawiki>", "a page without a title"),
    _dump(
        "dump of redirects",
        "a.xml",
        HEAD + ARTICLE.replace("<revision>", "<redirect title='x'/><revision>").format("A", "x") + "</mediawiki>",
        "no document was kept",
        "redirect",
    ),
)


def _tar(*entries: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return file.getvalue()


def _entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = (
        kind,
        "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else "",
        size,
    )
    return made


def _with_password() -> bytes:
    data = bytearray(zipped({"a.txt": "secret"}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    return bytes(data)


def _by_method(number: int) -> bytes:
    data = bytearray(zipped({"a.txt": "secret"}))
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(mark) + place] = number
    return bytes(data)


def _damaged() -> bytes:
    data = bytearray(zipped({"a.txt": WORDS * 20}))
    data[60] ^= 0xFF
    return bytes(data)


def _zip_link() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        entry = zipfile.ZipInfo("a.txt")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return file.getvalue()


def _overlapping() -> bytes:
    """A list that names the same bytes again and again: how a small file becomes petabytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "x" * 2**20)
        archive.filelist += archive.filelist * 100
    return file.getvalue()


NOTHING = "nothing in it is read"
ARCHIVES = (
    _archive("zip with a password", "a.zip", _with_password(), "a.zip/a.txt", "protected by a password", slow=False),
    _archive("zip by an unknown method", "a.zip", _by_method(99), "a.zip/a.txt", "a method that is not known"),
    _archive("damaged zip", "a.zip", _damaged(), "the .zip file is damaged"),
    _archive("zip whose members overlap", "a.zip", _overlapping(), "250 times its size"),
    _archive("zip that leads out", "a.zip", zipped({"../a.txt": "x"}), NOTHING, "leads out of the archive", slow=False),
    _archive("zip of links", "a.zip", _zip_link(), NOTHING, "a link"),
    _archive("zip of pictures", "a.zip", zipped({"a.png": "x"}), NOTHING, "1 .png"),
    _archive("zip of hidden files", "a.zip", zipped({"__MACOSX/a.txt": "x"}), NOTHING, "1 hidden member"),
    _archive("empty zip", "a.zip", zipped({}), "line 1", "empty archive"),
    _archive("tar that leads out", "a.tar", _tar(_entry("/etc/a.txt", size=9)), NOTHING, "leads out of the archive"),
    _archive("tar of links", "a.tar", _tar(_entry("a.txt", tarfile.SYMTYPE)), NOTHING, "a link", slow=False),
    _archive("tar of hard links", "a.tar", _tar(_entry("a.txt", tarfile.LNKTYPE)), NOTHING, "a link"),
    _archive("tar of devices", "a.tar", _tar(_entry("a.txt", tarfile.CHRTYPE)), NOTHING, "no ordinary file"),
    _archive(
        "tar with a name that is not UTF-8", "a.tar", _tar(_entry("b\udcff.txt", size=9)), NOTHING, "is not UTF-8"
    ),
    _archive("tar twice in a file", "a.tar", _tar(_entry("a.txt", size=9)) * 2, "is it two, one after the other"),
    _archive("empty tar", "a.tar", _tar(), "line 1", "empty archive"),
    _archive("damaged tar.gz", "a.tgz", gzip.compress(_tar(_entry("a.txt", size=9)))[:-8] + bytes(8), "damaged"),
)


def _address(name: str, section: str, path: str, *holds: str) -> BadInput:
    """A row about an address where a path belongs."""
    return BadInput(name, PLAN, holds, {"recipe.yaml": f"collect: {{{section}: [{{path: '{path}'}}]}}\n"})


ADDRESSES = (
    _address(
        "http address for a path",
        "files",
        "http://example.org/a.html",
        "http://example.org/a.html is an address",
        "collect.web",
    ),
    _address(
        "https address for a path",
        "files",
        "https://example.org/books.tar",
        "https://example.org/books.tar is an address",
        "collect.web",
        "curl -LO https://example.org/books.tar",
    ),
    _address(
        "address of a web archive for a path",
        "files",
        "https://data.commoncrawl.org/a.warc.gz",
        "is an address",
        "collect.warc",
        "urls",
    ),
    _address(
        "address of a data set for a path",
        "files",
        "https://huggingface.co/datasets/org/set",
        "is an address",
        "collect.huggingface",
        "dataset: org/set",
    ),
    _address(
        "hf address for a path",
        "files",
        "hf://datasets/org/set",
        "hf://datasets/org/set is an address",
        "collect.huggingface",
        "dataset: org/set",
    ),
    _address("s3 address for a path", "files", "s3://bucket/texts", "s3://bucket/texts is an address", "aws s3 cp"),
    _address(
        "gs address for a path", "files", "gs://bucket/texts", "gs://bucket/texts is an address", "gcloud storage"
    ),
    _address(
        "ftp address for a path",
        "files",
        "ftp://example.org/a.txt",
        "ftp://example.org/a.txt is an address",
        "curl -LO",
    ),
    _address("file address for a path", "files", "file:///home/me/texts", "/home/me/texts", "without file://"),
    _address(
        "address of a dump for a path",
        "wikipedia",
        "https://dumps.wikimedia.org/a.xml.bz2",
        "is an address",
        "curl -LO https://dumps.wikimedia.org/a.xml.bz2",
    ),
    _address(
        "address for the path of an archive",
        "warc",
        "https://data.commoncrawl.org/a.warc.gz",
        "is an address",
        "`urls`",
    ),
    _address(
        "address for conversations",
        "conversations",
        "https://huggingface.co/datasets/org/set",
        "is an address",
        "hf download",
    ),
)


def _section(name: str, section: str, entry: str, *holds: str) -> BadInput:
    """A row about an entry that another section reads."""
    return BadInput(name, PLAN, (f"collect.{section}", *holds), {"recipe.yaml": f"collect: {{{section}: [{entry}]}}\n"})


FORMS = (
    _section("site without http", "web", "{urls: [example.org]}", "example.org", "https://example.org"),
    _section("site on s3", "web", "{urls: ['s3://bucket/a']}", "s3://bucket/a", "http"),
    _section("site with a password", "web", "{urls: ['https://me:secret@example.org/']}", "no passwords"),
    _section("site on this machine", "web", "{urls: ['http://localhost/']}", "allow_private"),
    _section("host by its address", "web", "{urls: ['https://a.org/'], hosts: ['https://B.org/']}", "write b.org"),
    _section("host with a port", "web", "{urls: ['https://a.org/'], hosts: ['b.org:8080']}", "write b.org"),
    _section("rule without a slash", "web", "{urls: ['https://a.org/'], include: ['docs/*']}", "it begins with /"),
    _section("rule by its address", "web", "{urls: ['https://a.org/'], exclude: ['https://a.org/x/*']}", "write /x/*"),
    _section("site without a start", "web", "{max_pages: 3}", "give urls or sitemaps"),
    _section(
        "web archive on s3",
        "warc",
        "{urls: ['s3://commoncrawl/a.warc.gz']}",
        "s3://commoncrawl/a.warc.gz",
        "https://data.commoncrawl.org/a.warc.gz",
    ),
    _section("web archive without a place", "warc", "{license: x}", "give either path, or urls and lists"),
    _section(
        "data set by its address",
        "huggingface",
        "{dataset: 'https://huggingface.co/datasets/org/set'}",
        "dataset: org/set",
    ),
    _section("data set with a space", "huggingface", "{dataset: 'my set'}", "not the name of a data set", "OWNER/NAME"),
    _section("data set by hf", "huggingface", "{dataset: 'hf://datasets/org/set'}", "dataset: org/set"),
    _section(
        "data set with a token", "huggingface", "{dataset: org/set, token: hf_abcdefghijklmnopqrst}", "holds no token"
    ),
    _section("unknown encoding", "files", "{path: a.txt, encoding: latin-99}", "latin-99"),
    _section("delimiter of two characters", "files", "{path: a.csv, delimiter: ab}", "one character"),
)

ROWS: tuple[BadInput, ...] = (*WEB_ARCHIVES, *DUMPS, *ARCHIVES, *ADDRESSES, *FORMS)
