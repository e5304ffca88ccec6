"""The pages of one source between its crawls: what was answered, when, and which of it the present crawl has met.

A SQLite file in the home, written page by page: a crawl that was killed goes on with what is missing, the next one asks
for what has changed (ETag, Last-Modified) and does not fetch the rest again. Not an artifact: losing it costs requests.
"""

import json
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

FETCHED, UNCHANGED = "fetched", "unchanged"
MOST_UNASKED = 100_000  # addresses of a crawl that it met and did not ask: links to other hosts may be many more

_TABLES = """
create table if not exists pages (
    url text primary key, status integer, headers text, body blob, received real, checked real
) without rowid;
create table if not exists visits (
    url text primary key, outcome text, reason text, depth integer, final text
) without rowid;
create table if not exists unasked (url text primary key, reason text) without rowid;
create table if not exists crawls (name text primary key, started real, ended real) without rowid;
"""


@dataclass(frozen=True, slots=True)
class StoredPage:
    """An answer: header names and values as bytes of latin-1, body as it came, decoded from its transfer."""

    url: str
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    received: float  # seconds since 1970: when this very body came
    checked: float  # when it was last known to be the present one


@dataclass(frozen=True, slots=True)
class Visit:
    """What became of one address in a crawl. `final` is the address that it led to by redirects, or itself."""

    url: str
    outcome: str
    reason: str = ""
    depth: int = 0
    final: str = ""


class PageStore:
    """The file of one source. One process writes at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._database.execute("pragma journal_mode=wal")
        self._database.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    def begin(self, crawl: str) -> float:
        """Begin a crawl, or go on with it where it was cut off; returns when it began."""
        row = self._row("select started from crawls where name=? and ended is null", crawl)
        if row:
            return float(row[0])
        now = time.time()
        self._database.execute("delete from visits")
        self._database.execute("delete from unasked")
        self._database.execute("delete from crawls")
        self._database.execute("insert into crawls values (?, ?, null)", (crawl, now))
        return now

    def end(self, crawl: str) -> None:
        """Note that a crawl has met all that it was to meet."""
        self._database.execute("update crawls set ended=? where name=?", (time.time(), crawl))

    def page(self, url: str) -> StoredPage | None:
        """What an address last answered."""
        row = self._row("select status, headers, body, received, checked from pages where url=?", url)
        if row is None:
            return None
        status, headers, body, received, checked = row
        pairs = [(name, value) for name, value in json.loads(headers)]
        return StoredPage(url, status, pairs, zlib.decompress(body), received, checked)

    def keep(self, url: str, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Keep an answer; of one with the same body as before its time stays, so that equal pages stay equal."""
        now = time.time()
        before = self.page(url)
        same = before is not None and before.status == status and before.body == body
        if before is not None and same:
            headers = before.headers
        values = (
            url,
            status,
            json.dumps(list(headers)),
            zlib.compress(body),
            before.received if same and before else now,
        )
        self._database.execute("insert or replace into pages values (?, ?, ?, ?, ?, ?)", (*values, now))

    def confirm(self, url: str) -> None:
        """Note that the answer kept is still the present one."""
        self._database.execute("update pages set checked=? where url=?", (time.time(), url))

    def begin_visit(self, url: str, depth: int) -> None:
        """Note that an address is asked; what becomes of it takes the place of this."""
        self.visit_once(Visit(url, "asked", "it led to an address that was asked already, or the crawl ended", depth))

    def visit_once(self, visit: Visit) -> None:
        """Note what became of one that nothing is known of."""
        self._database.execute("insert or ignore into visits values (?, ?, ?, ?, ?)", _visit_row(visit))

    def broke(self, url: str, reason: str) -> None:
        """Note that the answer of an address could not be read to its end; a page that was kept is kept."""
        outcome = "case outcome when 'asked' then 'failed' when 'sitemap' then 'failed' else outcome end"
        self._database.execute(f"update visits set outcome={outcome}, reason=? where url=?", (reason, url))

    def led(self, url: str, final: str) -> None:
        """Note that an address led to one that was asked already."""
        reason = "it led to an address that was asked already"
        self._database.execute(
            "update visits set reason=?, final=? where url=? and outcome='asked'", (reason, final, url)
        )

    def visit(self, visit: Visit) -> None:
        """Note what became of an address in this crawl."""
        self._database.execute("insert or replace into visits values (?, ?, ?, ?, ?)", _visit_row(visit))

    def met(self, addresses: Mapping[str, str]) -> None:
        """Note addresses that a page leads to, each with why it will not be asked, as far as is known now.

        An address that was noted keeps its reason, and past MOST_UNASKED no more are noted.
        """
        (count,) = self._row("select count(*) from unasked") or (0,)
        rows = list(addresses.items())[: max(0, MOST_UNASKED - count)]
        self._database.execute("begin")
        self._database.executemany("insert or ignore into unasked values (?, ?)", rows)
        self._database.execute("commit")

    def unasked(self) -> list[tuple[str, str]]:
        """The addresses that this crawl met and did not ask, with the reason, in order of the address."""
        rows = self._database.execute(
            "select url, reason from unasked where url not in (select url from visits) order by url"
        )
        return [(str(url), str(reason)) for url, reason in rows]

    def visits(self) -> Iterator[Visit]:
        """All addresses of this crawl, in order of the address."""
        with closing(self._database.cursor()) as cursor:
            for url, outcome, reason, depth, final in cursor.execute(
                "select url, outcome, reason, depth, final from visits order by url"
            ):
                yield Visit(url, outcome, reason, depth, final)

    def forget_unvisited(self) -> list[str]:
        """Forget the pages that this crawl has not kept; returns the addresses of those that the crawl before had."""
        kept = "(select final from visits where outcome in (?, ?))"
        outcomes = (FETCHED, UNCHANGED)
        gone = self._database.execute(
            f"select url from pages where url not in {kept} and received < (select max(started) from crawls) "
            "order by url",
            outcomes,
        )
        addresses = [str(url) for (url,) in gone.fetchall()]
        self._database.execute(f"delete from pages where url not in {kept}", outcomes)
        return addresses

    def _row(self, query: str, *values: object) -> tuple | None:
        row: tuple | None = self._database.execute(query, values).fetchone()
        return row


def _visit_row(visit: Visit) -> tuple[str, str, str, int, str]:
    return visit.url, visit.outcome, visit.reason, visit.depth, visit.final or visit.url


def header(headers: Sequence[tuple[str, str]] | Mapping[str, str], name: str) -> str:
    """The value of a header, whatever its case; empty where it is not there."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return next((value for key, value in pairs if key.lower() == name.lower()), "")
