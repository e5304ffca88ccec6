"""A crawl stays where it may go, obeys robots.txt, survives traps and kills, and asks again only for what changed."""

import gzip
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from crawls import bodies, crawled, outcomes, source
from sites import Answer, Site, hangs_up, page, serving
from support import ROOT, wait_until

from storage.errors import DataError
from tasks.fetch.addresses import is_public, literal_address
from tasks.fetch.config import CrawlSource
from tasks.fetch.retry_after import seconds_asked

pytestmark = pytest.mark.slow  # a server and a process each


ROBOTS = Answer(b"User-agent: *\nDisallow: /secret\n\nUser-agent: llmill\nDisallow: /secret\nDisallow: /ours\n")
PLAIN = {"Content-Type": "text/plain"}
SITE: dict[str, Any] = {
    "/robots.txt": Answer(ROBOTS.body, 200, PLAIN),
    "/": page("home", "/a", "/secret/x", "/ours", "http://elsewhere.example/", "/picture", "/missing", "/moved"),
    "/a": page("a", "/b#part", "/b", "mailto:x@example.org"),
    "/b": page("b", "/c"),
    "/c": page("c"),
    "/d": page("d"),
    "/picture": Answer(b"\x89PNG" + bytes(2_000_000), 200, {"Content-Type": "image/png"}),
    "/moved": Answer(b"", 302, {"Location": "/d"}),
}


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(SITE) as served:
        yield served


def test_it_follows_links_and_says_what_became_of_every_address(home: Path, site: Site) -> None:
    artifact, summary = crawled(home, source(site))
    assert outcomes(artifact) == {
        "": ("fetched", ""),
        "a": ("fetched", ""),
        "b": ("fetched", ""),
        "c": ("fetched", ""),
        "moved": ("fetched", ""),
        "missing": ("gone", "HTTP 404"),
        "secret/x": ("refused", "Forbidden by robots.txt"),
        "ours": ("refused", "Forbidden by robots.txt"),
        "picture": ("left out", "image/png is not a page"),
    }
    assert sorted(bodies(artifact)) == ["", "a", "b", "c", "d"] and bodies(artifact)["b"] == SITE["/b"].body
    assert summary["pages"] == 5 and summary["site.fetched"] == 5 and summary["site.gone"] == 1
    assert [path for path, _ in site.asked].count("/robots.txt") == 1
    assert site.paths().count("/b") == 1, "an address is asked once"
    assert all(headers["user-agent"].startswith("llmill/") for _, headers in site.asked)


def test_the_second_crawl_fetches_what_changed_and_drops_what_is_gone(home: Path, site: Site) -> None:
    first, _ = crawled(home, source(site))
    site.asked.clear()
    same, summary = crawled(home, source(site), force=True)
    assert summary["site.unchanged"] == 5 and "site.fetched" not in summary
    assert same["files"].digest == first["files"].digest, "equal pages give equal bytes"
    site.pages["/b"] = page("another b")  # does not lead to /c any more
    del site.pages["/d"]
    changed, summary = crawled(home, source(site), force=True)
    assert outcomes(changed)["b"] == ("fetched", "") and outcomes(changed)["a"] == ("unchanged", "")
    assert sorted(bodies(changed)) == ["", "a", "b"] and b"another b" in bodies(changed)["b"]
    assert "2 pages of the crawl before are gone" in summary["notices"][0]


def test_a_page_that_gives_no_answer_this_time_is_kept(home: Path, site: Site) -> None:
    crawled(home, source(site))
    site.pages["/c"] = hangs_up
    again, _ = crawled(home, source(site), force=True)
    outcome, reason = outcomes(again)["c"]
    assert outcome == "unchanged" and reason.startswith("kept from before: ")
    assert bodies(again)["c"] == SITE["/c"].body


