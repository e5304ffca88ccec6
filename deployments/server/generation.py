"""Requests for answers, carried out: `/v1/chat/completions` and `/v1/completions` alike."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse

from deployments.asgi import Receive, Scope, Send
from deployments.server.accounts import Accounts
from deployments.server.answering import Answer, Answering, Piece
from deployments.server.errors import ApiError
from deployments.server.limits import ONCE
from deployments.server.memory import Memory, reply_of
from deployments.server.metrics import Metrics
from deployments.server.moderation import FILTERED, Moderation
from deployments.server.protocol import ChatRequest, CompletionRequest
from deployments.server.replies import Choice, Shape, event, usage_of
from deployments.server.served import Served
from deployments.server.settings import ServerSettings
from model.engine import Request
from model.sampling import Choice as Sampling
from storage.service import Key

KEY = "llmill.key"  # in a request's scope: the key that it came with
PAID = ("done", "cancelled", FILTERED)  # outcomes that cost what was made
COMPLETION_TOKENS = 16  # of an answer to a text, where a request does not say how many
LOOK_SECONDS = 0.25  # between two looks whether a client is still there
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # a proxy must hand on each piece


class Generator:
    """Answers the requests of one server."""

    def __init__(
        self, settings: ServerSettings, metrics: Metrics, accounts: Accounts, memory: Memory, moderation: Moderation
    ) -> None:
        self._settings, self._metrics, self._accounts, self._memory = settings, metrics, accounts, memory
        self._moderation = moderation

    async def chat(self, http: HttpRequest, served: Served, asked: ChatRequest) -> Response:
        """The reply to a conversation."""
        if len(asked.messages) > self._settings.max_messages:
            raise too_many_messages(len(asked.messages), self._settings.max_messages)
        self._check_number(asked.n)
        texts = [(f"messages.{place}", one.text) for place, one in enumerate(asked.messages)]
        await self._moderation.check_prompt(served, http.scope[KEY], texts)
        ids = await asyncio.to_thread(served.chat_ids, asked.messages)
        return await self._reply(http, served, asked, [ids], asked.likeliest, "messages")

    async def complete(self, http: HttpRequest, served: Served, asked: CompletionRequest) -> Response:
        """The reply to texts that go on."""
        self._check_number(len(asked.prompts) * asked.n)
        prompts = await asyncio.to_thread(
            lambda: [served.text_ids(prompt, f"prompt.{place}") for place, prompt in enumerate(asked.prompts)]
        )
        if not prompts or not all(prompts):
            raise ApiError(400, "prompt: has no tokens", param="prompt")
        texts = [
            (f"prompt.{place}", one if isinstance(one, str) else served.release.tokenizer.decode(one))
            for place, one in enumerate(asked.prompts)
        ]
        await self._moderation.check_prompt(served, http.scope[KEY], texts)
        return await self._reply(http, served, asked, prompts, asked.logprobs, "prompt")

    async def _reply(
        self,
        http: HttpRequest,
        served: Served,
        asked: ChatRequest | CompletionRequest,
        prompts: Sequence[list[int]],
        likeliest: int | None,
        param: str,
    ) -> Response:
        chat = isinstance(asked, ChatRequest)
        identity = f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}"
        shape = Shape(chat, identity, int(time.time()), served, likeliest)
        key: Key | None = http.scope[KEY]
        requests = [
            request
            for ids in prompts
            for request in _requests(
                served, asked, ids, _room(served, asked, ids, param), likeliest, key.name if key else ""
            )
        ]
        held = ExitStack()
        prompt, made = sum(map(len, prompts)), sum(request.most for request in requests)
        held.enter_context(
            self._accounts.under_way(key, len(requests), self._settings.max_answers_per_key, prompt, made)
        )
        answers: list[Answer] = []
        try:
            for request in requests:
                answer = Answering(served, request, asked.stops, self._settings.request_seconds)
                answers.append(self._moderation.guard(served, answer))
        except BaseException:
            _cancel(answers)
            held.close()
            raise
        bill = _Bill(asked, shape, answers, [len(ids) for ids in prompts], asked.n, key, http.scope[ONCE], held)
        if asked.stream:
            with_usage = asked.stream_options is not None and asked.stream_options.include_usage
            stream = self._stream(bill, with_usage)
            return _Stream(stream, answers, partial(self._charge, bill, "cancelled"))
        outcome = "cancelled"
        try:
            await _while_there(http, answers, bill.choices)
            outcome = bill.outcome
        except ApiError as error:
            outcome = error.code or "failed"
            raise
        finally:
            await self._charge(bill, outcome)
        self._remember(bill)
        return JSONResponse(shape.whole(bill.choices, bill.usage))

    def _check_number(self, number: int) -> None:
        most = min(self._settings.max_choices, self._settings.max_waiting)
        if number > most:
            raise ApiError(400, f"n: {number} answers are asked for; {most} at most", code="invalid_value", param="n")

    async def _stream(self, bill: "_Bill", with_usage: bool) -> AsyncIterator[str]:
        """The ledger has a request before the client sees its end."""
        shape, answers, outcome = bill.shape, bill.answers, "cancelled"
        try:
            if shape.chat:
                for place in range(len(answers)):
                    yield shape.first(place)
            async for place, piece in _together(answers):
                bill.choices[place].add(piece)
                bill.choices[place].pieces.clear()
                if shown := shape.piece(place, piece, bill.choices[place]):
                    yield shown
            outcome = bill.outcome
        except ApiError as error:  # the status is sent already: the client raises on such an event
            outcome = error.code or "failed"
            yield event(error.body)
            return
        finally:
            _cancel(answers)
            await self._charge(bill, outcome)
        self._remember(bill)
        if with_usage:
            yield shape.usage_event(bill.usage)
        yield "data: [DONE]\n\n"

    def _remember(self, bill: "_Bill") -> None:
        """A reply that its client has whole may be told what is to be said of it."""
        requests, tenant = [answer.request for answer in bill.answers], bill.key.name if bill.key else ""
        reply = reply_of(bill.shape.served, bill.asked, tenant, requests, bill.choices)
        self._memory.remember(bill.shape.identity, reply)

    async def _charge(self, bill: "_Bill", outcome: str) -> None:
        """Into the ledger, once; an answer that failed by no fault of the client costs nothing."""
        if bill.charged:
            return
        bill.charged = True
        usage = bill.usage if outcome in PAID else usage_of(0, 0, 0)
        served = bill.shape.served
        self._metrics.count_tokens(served.name, usage)
        try:
            await self._accounts.charge(bill.shape.identity, bill.key, served.digest, usage, outcome, bill.once)
        finally:
            bill.held.close()


class _Stream(StreamingResponse):
    """A stream that lets go of its answers and is charged, whether or not its first piece was ever asked for."""

    def __init__(
        self, pieces: AsyncIterator[str], answers: Sequence[Answer], charge: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(pieces, media_type="text/event-stream", headers=HEADERS)
        self._answers, self._charge = answers, charge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _cancel(self._answers)
            await self._charge()


@dataclass
class _Bill:
    """A request's answers as they grow, and who pays for them."""

    asked: ChatRequest | CompletionRequest
    shape: Shape
    answers: Sequence[Answer]
    tokens: Sequence[int]  # of each prompt
    n: int
    key: Key | None
    once: str | None  # the client's name for the request: sent again, it is not paid again
    held: ExitStack  # what the key has under way by it
    charged: bool = False
    choices: list[Choice] = field(init=False)

    def __post_init__(self) -> None:
        self.choices = [Choice() for _ in self.answers]

    @property
    def usage(self) -> dict[str, Any]:
        """What has been used so far; a prompt counts once, however many answers it has, and only if it was read."""
        first = [answer.request for answer in self.answers[:: self.n]]
        read = sum(tokens for tokens, request in zip(self.tokens, first, strict=True) if request.begun)
        return usage_of(read, sum(request.reused for request in first), sum(answer.made for answer in self.answers))

    @property
    def outcome(self) -> str:
        """How a request that was answered has ended."""
        return FILTERED if any(choice.ending == FILTERED for choice in self.choices) else "done"


