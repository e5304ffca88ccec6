"""Bad input that a server gives: traps of web sites, lists of archives, data sets of a hub."""

import gzip
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from bad_input import ADDRESS, EMPTY, BadInput
from bad_sources import COLLECT
from hub_files import Hub, commit_id, serve_hub
from sites import Answer, Handler, bomb, drips, endless, hangs_up, page, serving

LIMITS = "allow_private: true, delay_seconds: 0, timeout_seconds: 1, max_page_bytes: 1000000"
SITE = f"{{name: site, urls: ['{ADDRESS}/'], {LIMITS}}}"
PLAIN = {"Content-Type": "text/plain"}


def _served(pages: Mapping[str, Any]) -> Callable[[], AbstractContextManager[str]]:
    @contextmanager
    def serve() -> Iterator[str]:
        with serving(pages) as site:
            yield site.url("").rstrip("/")

    return serve


def _site(name: str, pages: Mapping[str, Any], *holds: str, source: str = SITE) -> BadInput:
    """A row about a site of such pages, of which none can be kept."""
    recipe = {"recipe.yaml": f"collect: {{web: [{source}]}}\n"}
    return BadInput(
        name, COLLECT, ("no page could be fetched", *holds), recipe, home=EMPTY, slow=True, serve=_served(pages)
    )


def moved(where: str) -> Answer:
    return Answer(b"", 302, {"Location": where})


TRAPS: Mapping[str, tuple[Answer | Handler, str]] = {  # an address that gives no page, and what is said of it
    "page that is not there": (Answer(b"no", 404), "HTTP 404"),
    "page that drips": (drips, "took longer than timeout_seconds"),
    "page that never ends": (endless, "more than max_page_bytes"),
    "bomb of a page": (bomb, "more than max_page_bytes, unpacked"),
    "server that hangs up": (hangs_up, "the connection was closed"),
    "redirect to a private address": (moved("http://169.254.169.254/latest"), "leads to another host"),
    "redirect to a file": (moved("file:///etc/passwd"), "it leads to file:///etc/passwd"),
    "page of another type": (Answer(b"%PDF-1.4", 200, {"Content-Type": "application/pdf"}), "is not a page"),
    "empty page": (Answer(b" \n"), "empty page"),
    "page that fails": (Answer(b"oh", 500), "HTTP 500"),
    "page that is asked too much": (Answer(b"oh", 429), "HTTP 429"),
    "page with a login": (Answer(b"oh", 401), "HTTP 401"),
}
FORBIDS = Answer(b"User-agent: *\nDisallow: /", 200, PLAIN)
SITES = (
    *(_site(name, {"/": answer}, reason) for name, (answer, reason) in TRAPS.items()),
    _site("redirect to itself", {"/": moved("/")}, "an address that was asked already"),
    _site("redirects without end", {f"/{n or ''}": moved(f"/{n + 1}") for n in range(20)}, "max redirections"),
    _site("site that asks to wait for a day", {"/": Answer(b"", 429, {"Retry-After": "86400"})}, "wait 86,400 s"),
    _site("robots.txt that forbids all", {"/": page("x"), "/robots.txt": FORBIDS}, "Forbidden by robots.txt"),
    _site("robots.txt that fails", {"/": page("x"), "/robots.txt": Answer(b"", 503)}, "cannot be reached (HTTP 503)"),
    _site("sitemap that is none", {"/": page("x")}, "not a sitemap", source=SITE.replace("urls", "sitemaps")),
    _site("sitemap that is not there", {}, "HTTP 404", source=SITE.replace("urls", "sitemaps")),
)


def _without_text(name: str, answer: Answer, *holds: str) -> BadInput:
    """A row about a site whose only page is fetched and holds no text."""
    recipe = {"recipe.yaml": f"collect: {{web: [{SITE}]}}\n"}
    return BadInput(
        name,
        COLLECT,
        ("no document was kept", "source site", *holds),
        recipe,
        home=EMPTY,
        slow=True,
        serve=_served({"/": answer}),
    )


