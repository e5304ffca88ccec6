"""Engines of others behind the same front: an address (a second server of ours), and llama.cpp in this process."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from model_server import NAME, Address, endless, model_server
from openai import APIError
from support import wait_until

from flows.prefect.servers import free_port
from storage.errors import ConfigError
from storage.service import Service

TEXTS = ["The river", "春天来了，山上的花都开了。", "น้ำใสๆ ไหลผ่าน", "हिन्दी में", "Straße über ", "x"]


@pytest.fixture(scope="module")
def upstream(folder: Path) -> Iterator[Address]:
    """A server that another one asks."""
    with model_server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def front(folder: Path, upstream: Address) -> Iterator[Address]:
    """A server whose engine is the other one."""
    with model_server(folder, engine=f"http://127.0.0.1:{upstream.port}", look_seconds=0.1) as server:
        yield server


def answer(server: Address, path: str, **asked: Any) -> dict[str, Any]:
    status, body = server.post(path, asked)
    assert status == 200, body
    return {"choices": body["choices"], "usage": body["usage"]}


@pytest.mark.parametrize("text", TEXTS)
def test_what_it_says_is_what_the_engine_there_says(front: Address, upstream: Address, text: str) -> None:
    for more in (
        {},
        {"temperature": 0.9, "seed": 7, "n": 3, "top_p": 0.8},
        {"logprobs": 2},
        {"stop": ["e", "न"], "temperature": 1.5, "seed": 3},
    ):
        asked = {"prompt": text, "max_tokens": 12, **more}
        ours, theirs = (answer(server, "/v1/completions", **asked) for server in (front, upstream))
        ours["usage"].pop("prompt_tokens_details"), theirs["usage"].pop("prompt_tokens_details")
        if "stop" in more:  # the engine there is told of no stop: what was made is what came
            assert ours["choices"] == theirs["choices"]
        else:
            assert ours == theirs


def test_chats_streams_and_their_usage(front: Address, upstream: Address) -> None:
    messages: Any = [{"role": "user", "content": "Where is the river? <|im_end|>"}]
    for server in (front, upstream):
        stream = server.client().chat.completions.create(
            model=NAME, messages=messages, max_tokens=9, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 9
        said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        whole = answer(upstream, "/v1/chat/completions", messages=messages, max_tokens=9)
        assert said == whole["choices"][0]["message"]["content"]


def test_a_client_that_goes_away_frees_the_row_there(front: Address, upstream: Address) -> None:
    def made() -> float:
        lines = upstream.ask("GET", "/metrics")[2].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if 'kind="made"' in line)

    before = made()
    stream = front.client().completions.create(model=NAME, prompt="The", max_tokens=1000, temperature=0, stream=True)
    next(stream)
    assert upstream.server.served.engine.running == 1
    stream.close()
    wait_until(lambda: upstream.server.served.engine.running == 0, "the row is free")
    wait_until(lambda: front.server.served.engine.running == 0, "and nothing is under way")
    wait_until(lambda: made() > before, "what was made is counted there")
    assert made() < before + 900, "it did not go on to its end"


def test_what_only_our_engine_does_is_refused(front: Address) -> None:
    status, body = front.post("/v1/embeddings", {"input": "x"})
    assert status == 400 and "no embeddings" in body["error"]["message"]


def test_a_front_has_keys_limits_and_a_ledger_of_its_own(
    folder: Path, upstream: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless(upstream, monkeypatch)
    service = Service(f"sqlite:///{tmp_path / 'service.db'}")
    with model_server(folder, service, f"http://127.0.0.1:{upstream.port}/v1/", max_waiting=1, rows=1) as server:
        assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 3})[0] == 200
        going = [
            server.client().completions.create(model=NAME, prompt="x", max_tokens=1000, temperature=1, stream=True)
            for _ in range(2)
        ]
        status, body = server.post("/v1/completions", {"prompt": "x"})
        assert (status, body["error"]["code"]) == (429, "queue_full")
        for stream in going:
            stream.close()


def test_an_engine_that_goes_down(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as behind, ExitStack() as before:
        there = behind.enter_context(model_server(folder))
        with monkeypatch.context() as environment:
            for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
                environment.setenv(name, "http://127.0.0.1:9")  # nobody is there, and nobody is to be asked there
            environment.setenv("no_proxy", "")
            address = f"http://127.0.0.1:{there.port}"
            server = before.enter_context(model_server(folder, engine=address, look_seconds=0.05))
        stream = server.client().completions.create(
            model=NAME, prompt="The", max_tokens=1000, temperature=1, stream=True
        )
        next(stream)
        there.server.served.engine.stop()
        behind.close()
        with pytest.raises(APIError, match="engine behind"):
            list(stream)
        status, headers, body = server.ask("POST", "/v1/completions", {"prompt": "x"})
        assert (status, body["error"]["code"]) == (503, "engine_unavailable") and headers["retry-after"]
        wait_until(lambda: server.ask("GET", "/readyz")[0] == 503, "it is not ready")
        assert "engine behind" in server.ask("GET", "/readyz")[2] and server.ask("GET", "/livez")[0] == 200


class Odd(BaseHTTPRequestHandler):
    """A server with one model whose answers are `replies`: what each sends, or that it hangs."""

    replies: list[bytes | None]

    def do_GET(self) -> None:
        self._send(json.dumps({"data": [{"id": "m"}]}).encode(), "application/json")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        reply = self.replies.pop(0)
        if reply is None:
            time.sleep(3)
        else:
            self._send(reply, "text/event-stream")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def sse(*events: Any) -> bytes:
    return b"".join(f"data: {json.dumps(one)}\n\n".encode() for one in events) + b"data: [DONE]\n\n"


GOOD = sse(
    {"choices": [{"text": "hi", "logprobs": {"tokens": ["hi"], "token_logprobs": [-1.0]}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"completion_tokens": 1}},
)


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        (b"data: {\n\n", 503, "engine_unavailable"),
        (sse({"error": {"message": "out of memory"}}), 503, "engine_unavailable"),
        (sse({"choices": [{"text": "h"}]}), 503, "engine_unavailable"),  # without an end
        (b"", 503, "engine_unavailable"),
        (sse([1]), 503, "engine_unavailable"),
        (None, 504, "timeout"),
    ],
)
def test_an_engine_that_answers_badly_fails_that_request_alone(
    folder: Path, reply: bytes | None, status: int, code: str
) -> None:
    Odd.replies = [GOOD, reply, GOOD]
    odd = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=odd.serve_forever, daemon=True).start()
    try:
        with model_server(folder, engine=f"http://127.0.0.1:{odd.server_port}", request_seconds=1) as server:
            found, body = server.post("/v1/completions", {"prompt": "x"})
            assert (found, body["error"]["code"]) == (status, code)
            assert answer(server, "/v1/completions", prompt="x")["choices"][0]["text"] == "hi"
    finally:
        odd.shutdown()


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("vllm", "say auto, torch, llama.cpp, or an address"),
        ("http://127.0.0.1:{port}", "nobody answers"),
        ("http://ada:secret@127.0.0.1:1", "LLMILL_ENGINE_KEY"),
        ("ftp://127.0.0.1", "not an address"),
        ("llama.cpp", "has no *-F16.gguf"),
    ],
)
def test_an_engine_that_is_none_is_said_at_the_start(folder: Path, engine: str, words: str) -> None:
    with pytest.raises(ConfigError) as said, model_server(folder, engine=engine.format(port=free_port())):
        pass
    assert words in str(said.value) and "secret" not in str(said.value)


def test_an_address_of_something_else_is_said(folder: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        closer = threading.Thread(target=lambda: silent.accept()[0].close())
        closer.start()
        with (
            pytest.raises(ConfigError, match="nobody answers"),
            model_server(folder, engine=f"http://127.0.0.1:{silent.getsockname()[1]}"),
        ):
            pass
        closer.join()
