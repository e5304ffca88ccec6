"""The recipe `site`: a crawl becomes documents; what has not changed costs nothing, what has changed only itself."""

import json
from pathlib import Path
from typing import Any

import pytest
from sites import Answer, Site, page, serving
from support import Command

WORDS = "the quick brown fox jumps over a lazy dog while some more words of the same page go on and on until the end"


def settings(site: Site, *more: str) -> list[str]:
    values = (f"urls=[{site.url()}]", "allow_private=true", "delay_seconds=0", *more)
    chosen = [word for value in values for word in ("--set", f"collect.web.0.{value}")]
    return [*chosen, "--set", "collect.heldout_fraction=0"]  # the port is in the addresses, by which pages are split


def pages(count: int) -> dict[str, Any]:
    """A small site whose every page has the same navigation and a text of its own."""
    links = [f"/{number}" for number in range(count)]
    found = {"/": page("A home page that says where all else is. " + WORDS, *links, title="Home")}
    for number in range(count):
        text = f"Article number {number} is about {number * 7 + 1} things and {WORDS} number {number}. " * 3
        found[f"/{number}"] = page(text, "/", *links, title=f"Article {number}")
    return found


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    return {row["stage"]: row["outcome"] for row in report["stages"]}


def test_a_site_becomes_documents_and_a_changed_extraction_fetches_nothing(home: Path, command: Command) -> None:
    with serving(pages(12)) as site:
        arguments = ("site", "--plain", "--to", "collect", "--json")
        first = command.json("run", *arguments, *settings(site), home=home)
        assert outcomes(first) == {"fetch": "built", "collect": "built"}
        summary = first["stages"][1]["artifact"]["summary"]
        assert summary["kept"] == 13 and summary["site.kept"] == 13
        row = json.loads(command("cat", "latest/collect/documents", "--limit", "3", home=home)[1].splitlines()[1])
        assert row["url"].startswith(site.url()) and "Article number" in row["text"] and row["title"]
        asked = len(site.asked)
        other = command.json("run", *arguments, *settings(site, "pages.extractor=resiliparse"), home=home)
        assert outcomes(other) == {"fetch": "reused", "collect": "built"} and len(site.asked) == asked
        again = command.json("run", *arguments, *settings(site), home=home)
        assert again["status"] == "reused" and len(site.asked) == asked


def test_what_a_site_has_changed_is_asked_for_and_only_that_is_read_again(home: Path, command: Command) -> None:
    with serving(pages(12)) as site:
        arguments = ("site", "--plain", "--to", "collect", "--json", *settings(site))
        first = command.json("run", *arguments, home=home)
        same = command.json("run", *arguments, "--force", "fetch", home=home)
        assert outcomes(same) == {"fetch": "built", "collect": "reused"}, "equal pages give equal bytes"
        site.pages["/3"] = page("This article is another one now. " + WORDS, "/", title="Article 3")
        changed = command.json("run", *arguments, "--force", "fetch", home=home)
        assert outcomes(changed) == {"fetch": "built", "collect": "built"}
        digests = [report["stages"][1]["artifact"]["digest"] for report in (first, changed)]
        assert digests[0] != digests[1]
        explained = command("explain", "latest", site.url("/3"), home=home)[1]
        assert "collected" in explained


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(b"no", 404), "HTTP 404"),
        (Answer(b"%PDF-1.4", 200, {"Content-Type": "application/pdf"}), "application/pdf is not a page"),
    ],
)
def test_a_site_without_a_page_fails_with_what_it_answered(
    answer: Answer, said: str, home: Path, command: Command
) -> None:
    with serving({"/": answer}) as site:
        status, _, error = command("run", "site", "--plain", *settings(site), home=home)
        assert status == 2 and "no page could be fetched" in error and said in error


def test_a_recipe_without_a_remote_source_has_no_stage_that_fetches(home: Path, command: Command) -> None:
    plan = command.json("plan", "smoke", home=home)
    assert plan["stages"][0]["stage"] == "collect"
    status, _, error = command("plan", "smoke", "--to", "fetch", home=home)
    assert status == 2 and "--to fetch: no such stage" in error


def test_explain_tells_the_way_of_every_page_that_the_crawl_met(home: Path, command: Command) -> None:
    """Kept, redirected, refused, not there, not asked, no page by its words, with nothing but the lines of the site."""
    plain = {"Content-Type": "text/plain"}
    site_pages = pages(40) | {
        "/robots.txt": Answer(b"User-agent: *\nDisallow: /secret\n", 200, plain),
        "/soft": page("Sorry, nothing is here for you to read. Go back to the home page.", title="Page not found"),
        "/bare": page(""),
        "/moved": Answer(b"", 302, {"Location": "/3"}),
        "/deep": page("A page on the way to the deep one. " + WORDS, "/deeper", title="Deep"),
    }
    links = ("/soft", "/bare", "/moved", "/secret", "/gone", "/deep", "/left", "http://elsewhere.example/x")
    site_pages["/"] = page("A home page. " + WORDS, *(f"/{n}" for n in range(40)), *links, title="Home")
    with serving(site_pages) as site:
        arguments = ("site", "--plain", "--to", "collect", *settings(site, "max_depth=1", "exclude=[/left]"))
        assert command("run", *arguments, home=home)[0] == 0

        def way(address: str) -> list[tuple[str, str, str]]:
            url = address if "//" in address else site.url(address)
            found = command.json("explain", "latest", url, home=home)["steps"]
            assert command("explain", "latest", url, home=home)[0] == 0
            return [(step["stage"], step["verdict"], step.get("rule", "") or step.get("reason", "")) for step in found]

        assert way("/3") == [("collect", "collected", "")]
        assert way("/soft") == [("fetch", "fetched", ""), ("collect", "dropped", "not_found")]
        assert way("/bare") == [("fetch", "fetched", ""), ("collect", "dropped", "no_text")]
        assert way("/moved") == [
            ("fetch", "asked", "it led to an address that was asked already"),
            ("collect", "collected", ""),
        ]
        assert way("/secret") == [("fetch", "refused", "Forbidden by robots.txt")]
        assert way("/gone") == [("fetch", "gone", "HTTP 404")]
        ((_, verdict, reason),) = way("/deeper")
        assert verdict == "not asked" and "max_depth" in reason
        assert way("/left")[0][1:] == ("not asked", "its path is one of exclude (/left)")
        ((_, verdict, reason),) = way("http://elsewhere.example/x")
        assert verdict == "not asked" and "`hosts` of the source allows it" in reason
        few = ("site", "--plain", "--to", "collect", *settings(site, "max_pages=3"))
        assert command("run", *few, home=home)[0] == 0
        assert way("/39")[0][1:] == ("not asked", "the crawl ended before it was asked (its limits)")
