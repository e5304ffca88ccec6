"""Who may ask the model server, and what each request has used. The database: database.py.

| table | a row is |
|---|---|
| keys | a key that was given out: its name, the digest of its secret, its limits |
| ledger | a request that was answered, in full or in part: tokens, price, outcome; no text |
| standing | what moderation has to say of a key: a prompt that was flagged, a stop, leave to go on; no text |

Amounts are whole millionths of the currency, so that sums are exact. Times are UTC, ISO 8601 to the microsecond.
"""

import hashlib
import hmac
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from storage.database import Database, database_url
from storage.errors import ConfigError
from storage.files import is_utf8

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table

SECRET_BYTES, SHOWN_CHARACTERS = 32, 12
MOST_NAME_CHARACTERS = 64
PREFIX = "sk-llmill-"
Grouping = Literal["key", "day", "model"]
Event = Literal["hit", "stopped", "allowed"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may use; None: as much as comes. `budget` is in millionths of the currency, over its whole life."""

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
        try:
            self._database.do(lambda connection: connection.execute(self._ledger.insert(), asdict(entry)))
        except IntegrityError as error:
            if entry.once is None or self._database.do(lambda connection: connection.execute(known).first()) is None:
                raise self._database.refusal(error) from error

    def used(self, key: str, since: str = "") -> tuple[int, int]:
        """Tokens (of prompts and made) and price of a key's requests since a time."""
        from sqlalchemy import func, select

        table = self._ledger.c
        query = select(func.sum(table.prompt_tokens + table.made_tokens), func.sum(table.price))
        query = query.where(table.key == key, table.time >= since)
        tokens, price = self._database.do(lambda connection: connection.execute(query).one())
        return int(tokens or 0), int(price or 0)

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


def _tables() -> "MetaData":
    from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, UniqueConstraint

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
