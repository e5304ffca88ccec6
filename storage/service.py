"""Who may ask the model server, and what each request has used. The database: database.py.

| table | a row is |
|---|---|
| keys | a key that was given out: its name, the digest of its secret, its limits |
| ledger | a request that was answered, in full or in part: tokens, price, outcome; no text |
| buckets | what is left to a key with a limit of its tokens of a day |
| standing | what moderation has to say of a key: a prompt that was flagged, a stop, leave to go on; no text |

Amounts are whole millionths of the currency, so that sums are exact. Times are UTC, ISO 8601 to the microsecond. A
bucket holds the tokens of a day at most, is filled evenly over a day, and goes below nothing by what passes the limit.
"""

import hashlib
import hmac
import secrets
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from storage.database import Database, database_url
from storage.errors import ConfigError
from storage.files import is_utf8

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, MetaData, Table

SECRET_BYTES, SHOWN_CHARACTERS = 32, 12
MOST_NAME_CHARACTERS = 64
DAY_SECONDS = 86_400
PREFIX = "sk-llmill-"
Grouping = Literal["key", "day", "model"]
Event = Literal["hit", "stopped", "allowed"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may use; None: as much as comes. Requests and tokens are those of a bucket that is filled again evenly
    over a minute and a day; `budget` is in millionths of the currency, over its whole life."""

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key, without its secret, of which the beginning is known."""

    name: str
    begins: str
    plan: str
    limits: Limits
    created: str
    revoked: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A request in the ledger. `key` is empty where none was asked for; `once` is the client's name for the request."""

    request: str
    key: str
    model: str  # the digest
    time: str
    prompt_tokens: int
    cached_tokens: int  # of those of the prompt
    made_tokens: int
    price: int
    outcome: str
    once: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What moderation says of a key: flagged prompts of late, since it was last allowed, and whether it is stopped."""

    hits: int = 0
    stopped: bool = False


def open_service(home: Path) -> "Service":
    """The database that the environment names, else one in the home. ConfigError for one that cannot be used."""
    return Service(database_url(home))


class Service:
    """The tables of one database. Each method is one transaction; StoreError where the database refuses it."""

    def __init__(self, url: str) -> None:
        self._database = Database(url, _tables)

    def add_key(self, name: str, plan: str, limits: Limits) -> str:
        """Give out a key; returns its secret, which nothing can show again. ConfigError for a name that is taken."""
        if not name or len(name) > MOST_NAME_CHARACTERS or not name.isprintable() or not is_utf8(name):
            raise ConfigError(f"NAME {name!r}: write 1 to {MOST_NAME_CHARACTERS} letters that can be shown")
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        key = Key(name, secret[: len(PREFIX) + SHOWN_CHARACTERS - 6], plan, limits, _now())
        row = {**asdict(key), **asdict(limits), "digest": _digest(secret)}
        del row["limits"]
        if any(known.name == name for known in self.keys()):
            raise ConfigError(
                f"NAME {name!r}: there is such a key already, perhaps a revoked one, which the ledger goes on naming; "
                "choose another"
            )
        self._database.do(lambda connection: connection.execute(self._keys.insert(), row))
        return secret

    def keys(self) -> list[Key]:
        """All keys that were given out, the first first; revoked ones too."""
        rows = self._database.do(
            lambda connection: connection.execute(self._keys.select().order_by(self._keys.c.id)).all()
        )
        return [_key(row) for row in rows]

    def revoke(self, name: str) -> bool:
        """Take a key back; False where it was revoked before. ConfigError where there is none of the name."""
        known = next((key for key in self.keys() if key.name == name), None)
        if known is None:
            raise ConfigError(f"NAME {name!r}: there is no such key. `llmill keys list` has those there are")
        if known.revoked is not None:
            return False
        change = self._keys.update().where(self._keys.c.name == name).values(revoked=_now())
        self._database.do(lambda connection: connection.execute(change))
        return True

    def key_of(self, secret: str) -> Key | None:
        """The key of a secret; None for one that is not known or was revoked."""
        digest = _digest(secret)
        query = self._keys.select().where(self._keys.c.digest == digest)
        row = self._database.do(lambda connection: connection.execute(query).first())
        if row is None or row.revoked is not None or not hmac.compare_digest(row.digest, digest):
            return None
        return _key(row)

    def note(self, key: str, event: Event, categories: str = "") -> None:
        """Write down a prompt that was flagged, or that the key is stopped or allowed again."""
        row = {"key": key, "time": _now(), "event": event, "categories": categories}
        self._database.do(lambda connection: connection.execute(self._database["standing"].insert(), row))

    def standings(self, since: str, key: str | None = None) -> dict[str, Standing]:
        """How keys stand, those of which anything was noted; hits count since a time."""
        table = self._database["standing"]
        query = table.select().where((table.c.event != "hit") | (table.c.time >= since)).order_by(table.c.id)
        query = query if key is None else query.where(table.c.key == key)
        found: dict[str, Standing] = {}
        for row in self._database.do(lambda connection: connection.execute(query).all()):
            before = found.get(row.key, Standing())
            changed = {"allowed": Standing(), "stopped": Standing(before.hits, True)}
            found[row.key] = changed.get(row.event, Standing(before.hits + 1, before.stopped))
        return found

    def write(self, entry: Entry) -> None:
        """Add to the ledger. A request that a client has named, and sent again, is written once."""
        from sqlalchemy.exc import IntegrityError

        table = self._ledger.c
        known = self._ledger.select().where(table.key == entry.key, table.once == entry.once)

        def add(connection: "Connection") -> None:
            connection.execute(self._ledger.insert(), asdict(entry))
            self._take(connection, entry.key, entry.prompt_tokens + entry.made_tokens)

        try:
            self._database.do(add)
        except IntegrityError as error:
            if entry.once is None or self._database.do(lambda connection: connection.execute(known).first()) is None:
                raise self._database.refusal(error) from error

    def left(self, key: str, most: int) -> float:
        """The tokens that a key with `most` tokens a day may still use now; less than none after one that passed it."""
        from sqlalchemy import select

        query = select(_level(self._buckets, most, time.time())).where(self._buckets.c.key == key)
        level = self._database.do(lambda connection: connection.execute(query).scalar())
        return float(most) if level is None else float(level)

    def spent(self, key: str) -> int:
        """The price of all requests of a key."""
        from sqlalchemy import func, select

        query = select(func.sum(self._ledger.c.price)).where(self._ledger.c.key == key)
        return int(self._database.do(lambda connection: connection.execute(query).scalar()) or 0)

    def _take(self, connection: "Connection", key: str, tokens: int) -> None:
        """Take tokens from a key's bucket, if it has one: one statement, so that servers side by side lose nothing."""
        from sqlalchemy import case, select

        most = connection.execute(select(self._keys.c.tokens_per_day).where(self._keys.c.name == key)).scalar()
        if most is None:
            return
        now, bucket = time.time(), self._buckets
        filled = case((bucket.c.filled < now, now), else_=bucket.c.filled)
        change = bucket.update().where(bucket.c.key == key)
        if not connection.execute(change.values(level=_level(bucket, most, now) - tokens, filled=filled)).rowcount:
            connection.execute(bucket.insert(), {"key": key, "level": most - tokens, "filled": now})

    def usage(self, since: str, by: Grouping, until: str = "") -> list[dict[str, Any]]:
        """Requests, tokens and prices since a time, and before `until` where it is given, summed by key, by day (UTC)
        or by the model's digest."""
        from sqlalchemy import func, select

        table = self._ledger.c
        group = func.substr(table.time, 1, 10) if by == "day" else table[by]
        sums = [
            func.sum(table[name]).label(name) for name in ("prompt_tokens", "cached_tokens", "made_tokens", "price")
        ]
        query = select(group.label(by), func.count().label("requests"), *sums).where(table.time >= since)
        if until:
            query = query.where(table.time < until)
        rows = self._database.do(
            lambda connection: connection.execute(query.group_by(group).order_by(group)).mappings().all()
        )
        return [{name: value if name == by else int(value) for name, value in row.items()} for row in rows]

    @property
    def _keys(self) -> "Table":
        return self._database["keys"]

    @property
    def _ledger(self) -> "Table":
        return self._database["ledger"]

    @property
    def _buckets(self) -> "Table":
        return self._database["buckets"]


def _level(bucket: "Table", most: int, now: float) -> "ColumnElement[float]":
    """What is in a key's bucket now. A clock that is behind another server's fills nothing, and takes no
    time back that is counted."""
    from sqlalchemy import case

    level, filled = bucket.c.level, bucket.c.filled
    since = case((filled < now, now - filled), else_=0.0)
    full = level + since * most / DAY_SECONDS
    return case((full < most, full), else_=float(most))


def _tables() -> "MetaData":
    from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, String, Table, UniqueConstraint

    tables = MetaData()
    limits = ("requests_per_minute", "tokens_per_day", "budget")
    Table(
        "keys",
        tables,
        Column("id", Integer, primary_key=True),
        Column("name", String, unique=True, nullable=False),
        Column("digest", String, unique=True, nullable=False),
        Column("begins", String, nullable=False),
        Column("plan", String, nullable=False),
        Column("created", String, nullable=False),
        Column("revoked", String),
        *(Column(name, BigInteger) for name in limits),
    )
    numbers = ("prompt_tokens", "cached_tokens", "made_tokens", "price")
    Table(
        "ledger",
        tables,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("request", String, unique=True, nullable=False),
        Column("key", String, nullable=False, index=True),
        Column("model", String, nullable=False),
        Column("time", String, nullable=False, index=True),
        *(Column(name, BigInteger, nullable=False) for name in numbers),
        Column("outcome", String, nullable=False),
        Column("once", String),
        UniqueConstraint("key", "once"),
    )
    Table(
        "buckets",
        tables,
        Column("key", String, primary_key=True),
        Column("level", Float, nullable=False),
        Column("filled", Float, nullable=False),  # seconds since 1970, when the level was so
    )
    Table(
        "standing",
        tables,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("key", String, nullable=False, index=True),
        Column("time", String, nullable=False),
        Column("event", String, nullable=False),
        Column("categories", String, nullable=False),
    )
    return tables


def _key(row: Any) -> Key:
    limits = Limits(row.requests_per_minute, row.tokens_per_day, row.budget)
    return Key(row.name, row.begins, row.plan, limits, row.created, row.revoked)


def _digest(secret: str) -> str:
    """Of 256 random bits nothing slower is needed: they cannot be guessed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def day_ago() -> str:
    """The time 24 hours ago, since which flagged prompts count."""
    return (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="microseconds")
