"""Answers in the shapes of OpenAI's API: whole, and as the pieces of a stream."""

import base64
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.server.answering import Piece
from deployments.server.served import Served


@dataclass
class Choice:
    """One answer as it grows."""

    text: str = ""
    tokens: int = 0
    ending: str | None = None
    pieces: list[Piece] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        """Take a further piece."""
        self.text += piece.text
        self.tokens += piece.tokens
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

    def piece(self, place: int, piece: Piece) -> str:
        """A further piece of a stream; empty where there is nothing to show."""
        shown = piece.text or (self.likeliest is not None and piece.said(self._token))
        events = self._event(place, {"content": piece.text}, None, [piece]) if shown else ""
        return events + (self._event(place, {}, piece.ending, []) if piece.ending is not None else "")

    def usage_event(self, usage: Mapping[str, Any]) -> str:
        """What a stream says of its usage, at its end."""
        return event({**self._head(self._chunk), "choices": [], "usage": usage})

    @property
    def _chunk(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _event(self, place: int, delta: Mapping[str, Any], ending: str | None, pieces: Sequence[Piece]) -> str:
        said = {"delta": delta} if self.chat else {"text": delta.get("content", "")}
        logprobs = self._log_probabilities(pieces) if pieces else None
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

    def _log_probabilities(self, pieces: Iterable[Piece]) -> dict[str, Any] | None:
        if self.likeliest is None:
            return None
        said = [token for piece in pieces for token in piece.said(self._token)]
        if self.chat:
            content = [
                {
                    **_with_bytes(one.text),
                    "logprob": one.log_probability,
                    "top_logprobs": [{**_with_bytes(other), "logprob": value} for other, value in one.likeliest],
                }
                for one in said
            ]
            return {"content": content}
        offsets, place = [], 0
        for one in said:
            offsets.append(place)
            place += len(one.text)
        return {
            "tokens": [one.text for one in said],
            "token_logprobs": [one.log_probability for one in said],
            "top_logprobs": [dict(one.likeliest) for one in said],
            "text_offset": offsets,
        }

    def _token(self, token: int) -> str:
        return self.served.release.tokenizer.decode([token], skip_special_tokens=False)


def usage_of(prompt: int, reused: int, choices: Iterable[Choice], held: int = 0) -> dict[str, Any]:
    """The tokens of a request: of its prompt, how many of them were read before, and of all its answers, with those
    that are `held` and not shown."""
    made = sum(choice.tokens for choice in choices) + held
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


def _with_bytes(token: str) -> dict[str, Any]:
    return {"token": token, "bytes": list(token.encode(errors="replace"))}
