"""Records of what users have said, for tests: `from users_said import correct, rate, vote, write`."""

from pathlib import Path
from typing import Any

from storage.documents import Message
from storage.feedback import Feedback, Vote, open_feedback

TIME = "2026-12-01T00:00:{:02d}.000000+00:00"


def said(prompt: str, user: str, number: int, **fields: Any) -> Feedback:
    """What a user says of an answer, at second `number` of a minute."""
    given: dict[str, Any] = {
        "request": f"chatcmpl-{number}",
        "model": "d" * 64,
        "time": TIME.format(number % 60),
        "user": user,
        "form": "chat",
        "messages": (Message("user", prompt),),
        "answer": "I do not know.",
        "prompt_ids": (1, 2),
        "answer_ids": (3,),
        "sampling": {"temperature": 0.0},
        "consent": True,
    }
    return Feedback(**(given | fields))


def correct(prompt: str, correction: str, user: str = "a" * 64, number: int = 0, **fields: Any) -> Feedback:
    """A correction."""
    return said(prompt, user, number, correction=correction, **fields)


def vote(prompt: str, better: str, worse: str, user: str = "a" * 64, number: int = 0, **fields: Any) -> Vote:
    """A vote for the answer that was shown first."""
    given: dict[str, Any] = {
        "request_a": f"chatcmpl-{number}a",
        "request_b": f"chatcmpl-{number}b",
        "time": TIME.format(number % 60),
        "user": user,
        "form": "chat",
        "messages": (Message("user", prompt),),
        "model_a": "d" * 64,
        "answer_a": better,
        "model_b": "e" * 64,
        "answer_b": worse,
        "choice": "a",
        "consent": True,
    }
    return Vote(**(given | fields))


def write(home: Path, *records: Feedback | Vote) -> None:
    """Write records to the database of a home."""
    store = open_feedback(home)
    for record in records:
        store.write(record)