@pytest.mark.parametrize("status", [429, 503])
def test_a_page_of_a_server_in_trouble_is_kept(status: int, home: Path, site: Site) -> None:
    crawled(home, source(site))
    site.pages["/c"] = site.pages["/d"] = Answer(b"oh", status)
    again, summary = crawled(home, source(site), force=True)
    assert outcomes(again)["c"] == outcomes(again)["moved"] == ("unchanged", f"kept from before: HTTP {status}")
    assert bodies(again)["c"] == SITE["/c"].body and bodies(again)["d"] == SITE["/d"].body
    assert "are gone" not in str(summary["notices"])


def test_pages_that_a_limit_leaves_out_are_not_called_gone(home: Path, site: Site) -> None:
    crawled(home, source(site))
    _, summary = crawled(home, source(site, max_pages=2), force=True)
    assert "3 pages of the crawl before are gone, or were not reached before its limit," in str(summary["notices"])


def test_limits_and_rules_of_the_source_hold(home: Path, site: Site) -> None:
    near, _ = crawled(home, source(site, max_depth=1, exclude=("/m*", "/p*")))
    assert sorted(outcomes(near)) == ["", "a", "ours", "secret/x"]
    few, summary = crawled(home, source(site, max_pages=2, name="few"))
    assert len(bodies(few)) == 2 and "ended at max_pages (2)" in summary["notices"][0]
    only, _ = crawled(home, source(site, include=("/a",), name="only"))
    assert sorted(bodies(only)) == ["", "a"]


def test_sitemaps_name_pages_that_no_link_leads_to(home: Path) -> None:
    xml = {"Content-Type": "application/xml"}
    with serving({"/x": page("x"), "/y": page("y")}) as site:
        names = "".join(f"<url><loc>{site.url(path)}</loc></url>" for path in ("/x", "/y"))
        inner = f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{names}</urlset>'.encode()
        packed = {"Content-Type": "application/gzip"}
        site.pages["/inner.xml.gz"] = Answer(gzip.compress(inner), 200, packed)
        index = f"<sitemapindex><sitemap><loc>{site.url('/inner.xml.gz')}</loc></sitemap></sitemapindex>"
        site.pages["/sitemap.xml"] = Answer(index.encode(), 200, xml)
        artifact, _ = crawled(home, source(site, urls=(), sitemaps=(site.url("/sitemap.xml"),)))
        assert sorted(bodies(artifact)) == ["x", "y"]


URLSET = '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{}</urlset>'


def test_what_a_sitemap_names_is_fetched_or_counted(home: Path) -> None:
    with serving({"/x": page("x")}) as site:
        places = ("http://[bad/", "http://elsewhere.example/y", "", site.url("/x"))
        names = "".join(f"<url><loc>{place}</loc></url>" for place in places)
        site.pages["/sitemap.xml"] = Answer(URLSET.format(names).encode(), 200, {"Content-Type": "application/xml"})
        artifact, _ = crawled(home, source(site, urls=(), sitemaps=(site.url("/sitemap.xml"),)))
        assert sorted(bodies(artifact)) == ["x"]
        assert outcomes(artifact)["sitemap.xml"] == (
            "sitemap",
            "3 of its 4 pages are left out by hosts, include or exclude",
        )


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("s.xml", URLSET.format("<url><loc>http://elsewhere.example/</loc></url>").encode(), "1 of its 1 pages"),
        ("s.xml", URLSET.format("").encode(), "it names no page"),
        ("s.xml", b"<html>hello", "not a sitemap"),
        ("s.xml", b"no markup", "could not be read"),
        ("s.xml.gz", gzip.compress(bytes(range(256)) * 20)[:40], "could not be read"),
    ],
    ids=["other host", "empty", "page", "text", "damaged"],
)
def test_a_sitemap_that_gives_no_page_is_named(name: str, body: bytes, said: str, home: Path) -> None:
    kind = "application/gzip" if name.endswith("gz") else "application/xml"
    answer = Answer(body, 200, {"Content-Type": kind})
    with serving({f"/{name}": answer}) as site, pytest.raises(DataError, match=said):
        crawled(home, source(site, urls=(), sitemaps=(site.url(f"/{name}"),)))