def too_many_messages(number: int, most: int) -> ApiError:
    """The error for a conversation that is too long to be looked at."""
    return ApiError(400, f"messages: {number} messages; {most} at most", code="invalid_value", param="messages")


def _requests(
    served: Served,
    asked: ChatRequest | CompletionRequest,
    ids: list[int],
    most: int,
    likeliest: int | None,
    tenant: str,
) -> list[Request]:
    """One for each of `n` answers, which draw by seeds that follow each other."""
    settings = served.settings
    searched = asked.temperature is None and not asked.draws and not asked.stream and likeliest is None
    seed = secrets.randbits(62) if asked.seed is None else asked.seed
    return [
        Request(
            ids,
            most,
            Sampling(asked.drawn_temperature, 1.0 if asked.top_p is None else asked.top_p, _wrapped(seed + number)),
            served.release.control.ends,
            likeliest,
            tenant,
            served.adapter,
            beams=settings.num_beams if searched else 1,
            no_repeat=settings.no_repeat_in_answer if searched else 0,
        )
        for number in range(asked.n)
    ]


def _room(served: Served, asked: ChatRequest | CompletionRequest, ids: list[int], param: str) -> int:
    room = served.room(ids, asked.most_tokens, param)
    return min(room, COMPLETION_TOKENS) if asked.most_tokens is None and not isinstance(asked, ChatRequest) else room


def _wrapped(seed: int) -> int:
    return (seed + 2**63) % 2**64 - 2**63


def _cancel(answers: Sequence[Answer]) -> None:
    for answer in answers:
        answer.cancel()


async def _while_there(http: HttpRequest, answers: Sequence[Answer], choices: Sequence[Choice]) -> None:
    """Take all answers, whole; they are cancelled when the client goes away."""

    async def collect(answer: Answer, choice: Choice) -> None:
        async for piece in answer:
            choice.add(piece)

    collecting = asyncio.gather(*(collect(*pair) for pair in zip(answers, choices, strict=True)))
    collecting.add_done_callback(lambda done: done.cancelled() or done.exception())  # known, wherever it is cancelled
    try:
        while not (await asyncio.wait([collecting], timeout=LOOK_SECONDS))[0]:
            if await http.is_disconnected():
                raise ApiError(499, "the client has gone", code="cancelled")
        await collecting
    finally:
        collecting.cancel()
        _cancel(answers)


async def _together(answers: Sequence[Answer]) -> AsyncIterator[tuple[int, Piece]]:
    """The pieces of several answers, as they come."""
    if len(answers) == 1:
        async for piece in answers[0]:
            yield 0, piece
        return
    queue: asyncio.Queue[tuple[int, Piece | BaseException | None]] = asyncio.Queue()

    async def forward(place: int, answer: Answer) -> None:
        try:
            async for piece in answer:
                queue.put_nowait((place, piece))
            queue.put_nowait((place, None))
        except ApiError as error:
            queue.put_nowait((place, error))

    tasks = [asyncio.create_task(forward(place, answer)) for place, answer in enumerate(answers)]
    try:
        going = len(answers)
        while going:
            place, made = await queue.get()
            if isinstance(made, BaseException):
                raise made
            if made is None:
                going -= 1
            else:
                yield place, made
    finally:
        for task in tasks:
            task.cancel()
