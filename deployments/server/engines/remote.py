"""Answers from a server at an address: each request is one streamed request to its /v1/completions.

Prompts go there as ids, since both have the tokenizer of one release (golden prompts hold them together): what a user
types becomes no control token there either. What comes back is text. The engine there chooses its batches by itself, so
that all requests that may be under way or in line are sent.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import httpx

from deployments.server.engines.address import ASK_SECONDS, Address
from deployments.server.engines.seam import EngineUnavailableError, Said, Sink, Written
from model.engine import Request
from model.engine_thread import EngineFullError, EngineLateError, EngineStoppedError
from model.sampling import Ending

_log = logging.getLogger("llmill.server")
ENDINGS: dict[str, Ending] = {"stop": "stop", "length": "length"}
CANNOT = "the engine behind this server cannot be reached"


class RemoteEngine:
    """The engine of an address; `most` requests may be there at once. It looks every `look_seconds` whether somebody
    answers there."""

    def __init__(self, address: Address, most: int, look_seconds: float) -> None:
        self._address, self._most, self._look_seconds = address, most, look_seconds
        self._lock = threading.RLock()
        self._going: dict[Request, Future[None]] = {}
        self._heard = time.monotonic()
        self._unreachable: str | None = None
        self._stopping = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()
        self._client = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=most + 1, max_keepalive_connections=most + 1),
            **address.client_options(),
        )
        self._watching = self._begin(self._watch())

    @property
    def running(self) -> int:
        """Requests of which something has come."""
        return sum(request.begun for request in list(self._going))

    @property
    def waiting(self) -> int:
        """Requests of which nothing has come yet."""
        return len(self._going) - self.running

    @property
    def fault(self) -> str | None:
        """Why nobody should ask; None where all is well."""
        return "the engine has stopped" if self._stopping else self._unreachable

    @property
    def stuck_seconds(self) -> float:
        """For how long nothing has come though somebody waits."""
        return time.monotonic() - self._heard if self._going else 0.0

    def submit(self, request: Request, sink: Sink, seconds: float) -> None:
        """Send a request; it must end within so many seconds. Raises as the seam says."""
        with self._lock:
            if self._stopping:
                raise EngineStoppedError
            if len(self._going) >= self._most:
                raise EngineFullError
            if not self._going:
                self._heard = time.monotonic()
            self._going[request] = future = self._begin(self._answer(request, sink, seconds))
        future.add_done_callback(lambda _: self._forget(request))

    def cancel(self, request: Request) -> None:
        """Close its stream, by which the engine there lets go of it."""
        if future := self._going.get(request):
            future.cancel()

    def stop(self, seconds: float = 0.0) -> None:
        """Send nothing more, give what is under way so many seconds to end, and end."""
        with self._lock:
            self._stopping = True
        deadline = time.monotonic() + seconds
        while self._going and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._thread.is_alive():
            with suppress(TimeoutError):
                self._begin(self._end()).result(ASK_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent for a request."""
        return {
            "model": self._address.model,
            "prompt": list(request.ids),
            "max_tokens": request.most,
            "temperature": request.choice.temperature,
            "top_p": request.choice.top_p,
            "seed": request.choice.seed % 2**31,  # what all of them take
            "stream": True,
            "stream_options": {"include_usage": True},
            **({} if request.likeliest is None else {"logprobs": max(request.likeliest, 1)}),
        }

    def _begin(self, task: Coroutine[Any, Any, None]) -> "Future[None]":
        return asyncio.run_coroutine_threadsafe(task, self._loop)

    async def _end(self) -> None:
        others = asyncio.all_tasks(self._loop) - {asyncio.current_task(self._loop)}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    def _forget(self, request: Request) -> None:
        with self._lock:
            self._going.pop(request, None)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            try:
                answer = await self._client.get(f"{self._address.base}/models", timeout=ASK_SECONDS)
                self._note(None if answer.status_code == 200 else f"it answers {answer.status_code}")
            except httpx.HTTPError as error:
                self._note(str(error) or type(error).__name__)

    def _note(self, why: str | None) -> None:
        fault = f"{CANNOT} ({why})" if why is not None else None
        if fault is not None and self._unreachable is None:
            _log.warning(f"{self._address.base}: {fault}")
        elif fault is None and self._unreachable is not None:
            _log.warning(f"{self._address.base}: the engine answers again")
        self._unreachable = fault

    async def _answer(self, request: Request, sink: Sink, seconds: float) -> None:
        failed: BaseException
        try:
            async with asyncio.timeout(seconds):
                await self._stream(request, sink)
            return
        except TimeoutError:
            failed = EngineLateError()
        except httpx.HTTPError as error:
            self._note(str(error) or type(error).__name__)
            failed = EngineUnavailableError(CANNOT)
        except asyncio.CancelledError:
            if not self._stopping:  # nobody waits for it
                raise
            failed = EngineStoppedError()
        except Exception as error:
            failed = error
        with suppress(Exception):  # whoever listened may be gone
            sink(failed)

    async def _stream(self, request: Request, sink: Sink) -> None:
        counted, ending, tokens = 0, None, None
        async with self._client.stream("POST", f"{self._address.base}/completions", json=self.body(request)) as answer:
            if answer.status_code != 200:
                await answer.aread()
                raise self._refusal(answer)
            async for line in answer.aiter_lines():
                self._heard, request.begun = time.monotonic(), True
                found = _event(line)
                if found is None:
                    continue
                if usage := found.get("usage"):
                    tokens = int(usage["completion_tokens"])
                    request.reused = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
                for choice in found.get("choices", ())[:1]:
                    ending = ENDINGS.get(choice.get("finish_reason"), ending)
                    piece = _piece(request, choice)
                    counted += piece.tokens
                    if (piece.text or piece.said) and sink(piece):
                        return
        if ending is None or tokens is None:
            raise EngineUnavailableError("the engine behind this server broke off")
        sink(Written(request, "", ending, tokens - counted))

    def _refusal(self, answer: httpx.Response) -> Exception:
        if answer.status_code == 429:
            return EngineFullError()
        _log.warning(f"{self._address.base}: refuses a request: {answer.status_code} {answer.text[:500]!r}")
        return EngineUnavailableError(f"the engine behind this server refuses the request ({answer.status_code})")


