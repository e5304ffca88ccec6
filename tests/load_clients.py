"""Clients of a server under load: most take their answers, some go away, some read slowly or not, some send junk."""

import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KINDS = {"whole": 40, "stream": 30, "goes away": 10, "hangs up": 5, "reads slowly": 5, "reads nothing": 2, "junk": 8}
AWAY_SECONDS = 0.3  # until a client that found no server asks again
JUNK: Sequence[tuple[bytes, set[int]]] = (  # bodies, and what they may be answered with
    (b"{", {400}),
    (b"\xff\xfe\x00", {400}),
    (b'{"prompt": ' + b"[" * 50_000, {400}),
    (b'{"prompt": "x", "max_tokens": ' + b"9" * 5000 + b"}", {400}),
    (b'{"prompt": {"a": 1}}', {400}),
    (b'{"prompt": "x", "stop": ["a", "b", "c", "d", "e"]}', {400}),
    (b'{"prompt": "x", "n": 100000}', {400}),
    (b'{"prompt": "x", "model": "gpt-4"}', {404}),
    (b'{"prompt": "' + b"x " * 20_000 + b'"}', {400}),
    (b" " * (1 << 21), {413}),
)
Answers = Mapping[tuple[str, str], str]  # (start of the digest, prompt) -> what is said alone


class WrongError(Exception):
    """A reply that is none, or another than it should be."""


@dataclass
class Seen:
    """What all clients together have seen."""

    taken: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # request -> prompt, cached, made
    left: dict[str, int] = field(default_factory=dict)  # request that its client left -> tokens that it saw at least
    wrong: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    digests: Counter[str] = field(default_factory=Counter)
    first: list[float] = field(default_factory=list)  # seconds until the first token of a stream
    away: Counter[str] = field(default_factory=Counter)


class Client(threading.Thread):
    """Asks until it is over. `up` says whether the server should answer now."""

    def __init__(
        self,
        number: int,
        port: int,
        key: str,
        answers: Answers,
        seen: Seen,
        over: threading.Event,
        up: Callable[[], bool],
    ) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self._port, self._key, self._answers, self._seen, self._over, self._up = port, key, answers, seen, over, up
        self._dice = random.Random(number)
        self._prompts = sorted({prompt for _, prompt in answers})

    def run(self) -> None:
        while not self._over.is_set():
            (kind,) = self._dice.choices(list(KINDS), list(KINDS.values()))
            up = self._up()
            try:
                self._ask(kind)
            except (OSError, http.client.HTTPException) as error:
                if up and self._up():
                    self._seen.wrong.append(f"{kind}: {type(error).__name__}: {error}")
                self._seen.away[kind] += 1
                time.sleep(AWAY_SECONDS)
            except WrongError as error:
                self._seen.wrong.append(f"{kind}: {error}")
            else:
                self._seen.kinds[kind] += 1

    def _ask(self, kind: str) -> None:
        prompt = self._dice.choice(self._prompts)
        if kind == "junk":
            self._send_junk()
        elif kind == "whole":
            self._take_whole(prompt)
        elif kind in ("hangs up", "reads nothing"):
            with self._socket(4096) as client:
                client.sendall(self._request({"prompt": prompt, "max_tokens": 60, "stream": kind == "reads nothing"}))
                self._over.wait(self._dice.random() * (8 if kind == "reads nothing" else 0.2))
        else:
            self._take_stream(prompt, kind)

    def _take_whole(self, prompt: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=130)
        try:
            body = {"prompt": prompt, "max_tokens": 40, "temperature": 0}
            connection.request("POST", "/v1/completions", json.dumps(body), self._headers())
            answer = connection.getresponse()
            reply = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise WrongError(f"{answer.status}: {reply}")
        self._check(reply, prompt, reply["choices"][0]["text"], reply["usage"])

    def _take_stream(self, prompt: str, kind: str) -> None:
        body = {"prompt": prompt, "max_tokens": 40, "temperature": 0, "stream": True}
        leaves = self._dice.randint(1, 20) if kind == "goes away" else None
        text, usage, request, done, started = "", None, "", False, time.perf_counter()
        with self._socket(4096 if kind == "reads slowly" else None) as client:
            client.sendall(self._request(body | {"stream_options": {"include_usage": True}}))
            answer = http.client.HTTPResponse(client)
            answer.begin()
            if answer.status != 200:
                raise WrongError(f"{answer.status}: {answer.read()!r}")
            for number, line in enumerate(iter(answer.readline, b"")):
                if leaves is not None and number >= 2 * leaves and request:
                    self._seen.left[request] = leaves - 1
                    return
                if kind == "reads slowly":
                    time.sleep(0.02)
                if line == b"data: [DONE]\n":
                    done = True
                elif line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise WrongError(str(event))
                    request, usage = event["id"], event.get("usage", usage)
                    for choice in event["choices"]:
                        if not text and choice["text"] and kind == "stream":
                            self._seen.first.append(time.perf_counter() - started)
                        text += choice["text"]
                    last = event
        if not done:  # cut in the middle
            self._seen.left[request] = 0
            raise ConnectionResetError("the stream was cut")
        self._check(last, prompt, text, usage)

    def _check(self, reply: Any, prompt: str, text: str, usage: Any) -> None:
        digest = reply["system_fingerprint"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        self._seen.taken[reply["id"]] = (usage["prompt_tokens"], cached, usage["completion_tokens"])
        self._seen.digests[digest] += 1
        if text != self._answers[digest, prompt]:
            raise WrongError(f"{digest} said {text!r} to {prompt!r}, alone {self._answers[digest, prompt]!r}")

    def _send_junk(self) -> None:
        choice = self._dice.randrange(len(JUNK) + 2)
        if choice >= len(JUNK):
            with self._socket(None) as client:
                client.sendall(self._dice.randbytes(200) if choice == len(JUNK) else self._request({})[:80])
                return
        body, statuses = JUNK[choice]
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=130)
        try:
            connection.request("POST", "/v1/completions", body, self._headers())
            status = connection.getresponse().status
        finally:
            connection.close()
        if status not in statuses:
            raise WrongError(f"{body[:60]!r} was answered with {status}")

    def _headers(self) -> dict[str, str]:
        return {"content-type": "application/json", "authorization": f"Bearer {self._key}"}

    def _request(self, body: Any) -> bytes:
        text = json.dumps(body).encode()
        lines = ["POST /v1/completions HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(text)}"]
        lines += [f"{name}: {value}" for name, value in self._headers().items()]
        return "\r\n".join([*lines, "", ""]).encode() + text

    def _socket(self, window: int | None) -> socket.socket:
        client = socket.socket()
        if window is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        client.settimeout(130)
        client.connect(("127.0.0.1", self._port))
        return client
