"""Clients and engines that do not go on: everybody else is answered, and what was made is counted."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from model_server import NAME, Address, endless, model_server
from support import wait_until

from deployments.server import answering
from storage.service import Service

BODY: Any = {"prompt": "The river", "max_tokens": 5, "temperature": 0}
SOON = 0.5  # seconds, for limits that are minutes


@pytest.fixture
def server(folder: Path) -> Iterator[Address]:
    with model_server(folder, send_seconds=SOON, body_seconds=SOON) as address:
        yield address


def sent(server: Address, data: bytes, window: int | None = None) -> socket.socket:
    """A connection on which this was sent, with a small buffer for what comes."""
    client = socket.socket()
    if window is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    client.settimeout(60)
    client.connect(("127.0.0.1", server.port))
    client.sendall(data)
    return client


def post(body: Any) -> bytes:
    """A request for a completion, as it goes over the wire."""
    text = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(text)}"
    return f"{head}\r\n\r\n".encode() + text


def gone(client: socket.socket) -> bool:
    """Whether the server has ended a connection; reads what is there."""
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionError:
        return True
    return True


def test_a_stream_that_nobody_reads_is_ended_and_pays_for_what_was_made(
    server: Address, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless(server, monkeypatch)
    engine = server.server.served.engine
    service = Service(f"sqlite:///{folder.parent / 'service.db'}")

    def written() -> int:
        return sum(row["made_tokens"] for row in service.usage("", "key"))

    before = written()
    body = BODY | {"n": 8, "max_tokens": 500, "stream": True, "logprobs": 20, "temperature": 2, "seed": 1}
    with sent(server, post(body), 4096) as client:
        wait_until(lambda: engine.running, "it is under way")
        wait_until(lambda: not server.server.busy, "the server waits for it no more")
        wait_until(lambda: engine.running == engine.waiting == 0, "its rows are free after the step under way")
        wait_until(lambda: written() > before, "it is in the ledger")
        made = written() - before
        assert 8 < made <= 8 * 500
        assert made == server.server.metrics.tokens.labels(NAME, "made")._value.get()
        assert gone(client), "and its connection is closed"
    assert server.post("/v1/completions", BODY)[0] == 200


@pytest.mark.parametrize("begun", [b"", b"GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: "], ids=["nothing", "half a head"])
def test_a_connection_without_a_request_is_ended(server: Address, begun: bytes) -> None:
    with sent(server, begun) as client:
        assert gone(client)
    with sent(server, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n") as client:
        assert b"200 OK" in client.recv(4096)
        client.sendall(b"GET /li")
        assert gone(client), "nor may it wait after one that was answered"


def test_an_answer_that_takes_its_time_is_no_idle_connection(server: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    model = server.server.served.release.model
    plain = model.logits

    def slow(hidden: torch.Tensor) -> torch.Tensor:
        time.sleep(4 * SOON)
        return plain(hidden)

    monkeypatch.setattr(model, "logits", slow)
    assert server.post("/v1/completions", BODY | {"max_tokens": 1})[0] == 200


def test_more_connections_than_may_be_are_told(folder: Path) -> None:
    with model_server(folder, max_connections=3) as server:
        held = [sent(server, b"") for _ in range(3)]
        wait_until(lambda: server.ask("GET", "/livez")[0] == 503, "one more is told")
        for client in held:
            client.close()
        wait_until(lambda: server.ask("GET", "/livez")[0] == 200, "there is room again")


@pytest.mark.parametrize("stream", [False, True])
def test_a_step_that_hangs_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    monkeypatch.setattr(answering, "GRACE_SECONDS", 0.2)
    with model_server(folder, request_seconds=0.3, stuck_seconds=0.5) as server:
        go_on = threading.Event()
        model = server.server.served.release.model
        plain = model.logits
        monkeypatch.setattr(model, "logits", lambda hidden: (go_on.wait(60), plain(hidden))[1])
        for _ in range(2):  # the second is put in line behind a step that hangs
            status, _, answer = server.ask("POST", "/v1/completions", BODY | {"stream": stream})
            said = json.loads(answer.strip().split("\n\n")[-1].removeprefix("data: ")) if stream else answer
            assert (status, said["error"]["code"]) == (200 if stream else 504, "timeout")
        assert server.ask("GET", "/readyz")[0] == 503
        go_on.set()
        wait_until(lambda: server.ask("GET", "/readyz")[0] == 200, "it goes on")
        assert server.post("/v1/completions", BODY)[0] == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_has_died_is_told_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class DiesError(BaseException):
        """What nothing catches."""

    def die(hidden: torch.Tensor) -> torch.Tensor:
        raise DiesError

    with model_server(folder) as server:
        assert server.ask("GET", "/livez")[0] == 200
        monkeypatch.setattr(server.server.served.release.model, "logits", die)
        for path, body in [("/v1/completions", BODY)] * 2 + [("/v1/embeddings", {"input": "x"})]:
            status, answer = server.post(path, body)
            assert (status, answer["error"]["code"]) == (503, "stopping")
        assert server.ask("GET", "/readyz")[0] == 503
        status, _, said = server.ask("GET", "/livez")
        assert status == 503 and "died" in said, "whoever watches over it starts it again"


def test_more_answers_than_may_ever_wait_are_refused_for_good(folder: Path) -> None:
    with model_server(folder, max_waiting=4) as server:
        status, answer = server.post("/v1/completions", BODY | {"n": 5, "seed": 1})
        assert (status, answer["error"]["param"]) == (400, "n") and "4 at most" in answer["error"]["message"]
        assert server.post("/v1/completions", BODY | {"n": 4, "seed": 1})[0] == 200


def test_health_is_told_without_a_body_too(server: Address) -> None:
    for path in ("/livez", "/readyz"):
        status, headers, body = server.ask("HEAD", path)
        assert (status, body) == (200, "") and headers["content-type"].startswith("text/plain")


NUMBER = b"9" * 5000


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"prompt": "x", "max_tokens": ' + NUMBER + b"}", "invalid_json"),
        (b'{"prompt": "x", "seed": -' + NUMBER + b"}", "invalid_json"),
        (b'{"prompt": [' + NUMBER + b"]}", "invalid_json"),
        (b'{"prompt": "x", "max_tokens": ' + NUMBER[:4000] + b"}", "invalid_value"),
        (b'{"prompt": [' + NUMBER[:4000] + b"]}", "invalid_value"),
        (b'{"prompt": "x", "n": ' + NUMBER[:4000] + b"}", "invalid_value"),
        (b'{"prompt": "x", "temperature": ' + NUMBER[:4000] + b"}", "invalid_value"),
    ],
    ids=["max_tokens", "seed", "token", "long max_tokens", "long token", "long n", "long temperature"],
)
def test_numbers_of_thousands_of_digits_are_refused(server: Address, body: bytes, code: str) -> None:
    status, _, answer = server.ask("POST", "/v1/completions", body)
    assert (status, answer["error"]["code"]) == (400, code) and len(answer["error"]["message"]) < 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nothing", None, 404, "unknown_url"),
        ("DELETE", "/v1/models", None, 405, "method_not_supported"),
        ("POST", "/v1/completions", {"prompt": []}, 400, "invalid_value"),
        ("POST", "/v1/completions", {"prompt": [10**9]}, 400, "invalid_value"),
        ("POST", "/v1/embeddings", {"input": []}, 400, "invalid_value"),
        ("POST", "/v1/completions", {"prompt": "x", "model": "gpt-4"}, 404, "model_not_found"),
    ],
)
def test_every_error_has_a_code(server: Address, method: str, path: str, body: Any, status: int, code: str) -> None:
    found, _, answer = server.ask(method, path, body)
    assert (found, answer["error"]["code"]) == (status, code)


def test_log_probabilities_have_the_tokens_own_bytes_and_places_streamed_or_not(server: Address) -> None:
    body = BODY | {"max_tokens": 40, "logprobs": 5, "temperature": 1.5, "seed": 4}
    whole = server.post("/v1/completions", body)[1]["choices"][0]
    _, _, stream = server.ask("POST", "/v1/completions", body | {"stream": True})
    events = [json.loads(event.removeprefix("data: "))["choices"][0] for event in stream.split("\n\n")[:-2]]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        pieces = [value for event in events if event["logprobs"] for value in event["logprobs"][name]]
        assert pieces == whole["logprobs"][name]
    assert {len(likeliest) for likeliest in whole["logprobs"]["top_logprobs"]} == {5}, "none hides another"
    assert "\ufffd" in "".join(whole["logprobs"]["tokens"]), "among them are parts of characters"
    offsets = whole["logprobs"]["text_offset"]
    assert offsets == sorted(offsets) and offsets[0] == 0 and 20 < offsets[-1] <= len(whole["text"])
    said = {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "max_tokens": 40, "temperature": 1.5}
    content = server.post("/v1/chat/completions", said | {"seed": 4})[1]["choices"][0]["logprobs"]["content"]
    assert any(not all(byte < 0x80 for byte in token["bytes"]) for token in content)
    assert [0xEF, 0xBF, 0xBD] not in [token["bytes"] for token in content]