def _event(line: str) -> dict[str, Any] | None:
    """What a line of the stream says; None for one that says nothing."""
    if not line.startswith("data:") or (data := line[5:].strip()) == "[DONE]":
        return None
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("error"):
        _log.warning(f"the engine's stream has an error: {data[:500]!r}")
        raise EngineUnavailableError("the engine behind this server failed")
    return found


def _piece(request: Request, choice: dict[str, Any]) -> Written:
    said = _said(choice.get("logprobs") or {}, request.likeliest)
    text = str(choice.get("text") or "")
    return Written(request, text, None, max(len(said), int(bool(text))), said)


def _said(logprobs: dict[str, Any], likeliest: int | None) -> tuple[Said, ...]:
    """Tokens with log-probabilities, in the form of completions, or of chats, which llama.cpp has for both."""
    if likeliest is None:
        return ()
    if content := logprobs.get("content"):
        return tuple(
            Said(
                one["token"],
                one["logprob"],
                _top({top["token"]: top["logprob"] for top in one["top_logprobs"]}, likeliest),
            )
            for one in content
        )
    tokens, values = logprobs.get("tokens") or (), logprobs.get("token_logprobs") or ()
    tops = logprobs.get("top_logprobs") or [{}] * len(tokens)
    return tuple(
        Said(token, value, _top(top or {}, likeliest)) for token, value, top in zip(tokens, values, tops, strict=True)
    )


def _top(values: dict[str, float], number: int) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(values.items(), key=lambda item: -item[1])[:number])
