"""Answers from a server that speaks OpenAI's API (chat/completions): vLLM, llama.cpp, `llmill serve`, a provider.

A server that is busy, silent or broken is asked again after a wait, the longer the more often, or as long as it says
(Retry-After); after the last attempt that is the stage's error (UnavailableError), which may be tried again. A request
that it will not take (400, 413, 422) has failed, alone. What no attempt helps ends the stage with ConfigError: a wrong
key, address or model, no credit, a redirect, a reply that cannot be read. The key is that of the environment. An answer
has a bounded size.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from storage.addresses import LOOPBACK, check_form, redacted
from storage.errors import ConfigError, UnavailableError
from storage.retryable import http_status, is_transient
from tasks.fetch.retry_after import seconds_asked
from tasks.rewrite.answers import ANSWERED, CUT, FAILED, REFUSED, Answer, believed_tokens
from tasks.rewrite.config import RewriteConfig

if TYPE_CHECKING:
    import httpx

KEY_VARIABLE = "LLMILL_TEACHER_KEY"
FIELD = "augment.rewrite.address"
MOST_BYTES = 1 << 24  # of an answer
LONGEST_WAIT_SECONDS = 60.0
NOT_TAKEN = (400, 413, 422)
WRONG = {  # HTTP statuses of what the user has to put right
    401: f"the key is wrong ({KEY_VARIABLE})",
    402: "the account has no credit left",
    403: f"the key is wrong, or may not use the model ({KEY_VARIABLE}, augment.rewrite.model)",
    404: "the address or the model is wrong (augment.rewrite.model)",
    405: "the address is wrong",
}
SENT_ELSEWHERE = "it sends requests to another address, which are not followed: write that address"
NO_CREDIT = b"insufficient_quota"  # how OpenAI tells this 429 from that of a busy server


class Server:
    """A server at an address. To be closed, as a context manager does.

    An address with a path is taken as it is; one without goes on with /v1.
    """

    def __init__(self, config: RewriteConfig, wait: Callable[[float], None] = time.sleep) -> None:
        import httpx

        assert config.address is not None
        check_form(FIELD, config.address, ("http", "https"))
        base = config.address.rstrip("/")
        self._url = f"{base if urlsplit(base).path else f'{base}/v1'}/chat/completions"
        self._config, self._wait = config, wait
        key = _key()
        self._client = httpx.Client(
            headers={"authorization": f"Bearer {key}"} if key else {},
            trust_env=urlsplit(config.address).hostname not in LOOPBACK,
            timeout=config.timeout_seconds,
            limits=httpx.Limits(max_connections=config.at_once),
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def identity(self) -> dict[str, Any]:
        """Who answers, for what is known: another address of the same model has the same answers."""
        return {"model": self._config.model}

    def ask(self, prompts: Sequence[str], keep: Callable[[str, Answer], None]) -> list[Answer]:
        """The answers to prompts; `keep` hears of each as soon as it has come. Raises ConfigError, or UnavailableError
        after the last attempt."""

        def one(prompt: str) -> Answer:
            answer = self._answer(prompt)
            keep(prompt, answer)
            return answer

        with ThreadPoolExecutor(self._config.at_once) as pool:
            under_way = [pool.submit(one, prompt) for prompt in prompts]
            try:
                return [each.result() for each in under_way]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _answer(self, prompt: str) -> Answer:
        import httpx

        body = {
            "model": self._config.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self._config.temperature,
            "max_tokens": self._config.most_answer_tokens,
        }
        for attempt in range(1, self._config.attempts + 1):
            try:
                return self._once(body)
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
                if not is_transient(error):
                    raise ConfigError(self._explained(error)) from error
                if attempt == self._config.attempts:
                    raise UnavailableError(self._explained(error)) from error
                asked = seconds_asked(_header(error, "retry-after"))
                self._wait(min(asked or 2.0 ** (attempt - 1) / 2, LONGEST_WAIT_SECONDS))
        raise AssertionError("no attempt")

    def _once(self, body: dict[str, Any]) -> Answer:
        started = time.monotonic()
        with self._client.stream("POST", self._url, json=body) as reply:
            data = bytearray()
            for block in reply.iter_bytes():
                data += block
                if len(data) > MOST_BYTES:
                    return Answer(FAILED, why=f"an answer of more than {MOST_BYTES:,} bytes")
                if time.monotonic() - started > self._config.timeout_seconds:
                    raise TimeoutError(f"no whole answer in {self._config.timeout_seconds:g} s")
        status = reply.status_code
        if status in NOT_TAKEN:
            return Answer(FAILED, why=f"HTTP {status}")
        if status == 429 and NO_CREDIT in data:
            raise ConfigError(self._problem(f"HTTP {status}: {WRONG[402]}"))
        reply.raise_for_status()
        return answer_of(bytes(data))

    def _explained(self, error: Exception) -> str:
        """What went wrong with a request, and what to do. No header, nor what the server says, is quoted."""
        status = http_status(error)
        if status is None:
            return self._problem(f"no answer ({redacted(str(error)) or type(error).__name__}). Is the server running?")
        what = SENT_ELSEWHERE if 300 <= status < 400 else WRONG.get(status, "no answer of a chat")
        return self._problem(f"HTTP {status}: {what}")

    def _problem(self, what: str) -> str:
        return f"{FIELD}={redacted(self._url)}: {what}"


def answer_of(data: bytes) -> Answer:
    """What a reply says; FAILED where it is none of a chat."""
    try:
        reply = json.loads(data)
        choice = reply["choices"][0]
        message, ending = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content") or "", message.get("refusal")
        usage = reply.get("usage") or {}
        tokens = believed_tokens(usage.get("total_tokens"))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return Answer(FAILED, why="no answer of a chat")
    if not isinstance(text, str):
        return Answer(FAILED, why="no text")
    if refusal or ending == "content_filter":
        return Answer(REFUSED, tokens=tokens)
    return Answer(CUT if ending == "length" else ANSWERED, _clean(text), tokens)


def _key() -> str:
    """The key of the environment, or empty. ConfigError for what no header can hold, which is not quoted: what sends it
    would say it in its own error."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not all("!" <= character <= "~" for character in key):
        raise ConfigError(f"{KEY_VARIABLE}: a key has printable ASCII characters and no blanks; set it as it was given")
    return key


def _clean(text: str) -> str:
    """As text that can be stored: no halves of surrogate pairs, lines ended by `\\n`."""
    return text.encode(errors="replace").decode().replace("\r\n", "\n").strip()


def _header(error: BaseException, name: str) -> str:
    reply: httpx.Response | None = getattr(error, "response", None)
    return reply.headers.get(name, "") if reply is not None else ""
