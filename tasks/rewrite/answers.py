"""Answers that are known: each in a file of its own, by the digest of who was asked what and how.

They lie in the home's cache, so that a run that was killed, or one with a larger budget, asks nothing twice. A file is
written in one step when its answer has come. Prompts and keys are not kept.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from storage.canonical import canonical_json, digest_of
from storage.files import is_utf8, write_atomic

ANSWERED, REFUSED, CUT, FAILED = "answered", "refused", "cut", "failed"
MOST_TOKENS = 1 << 40  # that are believed of one answer: their sum still has room in 64 bits


@dataclass(frozen=True, slots=True)
class Answer:
    """A text, or why there is none; `tokens` of prompt and answer together (None: not known), `why` it failed."""

    state: str
    text: str = ""
    tokens: int | None = None
    why: str = ""


def believed_tokens(stated: object) -> int | None:
    """A count of tokens as a server or a file states it; None where it can be none."""
    return stated if type(stated) is int and 0 <= stated < MOST_TOKENS else None


class Known:
    """The answers in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, question: dict[str, Any]) -> Answer | None:
        """The answer to a question; None where there is none, or a file is damaged."""
        try:
            answer = Answer(**json.loads(self._path(question).read_bytes()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return answer if _is_whole(answer) else None

    def keep(self, question: dict[str, Any], answer: Answer) -> None:
        """Keep an answer; one that failed may come another time."""
        if answer.state != FAILED:
            path = self._path(question)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, canonical_json(asdict(answer)))

    def _path(self, question: dict[str, Any]) -> Path:
        digest = digest_of(question)
        return self._folder / digest[:2] / f"{digest}.json"


def _is_whole(answer: Answer) -> bool:
    """Whether an answer that was read is one that can have been kept."""
    texts = all(isinstance(text, str) and is_utf8(text) for text in (answer.text, answer.why))
    counted = answer.tokens is None or believed_tokens(answer.tokens) is not None
    return answer.state in (ANSWERED, REFUSED, CUT) and texts and counted
