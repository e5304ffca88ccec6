"""The model server as OpenAI's own client and a plain socket see it, on the loopback."""

import concurrent.futures
import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from model_server import NAME, Address, model_server
from open_models import QWEN_TOKENS, VOCABULARY
from support import wait_until

from storage.service import Service

CONTEXT = 1024
ASKED: Any = [{"role": "user", "content": "Where is the river?"}]


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Address]:
    with model_server(folder) as address:
        yield address


def test_a_chat_whole_and_in_pieces_is_one_text(server: Address) -> None:
    client = server.client()
    settings: Any = {"model": NAME, "messages": ASKED, "max_tokens": 30, "temperature": 1.0, "seed": 3}
    whole = client.chat.completions.create(**settings)
    (choice,) = whole.choices
    assert choice.message.role == "assistant" and choice.message.content
    assert whole.usage is not None and whole.usage.completion_tokens == 30 and choice.finish_reason == "length"
    assert whole.system_fingerprint == "d" * 16 and whole.model == NAME
    chunks = list(client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == choice.message.content
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == [] and chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 30 and chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens


def test_replies_have_every_field_of_the_api(server: Address) -> None:
    """OpenAI's client takes any object: what must be there is said here."""
    status, chat = server.post("/v1/chat/completions", {"messages": ASKED, "max_tokens": 2})
    assert status == 200
    assert set(chat) == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert chat["object"] == "chat.completion" and isinstance(chat["created"], int)
    assert set(chat["choices"][0]) == {"index", "message", "logprobs", "finish_reason"}
    assert set(chat["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}
    _, text = server.post("/v1/completions", {"prompt": "The river", "max_tokens": 2})
    assert text["object"] == "text_completion" and set(text["choices"][0]) == {
        "index",
        "text",
        "logprobs",
        "finish_reason",
    }
    _, _, stream = server.ask("POST", "/v1/completions", {"prompt": "The river", "max_tokens": 2, "stream": True})
    events = stream.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""] and all(event.startswith("data: ") for event in events[:-1])
    first = json.loads(events[0].removeprefix("data: "))
    assert first["object"] == "text_completion" and "text" in first["choices"][0]
    _, _, models = server.ask("GET", "/v1/models")
    assert models["object"] == "list" and models["data"][0]["digest"] == "d" * 64
    assert {"id", "object", "created", "owned_by"} <= set(models["data"][0])


def test_the_same_seed_says_the_same_alone_and_among_31_others(server: Address) -> None:
    def ask(seed: int) -> str:
        made = server.client().completions.create(
            model=NAME, prompt=f"The river {seed % 5}", max_tokens=20 + seed, temperature=0.9, seed=seed
        )
        return made.choices[0].text

    alone = {seed: ask(seed) for seed in (0, 7, 19)}
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        together = list(pool.map(ask, range(32)))
    assert {seed: together[seed] for seed in alone} == alone
    assert len(set(together)) == 32


def test_several_answers_and_several_prompts(server: Address) -> None:
    settings: Any = {"prompt": ["The river", "A castle"], "n": 3, "seed": 1, "max_tokens": 12, "temperature": 1}
    _, made = server.post("/v1/completions", settings)
    assert [choice["index"] for choice in made["choices"]] == list(range(6))
    assert len({choice["text"] for choice in made["choices"]}) == 6
    _, alone = server.post("/v1/completions", settings | {"prompt": "The river", "n": 1, "seed": 2})
    assert alone["choices"][0]["text"] == made["choices"][1]["text"], "each answer has the next seed"
    _, _, stream = server.ask("POST", "/v1/completions", settings | {"stream": True})
    texts = [""] * 6
    for event in stream.split("\n\n")[:-2]:
        (choice,) = json.loads(event.removeprefix("data: "))["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == [choice["text"] for choice in made["choices"]]


def test_a_stop_string_ends_an_answer_and_is_not_shown(server: Address) -> None:
    settings: Any = {"prompt": "The river", "max_tokens": 40, "temperature": 0}
    _, whole = server.post("/v1/completions", settings)
    text = whole["choices"][0]["text"]
    stop = text[9:12]
    expected = text[: text.index(stop)]
    for more in ({"stop": stop}, {"stop": ["@@@", stop]}):
        _, cut = server.post("/v1/completions", settings | more)
        assert (cut["choices"][0]["text"], cut["choices"][0]["finish_reason"]) == (expected, "stop")
        assert cut["usage"]["completion_tokens"] < 40, "nothing is made after it, and nothing counted"


def test_log_probabilities(server: Address) -> None:
    chat = server.client().chat.completions.create(
        model=NAME, messages=ASKED, max_tokens=5, logprobs=True, top_logprobs=3, temperature=0
    )
    logprobs = chat.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None and len(logprobs.content) == 5
    for token in logprobs.content:
        assert token.logprob == token.top_logprobs[0].logprob and len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob
    text = server.client().completions.create(model=NAME, prompt="The river", max_tokens=5, logprobs=2, temperature=0)
    found = text.choices[0].logprobs
    assert found is not None and found.tokens is not None and found.token_logprobs is not None
    assert "".join(found.tokens) == text.choices[0].text and all(
        value is not None and value < 0 for value in found.token_logprobs
    )


def test_embeddings_are_of_length_one_and_equal_for_equal_texts(server: Address) -> None:
    found = server.client().embeddings.create(
        model=NAME, input=["a river", "a castle", "a river"], encoding_format="float"
    )
    first, other, again = (torch.tensor(row.embedding) for row in found.data)
    assert torch.equal(first, again) and float(first.norm()) == pytest.approx(1, abs=1e-5)
    assert not torch.allclose(first, other)


REFUSED: list[tuple[str, dict[str, Any], int, str | None, str]] = [
    ("/v1/chat/completions", {"messages": []}, 400, "messages", "at least 1"),
    ("/v1/chat/completions", {}, 400, "messages", "missing"),
    ("/v1/chat/completions", {"messages": "hi"}, 400, "messages", "list"),
    ("/v1/chat/completions", {"messages": [{"role": "judge", "content": "x"}]}, 400, "messages.0.role", "'user'"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": 5}]}, 400, "messages.0.content", "string"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "\ud800"}]}, 400, "messages.0", "surrogate"),
    ("/v1/chat/completions", {"messages": ASKED * 1001}, 400, "messages", "1001 messages; 1000 at most"),
    ("/v1/chat/completions", {"messages": ASKED, "tools": [{"type": "function"}]}, 400, "tools", "not support"),
    ("/v1/chat/completions", {"messages": ASKED, "logit_bias": {"5": 1}}, 400, "logit_bias", "not support"),
    ("/v1/chat/completions", {"messages": ASKED, "presence_penalty": 0.5}, 400, "presence_penalty", "not support"),
    (
        "/v1/chat/completions",
        {"messages": ASKED, "response_format": {"type": "json_object"}},
        400,
        "response_format",
        "not",
    ),
    ("/v1/chat/completions", {"messages": ASKED, "surprise": 1}, 400, "surprise", "not support"),
    ("/v1/chat/completions", {"messages": ASKED, "temperature": -1}, 400, "temperature", "greater than or equal to 0"),
    ("/v1/chat/completions", {"messages": ASKED, "temperature": "hot"}, 400, "temperature", "number"),
    ("/v1/chat/completions", {"messages": ASKED, "top_p": 1.5}, 400, "top_p", "less than or equal to 1"),
    ("/v1/chat/completions", {"messages": ASKED, "n": 17}, 400, "n", "17 answers are asked for; 16 at most"),
    ("/v1/chat/completions", {"messages": ASKED, "seed": 2**70}, 400, "seed", "less than"),
    ("/v1/chat/completions", {"messages": ASKED, "top_logprobs": 21, "logprobs": True}, 400, "top_logprobs", "20"),
    ("/v1/chat/completions", {"messages": ASKED, "top_logprobs": 2}, 400, "top_logprobs", "only with logprobs"),
    ("/v1/chat/completions", {"messages": ASKED, "stop": ["a"] * 5}, 400, "stop", "5 texts; 4 at most"),
    ("/v1/chat/completions", {"messages": ASKED, "stop": "x" * 257}, 400, "stop", "256"),
    ("/v1/chat/completions", {"messages": ASKED, "stop": ""}, 400, "stop", "at least 1"),
    ("/v1/chat/completions", {"messages": ASKED, "max_tokens": 0}, 400, "max_tokens", "greater than or equal to 1"),
    (
        "/v1/chat/completions",
        {"messages": ASKED, "max_tokens": 5, "max_completion_tokens": 6},
        400,
        "max_tokens",
        "other",
    ),
    ("/v1/chat/completions", {"messages": ASKED, "stream_options": {}}, 400, "stream_options", "only with stream"),
    ("/v1/chat/completions", {"messages": ASKED, "model": "gpt-4"}, 404, "model", "no model 'gpt-4'"),
    ("/v1/chat/completions", {"messages": ASKED, "max_tokens": CONTEXT}, 400, "messages", f"{CONTEXT} are asked for"),
    (
        "/v1/completions",
        {"prompt": [5] * CONTEXT},
        400,
        "prompt",
        f"context is {CONTEXT} tokens; the prompt has {CONTEXT}",
    ),
    ("/v1/completions", {"prompt": []}, 400, "prompt", "no tokens"),
    ("/v1/completions", {"prompt": [10**9]}, 400, "prompt.0", "no token"),
    ("/v1/completions", {"prompt": "x", "echo": True}, 400, "echo", "not support"),
    ("/tokenize", {}, 400, "text", "one of them"),
    ("/detokenize", {"tokens": [-1]}, 400, "tokens.0", "greater than or equal to 0"),
]


@pytest.mark.parametrize(("path", "body", "status", "param", "words"), REFUSED, ids=lambda value: str(value)[:50])
def test_what_cannot_be_done_is_refused_by_name(
    server: Address, path: str, body: dict[str, Any], status: int, param: str | None, words: str
) -> None:
    found, answer = server.post(path, body)
    assert found == status, answer
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert answer["error"]["param"] == param and words in answer["error"]["message"]


def test_a_context_is_full_to_the_token(server: Address) -> None:
    for prompt, most in ((CONTEXT - 1, 1), (CONTEXT - 9, 9)):
        body = {"prompt": [5] * prompt, "temperature": 0}
        status, answer = server.post("/v1/completions", body | {"max_tokens": most})
        assert status == 200 and 0 < answer["usage"]["completion_tokens"] <= most
        status, answer = server.post("/v1/completions", body | {"max_tokens": most + 1})
        said = f"context is {CONTEXT} tokens; the prompt has {prompt} tokens, and {most + 1} are asked for"
        assert (status, answer["error"]["code"]) == (400, "context_length_exceeded"), "one too many"
        assert said in answer["error"]["message"]


def test_what_asks_for_nothing_is_not_refused(server: Address) -> None:
    idle = {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "tools": None, "user": "someone"}
    assert server.post("/v1/chat/completions", {"messages": ASKED, "max_tokens": 1, **idle})[0] == 200


def test_errors_are_those_of_openai_s_client(server: Address) -> None:
    client = server.client()
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4", messages=ASKED)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "river " * CONTEXT}])
    assert long.value.code == "context_length_exceeded" and str(CONTEXT) in str(long.value)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model=NAME, input="hi")


def test_bodies_that_are_bombs(server: Address) -> None:
    assert server.ask("POST", "/v1/completions", b"{")[2]["error"]["code"] == "invalid_json"
    assert server.ask("POST", "/v1/completions", b"\xff\xfe")[0] == 400
    nested = b'{"prompt": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    assert server.ask("POST", "/v1/completions", nested)[0] == 400
    status, _, answer = server.ask("POST", "/v1/completions", b" " * (1 << 21))
    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    chunked = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    with chunked:
        chunked.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        with suppress(OSError):  # it may close before all is sent
            for _ in range(18):
                chunked.sendall(piece)
        with suppress(ConnectionError):  # nor be read any more
            assert b" 413 " in chunked.recv(4096)
    assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 1})[0] == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", b'{"prompt": [' + b"true," * 150_000 + b"true]}"),
        ("/v1/completions", b'{"prompt": [' + b'"",' * 250_000 + b'""]}'),
        ("/v1/chat/completions", b'{"messages": [' + b"5," * 400_000 + b"5]}"),
        ("/detokenize", b'{"tokens": [' + b"[]," * 300_000 + b"[]]}"),
    ],
    ids=["no prompts", "empty prompts", "no messages", "no tokens"],
)
def test_a_million_faults_are_one(server: Address, path: str, body: bytes) -> None:
    started = time.process_time()
    status, _, answer = server.ask("POST", path, body)
    assert status == 400 and len(answer["error"]["message"]) < 300
    assert time.process_time() - started < 2