def test_a_robots_txt_on_another_host_is_obeyed(home: Path, site: Site) -> None:
    site.pages["/robots.txt"] = Answer(b"", 301, {"Location": f"http://localhost:{site.port}/rules"})
    site.pages["/rules"] = Answer(ROBOTS.body, 200, PLAIN)
    artifact, _ = crawled(home, source(site))
    assert outcomes(artifact)["a"] == ("fetched", "")
    assert outcomes(artifact)["secret/x"] == ("refused", "Forbidden by robots.txt")


@pytest.mark.parametrize("status", [404, 403, 410])
def test_without_a_robots_txt_all_may_be_fetched(status: int, home: Path, site: Site) -> None:
    site.pages["/robots.txt"] = Answer(b"Disallow: /", status)
    artifact, _ = crawled(home, source(site, max_depth=0))
    assert sorted(bodies(artifact)) == [""]


@pytest.mark.parametrize("failure", ["503", "silence"])
def test_of_a_server_whose_robots_txt_cannot_be_reached_nothing_is_fetched(
    failure: str, home: Path, site: Site
) -> None:
    site.pages["/robots.txt"] = Answer(b"", 503) if failure == "503" else hangs_up
    with pytest.raises(
        (DataError, ConnectionError), match=r"no page could be fetched:\n.*robots\.txt cannot be reached"
    ):
        crawled(home, source(site))
    assert site.paths() == []


def test_a_crawl_delay_is_kept(home: Path, site: Site) -> None:
    site.pages["/robots.txt"] = Answer(b"User-agent: *\nCrawl-delay: 0.4\nDisallow: /secret", 200, PLAIN)
    started = time.monotonic()
    crawled(home, source(site, max_depth=1, exclude=("/m*", "/p*", "/ours", "/secret*")))  # / and /a
    assert time.monotonic() - started > 0.8


def test_a_host_has_one_request_at_a_time(home: Path) -> None:
    under_way: list[str] = []
    most: list[int] = []

    def slowly(request: BaseHTTPRequestHandler) -> None:
        under_way.append(request.path)
        most.append(len(under_way))
        time.sleep(0.05)
        under_way.remove(request.path)
        request.send_error(404)

    others = {f"/{number}": slowly for number in range(6)}
    with serving({"/": page("home", *others), **others}) as site:
        crawled(home, source(site))
    assert most == [1] * 6


def test_a_robots_txt_that_forbids_more_than_before_is_obeyed(home: Path, site: Site) -> None:
    first, _ = crawled(home, source(site))
    assert "b" in bodies(first)
    site.pages["/robots.txt"] = Answer(b"User-agent: *\nDisallow: /b", 200, PLAIN)
    site.asked.clear()
    again, summary = crawled(home, source(site), force=True)
    assert outcomes(again)["b"] == ("refused", "Forbidden by robots.txt") and "/b" not in site.paths()
    assert "b" not in bodies(again), "nor is what was fetched when it was allowed used"
    assert "pages of the crawl before are gone" in summary["notices"][0]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_left_alone_as_long_as_it_asks(status: int, home: Path) -> None:
    moments: list[float] = []

    def busy_once(request: BaseHTTPRequestHandler) -> None:
        moments.append(time.monotonic())
        body = page("busy").body if len(moments) > 1 else b""
        request.send_response(200 if body else status)
        request.send_header("Retry-After", "2")
        request.send_header("Content-Type", "text/html")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def other(request: BaseHTTPRequestHandler) -> None:
        moments.append(time.monotonic())
        request.send_error(404)

    others = {f"/{number}": other for number in range(5)}
    with serving({"/": page("home", "/busy", *others), "/busy": busy_once, **others}) as site:
        artifact, _ = crawled(home, source(site))
    assert sorted(bodies(artifact)) == ["", "busy"]
    assert moments[1] - moments[0] > 1.9 and len(moments) == 7, "neither it nor another address is asked meanwhile"


