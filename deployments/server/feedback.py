"""`/v1/feedback` and `/v1/votes`: what users say of answers, kept once they agree, without personal data.

A reply is named by its id, which only the key that got it can use. What was said to get it and what it says are
taken from the server's memory, not from the client, so that nobody can put words into a model's mouth.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from pydantic import Field, model_validator

from deployments.server.documented import KeptReply, answered
from deployments.server.errors import ApiError
from deployments.server.generation import KEY
from deployments.server.memory import Memory, Reply
from deployments.server.protocol import Body
from deployments.server.settings import ServerSettings
from storage.documents import Message
from storage.errors import StoreError
from storage.feedback import Feedback, FeedbackStore, Preference, Rating, Vote, utc_now
from storage.files import is_utf8
from storage.service import Key
from tasks.filter.personal import without_personal_data

if TYPE_CHECKING:
    from deployments.server.app import Server

THREADS = 4  # that may wait for the database at once
RETRY_SECONDS = 5
Identity = Annotated[str, Field(min_length=1, max_length=64)]
_log = logging.getLogger("llmill.server")


class _Agreed(Body):
    """What is kept only if the person agrees."""

    consent: bool = False
    user: str | None = Field(None, max_length=256)

    @model_validator(mode="after")
    def _check_consent(self) -> Self:
        if not self.consent:
            raise ValueError(
                'consent: nothing is kept without it. Send "consent": true if the person agrees that the conversation, '
                "the answers and what is said of them are kept to make the model better"
            )
        return self


class FeedbackRequest(_Agreed):
    """`/v1/feedback`: a thumb, a correction, or both, of one answer of a reply."""

    id: Identity
    choice: int = Field(0, ge=0)
    rating: Rating | None = None
    correction: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rating is None and self.correction is None:
            raise ValueError("rating: give it, or a correction, or both")
        return self


class VoteRequest(_Agreed):
    """`/v1/votes`: which of two replies is better; `ids` in the order in which they were shown."""

    ids: Annotated[list[Identity], Field(min_length=2, max_length=2)]
    choice: Preference


class Listener:
    """Keeps what the users of one server say."""

    def __init__(self, memory: Memory, store: FeedbackStore, settings: ServerSettings) -> None:
        self._memory, self._store, self._settings = memory, store, settings
        self._threads = ThreadPoolExecutor(THREADS, "feedback")

    async def hear(self, key: Key | None, said: FeedbackRequest) -> int:
        """Keep what was said of an answer; returns the record's id. ApiError for what cannot be kept."""
        reply = self._memory.find(said.id, _name(key), "id")
        if said.choice >= len(reply.answers):
            number = len(reply.answers)
            raise ApiError(400, f"choice: {said.choice}; the reply has {number} answers", param="choice")
        if said.correction is not None:
            self._check_correction(said.correction, reply.answers[said.choice])
        return await self._keep([reply], lambda: self._feedback(key, said, reply))

    async def count(self, key: Key | None, voted: VoteRequest) -> int:
        """Keep a vote; returns the record's id. ApiError for what is none."""
        first, second = (self._memory.find(one, _name(key), f"ids.{place}") for place, one in enumerate(voted.ids))
        for wrong, why in (
            (len(first.answers) > 1 or len(second.answers) > 1, "a vote is between replies of one answer each"),
            ((first.form, first.conversations) != (second.form, second.conversations), "they answer other messages"),
            (first.model == second.model, "both are of the same model"),
        ):
            if wrong:
                raise ApiError(400, f"ids: {why}", code="invalid_value", param="ids")
        if first.voted or second.voted:
            raise ApiError(409, "ids: there is a vote on one of these replies", code="already_voted", param="ids")
        first.voted = second.voted = True
        try:
            return await self._keep([first, second], lambda: self._vote(key, voted, first, second))
        except BaseException:
            first.voted = second.voted = False
            raise

    def _check_correction(self, correction: str, answer: str) -> None:
        most = self._settings.max_correction_characters
        why = None
        if len(correction) > most:
            why = f"{len(correction)} characters; {most} at most"
        elif not is_utf8(correction):
            why = "half of a surrogate pair, which is no text"
        elif not correction.strip():
            why = "is empty"
        elif correction.strip() == answer.strip():
            why = "is what the model has said; send a rating of `up` instead"
        if why:
            raise ApiError(400, f"correction: {why}", code="invalid_value", param="correction")

    async def _keep(self, replies: Sequence[Reply], make: Callable[[], Feedback | Vote]) -> int:
        """Make a record and write it, in a thread: patterns are searched for, and the database may be away."""
        most = self._settings.max_records_per_reply
        if any(reply.said >= most for reply in replies):
            raise ApiError(429, f"{most} times something was kept of this reply: no more is", code="enough_said")
        for reply in replies:
            reply.said += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, lambda: self._store.write(make()))
        except BaseException as error:
            for reply in replies:
                reply.said -= 1
            if not isinstance(error, StoreError):
                raise
            _log.error("feedback cannot be written: %s", error)
            raise ApiError(
                503, "nothing can be kept now: send it again", code="feedback_away", retry_after=RETRY_SECONDS
            ) from None

    def _feedback(self, key: Key | None, said: FeedbackRequest, reply: Reply) -> Feedback:
        messages, reading = _cleaned(reply.conversation(said.choice)), reply.reading
        sampling = reply.samplings[said.choice]
        answer = without_personal_data(reply.answers[said.choice])
        chat = reply.form == "chat"
        return Feedback(
            request=said.id,
            choice=said.choice,
            model=reply.model,
            time=utc_now(),
            user=self._store.user_of(_name(key), said.user or reply.user),
            form=reply.form,
            messages=messages,
            answer=answer,
            prompt_ids=tuple(reading.conversation(messages) if chat else reading.beginning(messages[0].content)),
            answer_ids=tuple(reading.text(answer)),
            sampling={**sampling, "stop": [without_personal_data(stop) for stop in sampling["stop"]]},
            rating=said.rating,
            correction=None if said.correction is None else without_personal_data(said.correction),
            consent=said.consent,
        )

    def _vote(self, key: Key | None, voted: VoteRequest, first: Reply, second: Reply) -> Vote:
        return Vote(
            request_a=voted.ids[0],
            request_b=voted.ids[1],
            time=utc_now(),
            user=self._store.user_of(_name(key), voted.user or first.user),
            form=first.form,
            messages=_cleaned(first.conversations[0]),
            model_a=first.model,
            answer_a=without_personal_data(first.answers[0]),
            model_b=second.model,
            answer_b=without_personal_data(second.answers[0]),
            choice=voted.choice,
            consent=voted.consent,
        )


def add_feedback(app: FastAPI, server: "Server") -> None:
    """The routes."""

    @app.post("/v1/feedback", responses=answered(KeptReply))
    async def feedback(http: HttpRequest, said: FeedbackRequest) -> dict[str, Any]:
        return _kept("feedback", await server.listener.hear(http.scope[KEY], said))

    @app.post("/v1/votes", responses=answered(KeptReply))
    async def votes(http: HttpRequest, voted: VoteRequest) -> dict[str, Any]:
        return _kept("vote", await server.listener.count(http.scope[KEY], voted))


def _kept(kind: Literal["feedback", "vote"], identity: int) -> dict[str, Any]:
    return {"object": kind, "id": identity}


def _name(key: Key | None) -> str:
    return key.name if key is not None else ""


def _cleaned(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(Message(one.role, without_personal_data(one.content)) for one in messages)