def test_embeddings_as_openai_s_client_asks_for_them(server: Address) -> None:
    client = server.client()
    short = client.embeddings.create(model=NAME, input="a river").data[0].embedding
    plain = client.embeddings.create(model=NAME, input="a river", encoding_format="float").data[0].embedding
    assert short == pytest.approx(plain, abs=1e-6)
    assert server.post("/v1/embeddings", {"input": ["x"] * 65})[0] == 400
    assert server.post("/v1/embeddings", {"input": [[5, 6], [7]]})[0] == 200


def test_a_long_context_is_cut_to_what_memory_allows(folder: Path) -> None:
    with model_server(folder, cache_bytes=1 << 20) as server:
        (model,) = server.ask("GET", "/v1/models")[2]["data"]
        assert model["context_length"] == (1 << 20) // (2 * 2 * 2 * 16 * 4 * 4)
        whole = server.post("/v1/completions", {"prompt": "The river", "max_tokens": 200, "temperature": 0})[1]
        assert whole["usage"]["completion_tokens"] == 200 or whole["choices"][0]["finish_reason"] == "stop"


def test_control_tokens_in_a_text_stay_text(server: Address) -> None:
    said = "".join(QWEN_TOKENS)
    _, plain = server.post("/tokenize", {"text": said})
    _, chat = server.post("/tokenize", {"messages": [{"role": "user", "content": said}]})
    marks = [360, 361, 362]
    assert not set(plain["tokens"]) & set(marks)
    assert [token for token in chat["tokens"] if token in marks] == [361, 362, 361], "those of the template"
    _, back = server.post("/detokenize", {"tokens": plain["tokens"]})
    assert back["text"] == said