def test_a_server_that_asks_to_wait_beyond_the_crawl_is_asked_no_more(home: Path) -> None:
    busy = Answer(b"", 429, {"Retry-After": "7200"})
    with serving({"/": page("home", "/busy", "/a", "/b"), "/busy": busy, "/a": page("a"), "/b": page("b")}) as site:
        artifact, _ = crawled(home, source(site))
        assert outcomes(artifact)["busy"][0] == "refused" and "asks to wait 7,200 s" in outcomes(artifact)["busy"][1]
        assert site.paths().count("/busy") == 1 and site.paths() == ["/", "/busy"]


def test_the_forms_of_retry_after() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < seconds_asked(soon) <= 90
    assert [seconds_asked(value) for value in ("17", " 3 ", "", "-1", "soon", "Mon, 06 May 2024 10:00:00 GMT")] == [
        *(17.0, 3.0),
        *(0.0,) * 4,
    ]


# Addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]", "0"])
def test_this_machine_in_other_words_is_refused(host: str, home: Path, site: Site) -> None:
    address = f"http://{host}:{site.port}/"
    with pytest.raises(DataError, match=r"no page could be fetched"):
        crawled(home, CrawlSource(urls=(address,), delay_seconds=0.0))
    assert site.asked == []


def test_a_name_that_leads_to_a_private_address_is_refused(home: Path, site: Site) -> None:
    name = socket.gethostname()
    try:
        found = socket.gethostbyname(name)
    except OSError:
        pytest.skip("this machine's name cannot be looked up")
    address = literal_address(found)
    if address is None or is_public(address):
        pytest.skip("this machine's name leads to a public address")
    with pytest.raises(DataError, match=r"which is private: allow_private"):
        crawled(home, CrawlSource(urls=(f"http://{name}:{site.port}/",), delay_seconds=0.0))
    assert site.asked == []


# Kills ----------------------------------------------------------------------------------------------------------


PROGRAM = """
import sys
from pathlib import Path
from tasks.engine.builder import builder
from tasks.engine.stage import engine_in_force
from tasks.fetch.config import CrawlSource, FetchConfig
from tasks.fetch.stage import fetch
source = CrawlSource(name="site", urls=(sys.argv[2],), allow_private=True, delay_seconds=0.0, max_depth=500)
with builder(Path(sys.argv[1])) as engine, engine_in_force(engine):
    print(fetch(FetchConfig(web=(source,)))["files"].digest)
"""


def chain(length: int) -> dict[str, Answer]:
    pages = {f"/{number}": page(f"number {number}", f"/{number + 1}") for number in range(1, length)}
    return {"/": page("home", "/1"), **pages, f"/{length}": page("the end")}


def test_a_crawl_that_is_killed_goes_on_with_what_is_missing(home: Path, tmp_path: Path) -> None:
    def slowly(request: BaseHTTPRequestHandler) -> None:
        time.sleep(0.05)
        body = pages[request.path].body
        request.send_response(200)
        request.send_header("Content-Type", "text/html")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    pages = chain(40)
    with serving(dict.fromkeys(pages, slowly)) as site:
        command = [sys.executable, "-c", PROGRAM, str(home), site.url()]
        environment = {**os.environ, "LLMILL_HOME": str(home), "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, env=environment, cwd=tmp_path)
        wait_until(lambda: len(site.paths()) >= 15, "some pages are fetched", process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: _is_quiet(site), "the crawler has ended with its parent")
        before = site.paths()
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        again = site.paths()[len(before) :]
        assert len(set(before) & set(again)) <= 1, "at most the page that was under way"
        assert set(before) | set(again) == set(pages)
        whole = {**environment, "LLMILL_HOME": str(tmp_path / "other")}
        command[3] = str(tmp_path / "other")
        other = subprocess.run(
            command, env=whole, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
        )
        assert other.stdout == done.stdout, "the bytes of a crawl without a kill"


def _is_quiet(site: Site) -> bool:
    count = len(site.asked)
    time.sleep(1.0)
    return len(site.asked) == count