def _list(name: str, pages: Mapping[str, Any], *holds: str, private: bool = True) -> BadInput:
    """A row about web archives that a list on a server names."""
    source = f"{{lists: ['{ADDRESS}/warc.paths'], base: '{ADDRESS}/', allow_private: {str(private).lower()}}}"
    recipe = {"recipe.yaml": f"collect: {{warc: [{source}]}}\n"}
    return BadInput(name, COLLECT, holds, recipe, home=EMPTY, slow=True, serve=_served(pages))


PATHS = Answer(b"a.warc\n", 200, PLAIN)
SITES = (
    *SITES,
    _without_text("page that is binary", Answer(bytes(range(256)) * 9), "1 content_type"),
    _without_text("page without text", Answer(b"<html><script>x()</script></html>"), "1 no_text"),
    _without_text(
        "page that was not found and says 200",
        page("Sorry, there is no such page.", title="Page not found"),
        "1 not_found",
    ),
    _list("list that is not there", {}, "/warc.paths: there is no such file (HTTP 404)"),
    _list(
        "list that is cut",
        {"/warc.paths": Answer(gzip.compress(b"a.warc\n" * 99)[:-9])},
        "/warc.paths: the list is cut",
    ),
    _list("list that leads to files", {"/warc.paths": Answer(b"file:///etc/passwd\n")}, "no path of a file"),
    _list("empty list", {"/warc.paths": Answer(b"\n")}, "/warc.paths", "names no file"),
    _list("list that names what is not there", {"/warc.paths": PATHS}, "/a.warc: there is no such file (HTTP 404)"),
    _list("list that names a page", {"/warc.paths": PATHS, "/a.warc": page("Words.")}, "no header of a record"),
    _list("list on this machine", {"/warc.paths": PATHS}, "allow_private", private=False),
    _list("web archive behind a login", {"/warc.paths": PATHS, "/a.warc": Answer(b"", 403)}, "/a.warc", "HTTP 403"),
)

FILES = {"data/train.jsonl": b'{"body": "Words."}\n', "one/x.json": b"[]", "two/x.json": b"[]"}


def _hub(
    name: str, settings: str, *holds: str, files: Mapping[str, bytes] = FILES, more: str = "", **how: Any
) -> BadInput:
    """A row about a data set of a hub that behaves so."""

    @contextmanager
    def serve() -> Iterator[str]:
        with serve_hub(Hub("org/set", {commit_id(1): dict(files)}, {"main": commit_id(1)}, **how)) as hub:
            yield hub.url

    recipe = {"recipe.yaml": f"collect: {{huggingface: [{{dataset: org/set{settings}}}], max_bad_fraction: 0}}\n"}
    environment = {
        "HF_ENDPOINT": ADDRESS,
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "",
        **({"HF_HUB_OFFLINE": more} if more else {}),
    }
    return BadInput(
        name, COLLECT, ("org/set", *holds), recipe, home=EMPTY, environment=environment, slow=True, serve=serve
    )


HUBS = (
    _hub("data set without the field", "", "no field 'text'", "They have: body"),
    _hub(
        "data set without the split",
        ", split: test",
        "no file of revision main is of split test",
        "Set config and split",
    ),
    _hub("data set without the revision", ", revision: v2", "HTTP 404", "no revision v2"),
    _hub("data set that is private", "", "HTTP 401", "HF_TOKEN", refuse=401),
    _hub("data set that asks for consent", "", "HTTP 403", "ask on its page", refuse=403),
    _hub("globs that match no file", ", files: ['*.csv']", "no file of revision main", "`files`"),
    _hub(
        "data set that changed under its commit",
        "",
        "is not what the hub lists",
        served={"data/train.jsonl": b'{"body": "Wrong."}\n'},
    ),
    _hub("hub that is offline", "", "HF_HUB_OFFLINE is set", more="1"),
    _hub(
        "Parquet of a hub that is none", "", "not readable as Parquet", files={"data/train.parquet": b"PAR1 and so on"}
    ),
)