def slowed(server: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes its time and never ends by itself."""
    model = server.server.served.release.model
    plain = model.logits

    def slow(hidden: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        scores = plain(hidden)
        scores[..., VOCABULARY:] = -1e9
        return scores

    monkeypatch.setattr(model, "logits", slow)


def opened(server: Address, body: dict[str, Any]) -> socket.socket:
    """A request that is sent, whose answer nobody has read yet."""
    text = json.dumps(body)
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(text)}"
    client = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    client.sendall(f"{head}\r\n\r\n{text}".encode())
    return client


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_row_at_once(
    server: Address, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed(server, monkeypatch)
    engine = server.server.served.engine
    made = server.server.metrics.tokens.labels(NAME, "made")
    before = made._value.get()
    with opened(server, {"prompt": "The river", "max_tokens": 1000, "stream": stream}) as client:
        wait_until(lambda: engine.running, "it is under way")
        if stream:
            assert b"200 OK" in client.recv(100)
    wait_until(lambda: not engine.running, "its row is free")
    wait_until(lambda: not server.server.busy, "and nobody waits")
    assert made._value.get() - before < 1000


def test_a_full_line_is_said_with_a_time_to_come_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(f"sqlite:///{tmp_path / 'service.db'}")
    with model_server(folder, service, rows=1, max_waiting=1) as server:
        slowed(server, monkeypatch)
        body = {"prompt": "The river", "max_tokens": 1000}
        engine = server.server.served.engine
        with opened(server, body):
            wait_until(lambda: engine.running, "one is answered")
            with opened(server, body):
                wait_until(lambda: engine.waiting, "one waits")
                status, headers, answer = server.ask("POST", "/v1/completions", body)
                assert (status, answer["error"]["code"], headers["retry-after"]) == (429, "queue_full", "1")
            wait_until(lambda: service.usage("", "key") != [], "who left while waiting is in the ledger")
            (row,) = service.usage("", "key")
            assert (row["prompt_tokens"], row["made_tokens"]) == (0, 0), "and pays for no prompt: nobody has read it"
        wait_until(lambda: not server.server.busy, "both have gone")
        assert service.usage("", "key")[0]["prompt_tokens"] > 0
        assert server.client().completions.create(model=NAME, prompt="x", max_tokens=1).choices


def test_an_answer_that_takes_too_long_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with model_server(folder, request_seconds=0.5) as server:
        slowed(server, monkeypatch)
        body = {"prompt": "The river", "max_tokens": 1000}
        status, _, answer = server.ask("POST", "/v1/completions", body)
        assert (status, answer["error"]["code"]) == (504, "timeout")
        _, _, stream = server.ask("POST", "/v1/completions", body | {"stream": True})
        last = json.loads(stream.strip().split("\n\n")[-1].removeprefix("data: "))
        assert last["error"]["code"] == "timeout", "the status is sent already"


def test_health_and_metrics(server: Address) -> None:
    assert server.ask("GET", "/livez")[::2] == (200, "alive")
    assert server.ask("GET", "/readyz")[::2] == (200, "ready")
    server.post("/v1/completions", {"prompt": "x", "max_tokens": 3})
    _, headers, text = server.ask("GET", "/metrics")
    assert headers["content-type"].startswith("text/plain")
    assert f'llmill_tokens_total{{kind="made",model="{NAME}"}}' in text and "llmill_running 0.0" in text
    assert server.ask("GET", "/nothing")[2]["error"]["message"] == "there is nothing at /nothing"
    assert server.ask("GET", "/v1/completions")[0] == 405


def test_a_model_that_fails_says_so_and_the_next_request_is_answered(
    server: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(hidden: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(server.server.served.release.model, "logits", broken)
    status, answer = server.post("/v1/completions", {"prompt": "x", "max_tokens": 3})
    assert (status, answer["error"]["code"]) == (500, "engine_error")
    monkeypatch.undo()
    assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 3})[0] == 200
