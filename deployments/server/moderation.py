"""Moderation where text comes in and where it leaves: prompts, each finished sentence of an answer, `/v1/moderations`.

A sentence is sent once it is judged, so an answer comes by sentences where there is a judge; where there is none,
pieces pass as they are made. What passes depends on the answer's text alone, not on the pieces that it is made in. A
verdict is counted by category; no text is kept, and of prompts that come again (a conversation grows) only digests.
"""

import asyncio
import hashlib
import secrets
import threading
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI
from pydantic import Field

from deployments.server.accounts import Accounts
from deployments.server.answering import Answer, Piece
from deployments.server.documented import ModerationReply, answered
from deployments.server.errors import ApiError
from deployments.server.metrics import Metrics
from deployments.server.protocol import Body, TextPart, Texts
from deployments.server.served import Served
from model.engine import Made, Request
from storage.service import Key
from tasks.moderate.moderator import Moderator, Verdict
from tasks.moderate.passages import next_end

if TYPE_CHECKING:
    from deployments.server.app import Server

FILTERED = "content_filter"  # why an answer ends, as OpenAI's API has it, and its outcome in the ledger
NAME = "llmill-moderation"
OTHER_NAMES = ("omni-moderation-", "text-moderation-")  # what clients of OpenAI's ask for
REMEMBERED = 4096  # verdicts of prompts


class Moderation:
    """What judges at one server, by the judge of each model that is served."""

    def __init__(self, metrics: Metrics, accounts: Accounts) -> None:
        self._metrics, self._accounts = metrics, accounts
        self._lock = threading.Lock()
        # Whose verdict it is stands beside it: the next judge may lie where one was that is no more.
        self._known: OrderedDict[tuple[int, bytes], tuple[weakref.ref[Moderator], Verdict]] = OrderedDict()

    async def check_prompt(self, served: Served, key: Key | None, texts: Sequence[tuple[str, str]]) -> None:
        """Refuse texts, each given with the field that it stands in, of which one is flagged: ApiError, and a hit of
        the key."""
        if served.moderator is None:
            return
        for param, text in texts:
            verdict = await asyncio.to_thread(self._judge_again, served.moderator, text)
            self._metrics.count_verdict("prompt", verdict.flagged)
            if verdict.flagged:
                await self._accounts.hit(key, verdict.flagged)
                raise ApiError(
                    400,
                    f"{param}: flagged as {', '.join(verdict.flagged)}, which is not answered here",
                    code="content_policy_violation",
                    param=param,
                )

    def guard(self, served: Served, answer: Answer) -> Answer:
        """The answer, from which no flagged sentence comes."""
        return answer if served.moderator is None else Guarded(answer, served.moderator, self._metrics)

    async def judge(self, moderator: Moderator, texts: Sequence[str]) -> list[Verdict]:
        """What is to be said of texts that somebody asks about."""
        verdicts = [await asyncio.to_thread(moderator.judge, text) for text in texts]
        for verdict in verdicts:
            self._metrics.count_verdict("asked", verdict.flagged)
        return verdicts

    def _judge_again(self, moderator: Moderator, text: str) -> Verdict:
        name = (id(moderator), hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        with self._lock:
            judge, known = self._known.get(name, (None, None))
            if known is not None and judge is not None and judge() is moderator:
                self._known.move_to_end(name)
                return known
        verdict = moderator.judge(text)
        with self._lock:
            self._known[name] = (weakref.ref(moderator), verdict)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return verdict


class Guarded:
    """An answer of which each sentence is judged before it is passed on; at the first that is flagged it ends."""

    def __init__(self, answer: Answer, moderator: Moderator, metrics: Metrics) -> None:
        self._answer, self._moderator, self._metrics = answer, moderator, metrics
        self._pieces: list[tuple[Piece, int]] = []  # not passed on, each with the place where its text ends
        self._text, self._sent, self._good = "", 0, 0  # `_sent` of it passed on, `_good` of it judged
        self._ended_at: int | None = None  # tokens; what the engine makes until it hears of it costs nothing

    @property
    def request(self) -> Request:
        """What is answered."""
        return self._answer.request

    @property
    def made(self) -> int:
        """Tokens that were made for it, up to its end: those that are not passed on, too."""
        return self._answer.made if self._ended_at is None else self._ended_at

    def cancel(self) -> None:
        """See Answering."""
        self._answer.cancel()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        async for piece in self._answer:
            self._text += piece.text
            self._pieces.append((piece, len(self._text)))
            if await self._flagged(piece.ending is not None):
                self._ended_at = self._answer.made
                self._answer.cancel()
                yield Piece(self._text[self._sent : self._good], Made(self.request, None, "stop"), FILTERED)
                return
            for good in self._released(piece.ending is not None):
                yield good

    async def _flagged(self, whole: bool) -> bool:
        """Judge what sentences have ended; whether one of them is flagged."""
        while self._good < len(self._text):
            end = next_end(self._text, self._good)
            if end is None:
                if not whole:
                    return False
                end = len(self._text)
            sentence = self._text[self._good : end]
            if sentence.strip():
                verdict = await asyncio.to_thread(self._moderator.judge, sentence)
                self._metrics.count_verdict("answer", verdict.flagged)
                if verdict.flagged:
                    return True
            self._good = end
        return False

    def _released(self, whole: bool) -> list[Piece]:
        """The pieces whose text is judged to its end. Those without text at the end begin what is not: a character of
        several tokens."""
        number = len(self._pieces) if whole else 0
        if not whole:
            for place, (piece, end) in enumerate(self._pieces, 1):
                if end > self._good:
                    break
                number = place if piece.text else number
        released = self._pieces[:number]
        del self._pieces[:number]
        if released:
            self._sent = released[-1][1]
        return [piece for piece, _ in released]


class ModerationRequest(Body):
    """`/v1/moderations`: a text, or several; the parts of one text are judged as one."""

    model: str = ""
    input: str | Texts | Annotated[list[TextPart], Field(fail_fast=True)]

    @property
    def texts(self) -> list[str]:
        """Each text alone."""
        if isinstance(self.input, str):
            return [self.input]
        strings = [one for one in self.input if isinstance(one, str)]
        return strings or ["".join(one.text for one in self.input if not isinstance(one, str))] * bool(self.input)


def add_moderation(app: FastAPI, server: "Server") -> None:
    """The route that says what is to be said of a text."""

    @app.post("/v1/moderations", responses=answered(ModerationReply))
    async def moderations(asked: ModerationRequest) -> dict[str, Any]:
        if asked.model not in ("", "default", NAME) and not asked.model.startswith(OTHER_NAMES):
            raise ApiError(404, f"there is no model {asked.model!r} here", code="model_not_found", param="model")
        moderator = server.served.moderator
        if moderator is None:
            raise ApiError(
                404, "nothing is moderated here: `llmill serve --moderation FILE` does", code="moderation_off"
            )
        most = server.settings.max_texts
        if not 0 < len(asked.texts) <= most:
            raise ApiError(400, f"input: {len(asked.texts)} texts; 1 to {most} at once", param="input")
        verdicts = await server.moderation.judge(moderator, asked.texts)
        results = [
            {
                "flagged": bool(verdict.flagged),
                "categories": {name: name in verdict.flagged for name in verdict.scores},
                "category_scores": dict(verdict.scores),
                "category_applied_input_types": {name: ["text"] for name in verdict.scores},
            }
            for verdict in verdicts
        ]
        return {"id": f"modr-{secrets.token_hex(12)}", "model": NAME, "results": results}
