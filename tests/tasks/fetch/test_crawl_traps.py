"""Traps: each costs itself, and the crawl goes on."""

import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from crawls import bodies, crawled, outcomes, source
from sites import Answer, bomb, drips, endless, hangs_up, page, serving

pytestmark = pytest.mark.slow  # a server and a process each


def calendar(request: BaseHTTPRequestHandler) -> None:
    day = int(request.path.rpartition("=")[2] or 0)
    body = page(f"day {day}", f"/day?n={day + 1}", f"/day?n={day + 2}").body
    request.send_response(200)
    request.send_header("Content-Type", "text/html")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


TRAPS: dict[str, tuple[Any, str]] = {
    "slow drip": (drips, "took longer than timeout_seconds"),
    "endless page": (endless, "more than max_page_bytes"),
    "gzip bomb": (bomb, "more than max_page_bytes, unpacked"),
    "redirect to itself": (Answer(b"", 302, {"Location": "/trap"}), "asked already"),
    "redirect to another host": (Answer(b"", 302, {"Location": "http://169.254.169.254/latest"}), "another host"),
    "redirect to a file": (Answer(b"", 302, {"Location": "file:///etc/passwd"}), "leads to file:///etc/passwd"),
    "hangs up": (hangs_up, "the connection was closed"),
    "not what it says": (Answer(bytes(range(256)) * 10, 200, {"Content-Type": "application/pdf"}), "is not a page"),
    "nothing": (Answer(b"  \n"), "empty page"),
    "server error": (Answer(b"oh", 500), "HTTP 500"),
    "too many requests": (Answer(b"oh", 429), "HTTP 429"),
    "no entry": (Answer(b"oh", 401), "HTTP 401"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_costs_itself(trap: str, home: Path) -> None:
    import re

    made, reason = TRAPS[trap]
    with serving({"/": page("home", "/trap", "/good"), "/trap": made, "/good": page("good")}) as site:
        started = time.monotonic()
        settings = {"timeout_seconds": 1.5, "max_page_bytes": 2**20}
        artifact, _ = crawled(home, source(site, **settings))
        assert time.monotonic() - started < 60
        assert sorted(bodies(artifact)) == ["", "good"]
        outcome, said = outcomes(artifact)["trap"]
        assert outcome in ("failed", "refused", "left out", "asked") and re.search(reason, said), said


def test_a_calendar_without_end_ends(home: Path) -> None:
    with serving({"/": page("home", "/day?n=0")}) as site:
        site.pages |= {f"/day?n={number}": calendar for number in range(1000)}
        artifact, _ = crawled(home, source(site, max_depth=900))
        assert 50 < len(bodies(artifact)) <= 101
        left = [reason for outcome, reason in outcomes(artifact).values() if outcome == "left out"]
        assert left and all("differ from it in their query alone" in reason for reason in left)
        few, _ = crawled(home, source(site, max_depth=900, max_queries=5, name="few"))
        assert 5 <= len(bodies(few)) <= 6


def test_links_that_all_pages_have_are_no_calendar(home: Path) -> None:
    links = [f"/read?id={number}" for number in range(30)]
    with serving({"/": page("home", *links)}) as site:
        site.pages |= {link: page(link, *links) for link in links}
        artifact, _ = crawled(home, source(site))
        assert len(bodies(artifact)) == 31
        site.pages["/read?id=9"] = page("9", *links, "/read?id=new")
        site.pages["/read?id=new"] = page("new")
        artifact, _ = crawled(home, source(site), force=True)
        assert "read?id=new" in bodies(artifact)
