"""Pages: the main text is found and its neighbours are not; what hangs, explodes or is none costs itself alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import wait_until

from tasks.collect.pages.config import PageConfig
from tasks.collect.pages.reader import Page, PageReader

SENTENCES = {
    "en": "The river rises in the hills above the town and reaches the sea after two hundred miles.",
    "de": "Der Fluss entspringt in den Hügeln über der Stadt und mündet nach dreihundert Kilometern ins Meer.",
    "zh": "这条河发源于城镇上方的山丘，流经两百英里后注入大海，沿途灌溉了许多村庄的农田。",
    "th": "แม่น้ำสายนี้มีต้นกำเนิดจากเนินเขาเหนือเมืองและไหลลงสู่ทะเลหลังจากสองร้อยไมล์",
}


def page(text: str, head: str = "", lang: str = "en") -> str:
    """A page with a menu, four paragraphs of a text and a footer."""
    body = "".join(f"<p>{text} ({number})</p>" for number in range(4))
    menu = "<nav><ul><li><a href='/'>Start here</a></li><li><a href='/shop'>Our shop</a></li></ul></nav>"
    return (
        f"<!DOCTYPE html><html lang='{lang}'><head><title>Rivers | Site</title>{head}</head><body>{menu}"
        f"<article><h1>Rivers</h1>{body}</article><footer>All rights reserved, cookies, imprint</footer></body></html>"
    )


@pytest.fixture(scope="module")
def reader() -> Iterator[PageReader]:
    with PageReader(PageConfig()) as made:
        yield made


def read(reader: PageReader, body: bytes | str, charset: str = "") -> Page:
    found = reader.read(body if isinstance(body, bytes) else body.encode(), charset=charset)
    assert isinstance(found, Page), found
    return found


@pytest.mark.parametrize("extractor", ["trafilatura", "resiliparse"])
@pytest.mark.parametrize("lang", SENTENCES)
def test_the_main_text_is_found_and_what_is_around_it_is_not(extractor: str, lang: str) -> None:
    with PageReader(PageConfig(extractor=extractor)) as reader:
        found = read(reader, page(SENTENCES[lang], lang=lang))
    assert found.text.count(SENTENCES[lang]) == 4
    assert "shop" not in found.text
    assert "imprint" not in found.text
    assert (found.title, found.lang) == ("Rivers", lang)


FORMS = page(SENTENCES["en"]).replace(
    "</article>",
    "<h2>Towns</h2><ul><li>Oxford</li><li>Reading<ol><li>Caversham</li></ol></li></ul>"
    "<pre><code>def flow(x):\n    y = x * 2\n\n    return y</code></pre><p>It is a_name of <b>bold</b> words.</p>"
    "<table><tr><th>Town</th><th>Mile</th></tr><tr><td>Oxford</td><td>10 | 12</td></tr></table></article>",
)


def test_headings_lists_code_and_tables_stay_as_markdown(reader: PageReader) -> None:
    text = read(reader, FORMS).text
    assert "## Towns" in text
    assert "- Oxford\n- Reading\n  1. Caversham" in text
    assert "```\ndef flow(x):\n    y = x * 2\n\n    return y\n```" in text
    assert "It is a_name of bold words." in text
    assert "| Town | Mile |\n|---|---|\n| Oxford | 10 \\| 12 |" in text


def test_forms_that_are_not_kept_are_plain_lines() -> None:
    with PageReader(PageConfig(keep=())) as reader:
        text = read(reader, FORMS).text
    assert "\nTowns\n" in text
    assert "\nOxford\nReading\n" in text
    assert "\ndef flow(x):\n" in text
    assert not {"#", "```", "|", "- "} & {mark for mark in ("#", "```", "|", "- ") if mark in text}


def test_a_page_says_its_licence_day_and_address(reader: PageReader) -> None:
    head = (
        "<link rel='license' href='https://creativecommons.org/licenses/by/4.0/'>"
        "<meta property='article:published_time' content='2024-05-06T10:00:00Z'>"
        "<link rel='canonical' href='https://example.org/rivers'>"
    )
    found = read(reader, page(SENTENCES["en"], head))
    assert found.license == "https://creativecommons.org/licenses/by/4.0/"
    assert (found.date, found.url) == ("2024-05-06", "https://example.org/rivers")
    unsaid = read(reader, page(SENTENCES["en"], lang=""))
    assert (unsaid.lang, unsaid.license, unsaid.date, unsaid.url) == ("", "", "", "")


def test_a_licence_is_joined_to_the_address_of_the_page(reader: PageReader) -> None:
    body = page(SENTENCES["en"]).replace("</article>", "<a rel='license' href='/terms'>Terms</a></article>")
    found = reader.read(body.encode(), url="https://example.org/a/b")
    assert isinstance(found, Page)
    assert (found.license, found.url) == ("https://example.org/terms", "https://example.org/a/b")


META = "<meta charset='{}'>"


@pytest.mark.parametrize(
    ("encoding", "meta", "header", "lang"),
    [
        ("cp1252", "", "ISO-8859-1", "de"),  # the server says it
        ("cp1252", "iso-8859-1", "", "de"),  # the page says it
        ("cp1252", "utf-8", "windows-1252", "de"),  # the server is right, the page is not
        ("gb18030", "gb2312", "", "zh"),
        ("utf-8", "iso-8859-1", "iso-8859-1", "de"),  # both are wrong, the bytes prove it
        ("utf-8", "iso-8859-1", "", "zh"),
        ("utf-16", "", "iso-8859-1", "de"),  # a byte order mark is above all
        ("utf-8-sig", "windows-1251", "koi8-r", "th"),
        ("iso2022_jp", "iso-2022-jp", "", "ja"),
        ("cp874", "x-unknown", "windows-874", "th"),
        ("utf-8", "utf-16", "", "de"),  # which is not what its own bytes are
    ],
)
def test_the_bytes_are_read_in_their_encoding(
    reader: PageReader, encoding: str, meta: str, header: str, lang: str
) -> None:
    text = SENTENCES.get(lang, "この川は町の上の丘に源を発し、二百マイル流れて海に注ぐ長い川です。")
    body = page(text, META.format(meta) if meta else "", lang).encode(encoding)
    assert text in read(reader, body, header).text


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty page"),
        (b" \r\n\0\0", "empty page"),
        (b"just words and no tag at all, as in a text file", "not HTML"),
        (b"%PDF-1.7 binary", "not HTML but .pdf"),
        (b"PK\x03\x04 binary", "not HTML but .zip"),
        (b"<html><body><script>x = 1</script></body></html>", "no main text"),
        (b"<html><body>" + b"<ul><li>deep " * 5000, "its elements are nested too deep"),
    ],
)
def test_what_is_no_page_is_reported(reader: PageReader, body: bytes, reason: str) -> None:
    assert reader.read(body) == reason


@pytest.mark.parametrize(
    "broken",
    [
        page(SENTENCES["en"])[:-60],  # cut
        page(SENTENCES["en"]).replace("</p>", "").replace("</article>", ""),
        page(SENTENCES["en"]).replace("<article>", "<article><b><i></b></td></tr><p"),
        page(SENTENCES["en"]).replace("<body>", "<body>\x01\x02&#0;&#xffff;&bogus;"),
        "<p>" + SENTENCES["en"] + "</p>",
        page(SENTENCES["en"]).replace(
            "<!DOCTYPE html>",
            "<?xml version='1.0' encoding='utf-8'?><!DOCTYPE bogus [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>",
        ),
    ],
)
def test_broken_html_is_read_as_far_as_it_goes(reader: PageReader, broken: str) -> None:
    text = read(reader, broken).text
    assert SENTENCES["en"] in text
    assert "root:" not in text


def test_a_long_page_is_read_whole_and_a_longer_one_is_refused() -> None:
    body = page("").replace("</article>", "<p>" + SENTENCES["en"] * 50_000 + "</p></article>").encode()
    assert len(body) > 4 * 2**20
    with PageReader(PageConfig(extractor="resiliparse")) as reader:
        assert read(reader, body).text.count("The river rises") == 50_000
    with PageReader(PageConfig(max_bytes=4 * 2**20)) as reader:
        assert reader.read(body) == f"the page has {len(body):,} bytes, max_bytes is 4,194,304"


SLOW = b"<html><body><p " + b" ".join(b"a%d=1" % number for number in range(200_000)) + b">some words</p></body></html>"
LARGE = b"<html><body><article>" + b"<p><a href=/x>link</a> some words</p>" * 300_000 + b"</article></body></html>"


@pytest.mark.parametrize(
    ("body", "settings", "reason"),
    [
        (SLOW, {"seconds": 1}, "timed out after 1 s"),
        (LARGE, {"max_memory_bytes": 2**29}, "it takes more memory than max_memory_bytes allows"),
    ],
    ids=["hangs", "explodes"],
)
def test_a_page_that_costs_too_much_costs_itself_alone(body: bytes, settings: dict[str, int], reason: str) -> None:
    good = page(SENTENCES["en"])
    with PageReader(PageConfig.model_validate(settings)) as reader:
        before = read(reader, good)
        assert reader.read(body) == reason
        assert read(reader, good) == before


def test_what_comes_out_does_not_depend_on_what_was_read_before() -> None:
    """The library has caches, and leaves out what it has seen often, if it is told to."""
    pages = [page(SENTENCES["en"]), FORMS, page(SENTENCES["zh"], lang="zh")]
    with PageReader(PageConfig()) as reader:
        first = [read(reader, one) for one in pages]
        again = [read(reader, one) for one in reversed(pages * 4)]
    assert again == list(reversed(first * 4))


def test_unicode_is_repaired_by_choice() -> None:
    spoiled = SENTENCES["de"].encode().decode("cp1252")
    with PageReader(PageConfig()) as reader:
        assert spoiled in read(reader, page(spoiled)).text
    with PageReader(PageConfig(repair_unicode=True)) as reader:
        found = read(reader, page(spoiled))
        assert SENTENCES["de"] in found.text
        assert found.repaired
        assert not read(reader, page(SENTENCES["de"])).repaired


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom tasks.collect.pages.config import PageConfig\n"
        "from tasks.collect.pages.reader import PageReader\n"
        "reader = PageReader(PageConfig())\nreader.read(b'<p>words</p>')\n"
        "print(reader._child._process.pid, flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.kill()
    parent.wait()
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "the child is gone")


def test_a_child_that_is_killed_is_started_again(reader: PageReader) -> None:
    before = read(reader, FORMS)
    process = reader._child._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.1)
    assert read(reader, FORMS) == before
