"""Whoever makes the answers: keys, ledger, moderation, feedback, votes and a new champion work the same."""

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from golden_release import write_golden_release
from model_server import NAME, Address, feedback_store, model_server
from support import wait_until
from test_moderation import events, judge_of

from deployments.server.follow import Follower
from deployments.server.served import Place, serve_model
from storage.service import Limits, Service
from tasks.moderate.folding import folded, tokens

pytestmark = pytest.mark.slow
ELSEWHERE, LLAMA_CPP = "an address", "llama.cpp"
no_llama_cpp = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="pip install xllamacpp")
ASKED: Any = {"messages": [{"role": "user", "content": "春天来了 river"}], "max_tokens": 24, "temperature": 0}
CHAT = "/v1/chat/completions"
DIGESTS = "d" * 64, "e" * 64


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Place]:
    """Two releases, with golden prompts and GGUFs."""
    folder = tmp_path_factory.mktemp("releases")
    made = [
        write_golden_release(folder / name / name, "F16", seed=seed, context_length=256)
        for seed, name in ((4, NAME), (5, "lake"))
    ]
    return [Place(path, path.name, digest) for path, digest in zip(made, DIGESTS, strict=True)]


@pytest.fixture(params=["torch", ELSEWHERE, pytest.param(LLAMA_CPP, marks=no_llama_cpp)])
def engine(request: pytest.FixtureRequest, places: list[Place]) -> Iterator[tuple[str, Address | None]]:
    """What `--engine` names, and the server that is there, if it is an address."""
    if request.param != ELSEWHERE:
        yield request.param, None
        return
    with model_server(places[0].folder) as there:
        yield f"http://127.0.0.1:{there.port}", there


@contextmanager
def following(server: Address, place: Place, engine: str) -> Iterator[None]:
    follower = Follower(server.server, lambda: place, engine)
    try:
        yield
    finally:
        follower.stop()


def test_all_that_stands_before_an_engine_works_with_it(
    engine: tuple[str, Address | None], places: list[Place], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    named, there = engine
    service = Service(f"sqlite:///{tmp_path / 'service.db'}")
    key, store = service.add_key("ada", "standard", Limits()), feedback_store(places[0].folder)

    def ask(server: Address, path: str, body: Any, status: int = 200) -> Any:
        found, _, answer = server.ask("POST", path, body, {"authorization": f"Bearer {key}"})
        assert found == status, answer
        return answer

    with model_server(places[0].folder, service, named, beside=places[1], look_seconds=0.1) as server:
        assert server.ask("POST", CHAT, ASKED)[0] == 401
        mine, other = ask(server, CHAT, ASKED), ask(server, CHAT, ASKED | {"model": "lake"})
        assert [one["system_fingerprint"] for one in (mine, other)] == [digest[:16] for digest in DIGESTS]
        (row,) = (one for one in service.usage("", "model") if one["model"] == DIGESTS[0])
        assert row["made_tokens"] == mine["usage"]["completion_tokens"] and row["price"] > 0

        text = mine["choices"][0]["message"]["content"]
        kept = ask(server, "/v1/feedback", {"id": mine["id"], "correction": "河边", "consent": True})
        (record,) = (one for one in store.feedback() if one.id == kept["id"])
        assert (record.answer, record.correction, record.model) == (text, "河边", DIGESTS[0])
        assert record.prompt_ids and record.answer_ids
        voted = ask(server, "/v1/votes", {"ids": [mine["id"], other["id"]], "choice": "b", "consent": True})
        (vote,) = (one for one in store.votes() if one.id == voted["id"])
        assert (vote.model_a, vote.model_b, vote.answer_a) == (*DIGESTS, text)

        with following(server, places[1], named):
            if there is not None:
                wait_until(lambda: "REFUSED" in caplog.text, "the engine there says what it has said")
                assert ask(server, CHAT, ASKED)["system_fingerprint"] == DIGESTS[0][:16]
                before = there.server.swap(serve_model(places[1], there.server.settings))
            wait_until(lambda: server.server.served.digest == DIGESTS[1], "the new one is served")
            again = ask(server, CHAT, ASKED)
            assert again["system_fingerprint"] == DIGESTS[1][:16] and server.server.beside is None
            assert again["choices"][0]["message"]["content"] == other["choices"][0]["message"]["content"]
        assert caplog.text.count("REFUSED") == int(there is not None), "once, however often it is looked"
    if there is not None:
        there.server.swap(before).engine.stop()

    word = next(word for word in tokens(folded(text)) if len(word) > 1)
    with model_server(places[0].folder, service, named, moderator=judge_of(tmp_path, word)) as judged:
        whole = ask(judged, CHAT, ASKED)
        (choice,) = whole["choices"]
        assert choice["finish_reason"] == "content_filter" and word not in folded(choice["message"]["content"])
        stream = events(ask(judged, CHAT, ASKED | {"stream": True, "stream_options": {"include_usage": True}}))
        said = [one["choices"][0] for one in stream if one["choices"]]
        assert said[-1]["finish_reason"] == "content_filter" and word not in folded(json.dumps(said))
        assert 0 < stream[-1]["usage"]["completion_tokens"] <= ASKED["max_tokens"]
        refused = ask(judged, CHAT, {"messages": [{"role": "user", "content": f"A {word}"}]}, 400)
        assert refused["error"]["code"] == "content_policy_violation"
