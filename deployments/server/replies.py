"""Answers in the shapes of OpenAI's API: whole, and as the pieces of a stream."""

import base64
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.server.answering import Piece
from deployments.server.served import Served
from tasks.answer.token_bytes import token_bytes, token_name


@dataclass
class Choice:
    """One answer as it grows."""

    text: str = ""
    ending: str | None = None
    pieces: list[Piece] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        """Take a further piece."""
        self.text += piece.text
        self.ending = piece.ending
        self.pieces.append(piece)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a route's answers look like: `chat` has messages, else texts."""

    chat: bool
    identity: str
    created: int
    served: Served
    likeliest: int | None  # alternatives of each token; None: no log-probabilities

    def whole(self, choices: Sequence[Choice], usage: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to a request without a stream."""
        made = [
            {
                "index": place,
                **({"message": _message(one.text)} if self.chat else {"text": one.text}),
                "logprobs": self._log_probabilities(one.pieces),
                "finish_reason": one.ending,
            }
            for place, one in enumerate(choices)
        ]
        return {**self._head("chat.completion" if self.chat else "text_completion"), "choices": made, "usage": usage}

    def first(self, place: int) -> str:
        """What a chat's stream begins each choice with."""
        return self._event(place, {"role": "assistant", "content": ""}, None, [])

    def piece(self, place: int, piece: Piece, choice: Choice) -> str:
        """A further piece of a choice, which has it already, in a stream; empty where there is nothing to show."""
        shown = piece.text or (self.likeliest is not None and piece.said(self._token))
        before = len(choice.text) - len(piece.text)
        events = self._event(place, {"content": piece.text}, None, [piece], before) if shown else ""
        return events + (self._event(place, {}, piece.ending, []) if piece.ending is not None else "")

    def usage_event(self, usage: Mapping[str, Any]) -> str:
        """What a stream says of its usage, at its end."""
        return event({**self._head(self._chunk), "choices": [], "usage": usage})

    @property
    def _chunk(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _event(
        self,
        place: int,
        delta: Mapping[str, Any],
        ending: str | None,
        pieces: Sequence[Piece],
        before: int = 0,
    ) -> str:
        said = {"delta": delta} if self.chat else {"text": delta.get("content", "")}
        logprobs = self._log_probabilities(pieces, before) if pieces else None
        choice = {"index": place, **said, "logprobs": logprobs, "finish_reason": ending}
        return event({**self._head(self._chunk), "choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        served = self.served
        return {
            "id": self.identity,
            "object": kind,
            "created": self.created,
            "model": served.name,
            "system_fingerprint": served.digest[:16],
        }

    def _log_probabilities(self, pieces: Iterable[Piece], before: int = 0) -> dict[str, Any] | None:
        """`before` characters were shown before these pieces."""
        if self.likeliest is None:
            return None
        said = [token for piece in pieces for token in piece.said(self._token)]
        if self.chat:
            content = [
                {
                    **_named(one.text),
                    "logprob": one.log_probability,
                    "top_logprobs": [{**_named(other), "logprob": value} for other, value in one.likeliest],
                }
                for one in said
            ]
            return {"content": content}
        offsets = []
        for piece in pieces:  # a token that ends inside a character is where that one will be shown
            place = before
            for one in piece.said(self._token):
                offsets.append(place)
                place += len(one.text)
            before += len(piece.text)
        return {
            "tokens": [_named(one.text)["token"] for one in said],
            "token_logprobs": [one.log_probability for one in said],
            "top_logprobs": [{token_name(other): value for other, value in one.likeliest} for one in said],
            "text_offset": offsets,
        }

    def _token(self, token: int) -> str:
        """The text of a token; bytes of it that are none as surrogates (PEP 383)."""
        return token_bytes(self.served.release.tokenizer, token).decode(errors="surrogateescape")


def usage_of(prompt: int, reused: int, made: int) -> dict[str, Any]:
    """The tokens of a request: of its prompt, how many of them were read before, and of all its answers."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": reused},
    }


def embedding_of(values: Sequence[float], form: str) -> list[float] | str:
    """An embedding as numbers, or as base64 of float32, the lowest byte first, which OpenAI's client asks for."""
    if form == "float":
        return list(values)
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def event(body: Mapping[str, Any]) -> str:
    """One event of a stream (server-sent events)."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def _message(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text, "refusal": None}


def _named(token: str) -> dict[str, Any]:
    data = token.encode(errors="surrogateescape")
    return {"token": data.decode(errors="replace"), "bytes": list(data)}
