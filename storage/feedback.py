"""What users say of answers: immutable records, written with consent only. The database: database.py.

| table | a row is |
|---|---|
| feedback | what a user said of one answer: a thumb up or down, what it should have said |
| votes | which of two answers to the same messages a user liked better, not knowing whose they were |
| salts | the one random number by which users are told apart, and not named |

Nothing is changed or overwritten: who says something else later writes another record, and whoever derives data from
them takes the last of a user for an answer. Texts come here with personal data replaced already.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from storage.canonical import canonical_json, digest_of
from storage.database import Database, database_url
from storage.documents import Message

if TYPE_CHECKING:
    from sqlalchemy import MetaData

# `text`: the one message of the user is the beginning of a text, which the answer goes on.
Form = Literal["chat", "text"]
Rating = Literal["up", "down"]
Preference = Literal["a", "b", "tie", "both_bad"]
PAGE_ROWS = 256  # records in memory at once
DIGEST_ROWS = 65_536
SALT_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a user said of an answer. One of `rating` and `correction` at least is there.

    `request` is the id of the reply, `choice` the place of the answer in it; a later record of the same user for the
    same two supersedes this one. `messages` end with the user's, the answer is not among them; `prompt_ids` are all
    tokens that the model had before it, and `answer_ids` those that it made, both of the texts as they are here.
    """

    request: str
    choice: int = 0
    model: str  # the digest
    time: str  # UTC, ISO 8601 to the microsecond
    user: str  # FeedbackStore.user_of
    form: Form
    messages: tuple[Message, ...]
    answer: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    sampling: Mapping[str, Any]  # how the answer was drawn: JSON
    rating: Rating | None = None
    correction: str | None = None
    consent: bool
    id: int = 0  # its place among all; given by the database


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """Which of two answers to the same messages a user liked better. `a` was shown first (left, or above)."""

    request_a: str
    request_b: str
    time: str
    user: str
    form: Form
    messages: tuple[Message, ...]
    model_a: str  # the digest
    answer_a: str
    model_b: str
    answer_b: str
    choice: Preference
    consent: bool
    id: int = 0


def open_feedback(home: Path) -> "FeedbackStore":
    """The one in the service's database. ConfigError for a database that cannot be used."""
    return FeedbackStore(database_url(home))


def utc_now() -> str:
    """The time of a record."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class FeedbackStore:
    """The records of one database. StoreError where the database refuses it."""

    def __init__(self, url: str) -> None:
        self._database = Database(url, _tables)

    def write(self, record: Feedback | Vote) -> int:
        """Keep a record, whole or not at all; returns its id. ValueError for one without consent."""
        if record.consent is not True:
            raise ValueError("nothing is kept without consent")
        row = _row(record)
        insert = self._database["feedback" if isinstance(record, Feedback) else "votes"].insert()
        identity: int = self._database.do(lambda connection: connection.execute(insert, row).inserted_primary_key[0])
        return identity

    def feedback(self, since: str = "") -> Iterator[Feedback]:
        """All feedback since a time, in the order of their ids; a page of it is in memory."""
        return (_feedback(row) for row in self._rows("feedback", since))

    def votes(self, since: str = "") -> Iterator[Vote]:
        """All votes since a time, in the order of their ids; a page of them is in memory."""
        return (_vote(row) for row in self._rows("votes", since))

    def count(self) -> int:
        """How many records there are, of both kinds."""
        from sqlalchemy import func, select

        queries = [select(func.count()).select_from(self._database[name]) for name in ("feedback", "votes")]
        counts: list[int] = self._database.do(lambda connection: [connection.scalar(query) for query in queries])
        return sum(counts)

    def digest(self) -> str:
        """SHA-256 of all records, by the digests that they were written with: no text is read."""
        whole = hashlib.sha256()
        for name in ("feedback", "votes"):
            whole.update(f"{name}\n".encode())
            for row in self._rows(name, "", DIGEST_ROWS, ("id", "digest")):
                whole.update(f"{row.digest}\n".encode())
        return whole.hexdigest()

    def user_of(self, key: str, user: str = "") -> str:
        """A name for a user that names nobody: HMAC-SHA-256 of the key's name and of the user that its owner names,
        by a number that this database alone has."""
        return hmac.new(self._salt(), f"{key}\n{user}".encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

    def _salt(self) -> bytes:
        """The database's; made by whoever asks first."""
        from sqlalchemy.exc import IntegrityError

        table = self._database["salts"]
        known = self._database.do(lambda connection: connection.scalar(table.select().with_only_columns(table.c.salt)))
        if known is None:
            row = {"id": 1, "salt": secrets.token_hex(SALT_BYTES)}
            with suppress(IntegrityError):  # another server was first
                self._database.do(lambda connection: connection.execute(table.insert(), row))
            return self._salt()
        return bytes.fromhex(known)

    def _rows(self, name: str, since: str, size: int = PAGE_ROWS, columns: Sequence[str] = ()) -> Iterator[Any]:
        """Rows in the order of their ids, a page a transaction: nobody who writes waits for a reader."""
        from sqlalchemy import select

        table = self._database[name]
        last = 0
        while True:
            query = select(*(table.c[column] for column in columns or table.c.keys()))
            query = query.where(table.c.id > last, table.c.time >= since).order_by(table.c.id).limit(size)
            page = self._database.do(partial(_all, query))
            if not page:
                return
            yield from page
            last = page[-1].id


def _all(query: Any, connection: Any) -> Sequence[Any]:
    rows: Sequence[Any] = connection.execute(query).all()
    return rows


# Short facts are columns; texts and lists are JSON in one more: PostgreSQL's own texts cannot hold every character.
_FEEDBACK = ("request", "choice", "model", "time", "user", "form", "rating")
_VOTE = ("request_a", "request_b", "time", "user", "form", "model_a", "model_b", "choice")


def _row(record: Feedback | Vote) -> dict[str, Any]:
    said = asdict(record)
    del said["id"], said["consent"]
    said["messages"] = [message._asdict() for message in record.messages]
    names = _FEEDBACK if isinstance(record, Feedback) else _VOTE
    content = {name: value for name, value in said.items() if name not in names}
    facts = {name: said[name] for name in names}
    return {**facts, "content": canonical_json(content).decode(), "digest": digest_of(said)}


def _feedback(row: Any) -> Feedback:
    said = _said(row, _FEEDBACK)
    said |= {name: tuple(said[name]) for name in ("prompt_ids", "answer_ids")}
    return Feedback(**said)


def _vote(row: Any) -> Vote:
    return Vote(**_said(row, _VOTE))


def _said(row: Any, names: tuple[str, ...]) -> dict[str, Any]:
    content = json.loads(row.content)
    content["messages"] = tuple(Message(**message) for message in content["messages"])
    return {**content, **{name: getattr(row, name) for name in names}, "id": row.id, "consent": True}


def _tables() -> "MetaData":
    from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table

    tables = MetaData()
    for name, facts in (("feedback", _FEEDBACK), ("votes", _VOTE)):
        Table(
            name,
            tables,
            Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
            *(
                Column(fact, Integer if (name, fact) == ("feedback", "choice") else String, nullable=fact == "rating")
                for fact in facts
            ),
            Column("content", String, nullable=False),
            Column("digest", String, nullable=False),
            sqlite_autoincrement=True,  # an id that was given once is not given again
        )
    Table("salts", tables, Column("id", Integer, primary_key=True), Column("salt", String, nullable=False))
    return tables
