"""The records of what users have said: where they are, and each as what it says of two answers.

A stage reads them from a file of JSON lines, which `write_records` makes of the database: so that the key of the work
on them is that of what was read, whatever users say in the meantime.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from storage.database import VARIABLE
from storage.documents import ASSISTANT, SYSTEM, USER, Message, Pair
from storage.errors import DataError
from storage.feedback import Feedback, FeedbackStore, Vote, open_feedback
from storage.home import home
from tasks.collect.conversations import Unfit, checked
from tasks.collect.declarations import prompt_from_declaration
from tasks.collect.records import BadRecord, Record, excerpt
from tasks.collect.texts import cleaned

DATABASE = Path("service") / "service.db"  # in the home
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError)

Verdict = Literal["correction", "liked", "disliked", "vote", "undecided"]
_FEEDBACK = ("request", "choice", "time", "user", "form", "messages", "answer", "rating", "correction")
_VOTE = ("request_a", "request_b", "time", "user", "form", "messages", "answer_a", "answer_b", "choice")


@dataclass(frozen=True, slots=True)
class Said:
    """What one record says: `chosen` is better than `rejected`; either may be empty.

    `name` is what ledgers call it, `thread` what it speaks of: of a user's records with one thread the last counts.
    """

    name: str
    time: str
    number: int
    user: str
    thread: str
    verdict: Verdict
    asked: tuple[Message, ...]
    chosen: str
    rejected: str

    @property
    def question(self) -> str:
        """The first question, by which splits are kept apart."""
        return next((message.content for message in self.asked if message.role == USER), "")

    @property
    def texts(self) -> Iterator[str]:
        """All that a model would learn from."""
        yield from (message.content for message in self.asked)
        yield from filter(None, (self.chosen, self.rejected))

    def pair(self, chosen: str, split: str, source: str, rejected: str = "") -> Pair:
        """An answer to what was asked, in the group of the user."""
        asked = list(self.asked)
        prompt = asked.pop().content if asked[-1].role == USER else ""
        return Pair.of(prompt, chosen, f"user#{self.user[:16]}", split, source, tuple(asked), rejected)


def find_records() -> FeedbackStore | None:
    """The database of records; None where no server has made one. ConfigError for one that cannot be used."""
    if not os.environ.get(VARIABLE) and not (home() / DATABASE).exists():
        return None
    return open_feedback(home())


def digest_of_records() -> str:
    """What all records are known by, for a stage's key; empty where there are none."""
    store = find_records()
    return store.digest() if store is not None and store.count() else ""


def write_records(path: Path) -> None:
    """Write all records to a file, a line each. DataError names one that is damaged."""
    with path.open("w", encoding="ascii") as file:
        file.writelines(_line(record) for record in all_records())


def all_records() -> Iterator[Feedback | Vote]:
    """All records, feedback before votes. DataError names one that is damaged."""
    store = find_records()
    if store is None:
        return
    for table, said in (("feedback", store.feedback), ("votes", store.votes)):
        last = 0
        records: Iterator[Feedback | Vote] = said()
        while True:
            try:
                record = next(records, None)
            except UNREADABLE as error:
                raise DataError(
                    f"feedback: a record is damaged, the first after number {last} of the table {table} "
                    f"({type(error).__name__}: {str(error)[:80]}). Delete that row, or learn nothing from users: "
                    "--set retrain.feedback=false, and no collect.feedback in the recipe"
                ) from None
            if record is None:
                break
            last = record.id
            yield record


def _line(record: Feedback | Vote) -> str:
    kind, names = ("vote", _VOTE) if isinstance(record, Vote) else ("feedback", _FEEDBACK)
    fields = {name: getattr(record, name) for name in names}
    fields |= {"messages": [message._asdict() for message in record.messages], "id": record.id, "kind": kind}
    return json.dumps(fields) + "\n"


def read_record(line: str, most_bytes: int, *, declarations: bool) -> Said | BadRecord:
    """The record of a line, or why nothing can be learned from it.

    `declarations`: those of prompts are put into words, as the server does before it asks the model.
    """
    fields = json.loads(line)
    record = Record(fields["id"], fields)
    try:
        asked = _asked(record, most_bytes, declarations=declarations and fields["form"] == "chat")
        verdict, chosen, rejected = _verdict(record, most_bytes)
    except Unfit as unfit:
        return BadRecord(record.line, str(unfit), excerpt(str(fields["messages"])))
    of_vote = fields["kind"] == "vote"
    requests = sorted((fields["request_a"], fields["request_b"])) if of_vote else [fields["request"], fields["choice"]]
    thread = json.dumps([fields["kind"], fields["user"], *requests])
    name = f"{fields['kind']} {record.line}"
    return Said(name, fields["time"], record.line, fields["user"], thread, verdict, asked, chosen, rejected)


def _asked(record: Record, most_bytes: int, *, declarations: bool) -> tuple[Message, ...]:
    messages = [Message(message["role"], message["content"]) for message in record.fields["messages"]]
    said = checked(messages, "messages")
    if not said or said[-1].role in (ASSISTANT, SYSTEM):
        raise Unfit("messages: the last is not a question")
    asked = []
    for role, content in said:
        text = _text(record, "prompt" if role == USER else f"turn ({role})", content, most_bytes)
        asked.append(Message(role, prompt_from_declaration(text) if declarations and role == USER else text))
    return tuple(asked)


def _verdict(record: Record, most_bytes: int) -> tuple[Verdict, str, str]:
    """What a record says, the answer that it speaks for and the one that it speaks against."""
    fields: Mapping[str, Any] = record.fields
    if fields["kind"] == "vote":
        both = [_text(record, f"answer_{one}", fields[f"answer_{one}"], most_bytes, blank=True) for one in "ab"]
        if fields["choice"] not in ("a", "b") or both[0].strip() == both[1].strip():
            return "undecided", "", ""
        chosen, rejected = both if fields["choice"] == "a" else reversed(both)
        return "vote", chosen, rejected
    answer = _text(record, "answer", fields["answer"], most_bytes, blank=True)
    if fields["correction"] is not None:
        correction = _text(record, "correction", fields["correction"], most_bytes)
        if correction.strip() != answer.strip():
            return "correction", correction, answer
        return "liked", answer, ""
    if fields["rating"] == "up":
        return "liked", answer, ""
    return ("disliked", "", answer) if fields["rating"] == "down" else ("undecided", "", "")


def _text(record: Record, field: str, text: str, most_bytes: int, *, blank: bool = False) -> str:
    """A text as it is kept; Unfit for what cannot be. `blank`: one of nothing but white space comes out empty."""
    if blank and not text.strip():
        return ""
    found = cleaned(record, field, text, most_bytes)
    if isinstance(found, BadRecord):
        raise Unfit(found.reason)
    return found
