"""llama.cpp, from the wheel `xllamacpp`, as the engine of our server."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from golden_release import TEXTS, write_golden_release
from model_server import NAME, Address, model_server
from support import wait_until

from deployments.server.follow import Follower
from deployments.server.golden import GoldenError
from deployments.server.served import Place, serve_model
from deployments.server.settings import ServerSettings

pytestmark = pytest.mark.slow
pytest.importorskip("xllamacpp", reason="llama.cpp: pip install xllamacpp")
ENGINE = "llama.cpp"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with a GGUF."""
    return write_golden_release(tmp_path_factory.mktemp("llama") / "tiny", "F16", context_length=256)


@pytest.fixture(scope="module")
def server(release: Path) -> Iterator[Address]:
    with model_server(release, engine=ENGINE) as server:
        yield server


@pytest.fixture(scope="module")
def ours(release: Path) -> Iterator[Address]:
    with model_server(release) as server:
        yield server


def test_it_answers_as_our_engine_does(server: Address, ours: Address) -> None:
    """But where two tokens are as good as equally likely, which random weights often have."""
    equal = 0
    for text in TEXTS:
        asked = {"messages": [{"role": "user", "content": text}], "max_tokens": 16}
        (_, theirs), (_, own) = (one.post("/v1/chat/completions", asked) for one in (server, ours))
        assert theirs["usage"]["prompt_tokens"] == own["usage"]["prompt_tokens"]
        equal += theirs["choices"][0]["message"] == own["choices"][0]["message"]
        assert "\ufffd" not in text
    assert equal >= 3


def test_streams_usage_and_log_probabilities(server: Address) -> None:
    stream = server.client().completions.create(
        model=NAME, prompt="The quiet", max_tokens=12, stream=True, stream_options={"include_usage": True}, logprobs=2
    )
    chunks = list(stream)
    usage = chunks[-1].usage
    assert usage is not None and usage.completion_tokens <= 12
    whole = server.post("/v1/completions", {"prompt": "The quiet", "max_tokens": 12, "logprobs": 2})[1]
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == whole["choices"][0]["text"]
    assert whole["usage"]["completion_tokens"] == usage.completion_tokens
    logprobs = whole["choices"][0]["logprobs"]
    assert all(value <= 0 for value in logprobs["token_logprobs"]) and len(logprobs["top_logprobs"][0]) == 2
    assert whole["choices"][0]["text"].startswith(logprobs["tokens"][0])


def test_seeds_stops_and_many_at_once(server: Address) -> None:
    asked: Any = {"prompt": "The", "max_tokens": 20, "temperature": 1.0, "seed": 5, "n": 8}
    one, other = (server.post("/v1/completions", asked)[1]["choices"] for _ in range(2))
    assert [choice["text"] for choice in one] == [choice["text"] for choice in other]
    assert len({choice["text"] for choice in one}) > 1
    stop = one[0]["text"][4:6]
    stopped = server.post("/v1/completions", {**asked, "n": 1, "stop": stop})[1]["choices"][0]
    assert stopped["text"] == one[0]["text"][: one[0]["text"].index(stop)] and stopped["finish_reason"] == "stop"


def test_a_client_that_goes_away_frees_its_slot(release: Path) -> None:
    with model_server(release, engine=ENGINE, rows=1, max_waiting=1) as server:
        stream = server.client().completions.create(
            model=NAME, prompt="The", max_tokens=250, temperature=1, seed=1, stream=True
        )
        next(stream)
        stream.close()
        wait_until(lambda: server.server.served.engine.running == 0, "nothing is under way")
        assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 2})[0] == 200


def test_its_port_is_closed_to_who_has_not_its_key(server: Address) -> None:
    engine: Any = server.server.served.engine
    base = engine._server.listening_address
    for path, body in (("/v1/completions", b'{"prompt": "x"}'), ("/completion", b'{"prompt": "x"}'), ("/slots", None)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(base + path, body), timeout=10)
        assert refused.value.code in (401, 404, 501)


def test_another_model_s_file_is_refused_and_a_new_champion_swapped(release: Path, tmp_path: Path) -> None:
    other = write_golden_release(tmp_path / "other", "F16", seed=5, context_length=256)
    with model_server(release, engine=ENGINE, look_seconds=0.02) as server:
        follower = Follower(server.server, lambda: Place(other, "other", "e" * 64), ENGINE)
        wait_until(lambda: server.server.served.name == "other", "the new one is served")
        follower.stop()
        assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 2})[1]["model"] == "other"
        assert "llama.cpp" in server.server.served.engine_name
    (other / "tiny-F16.gguf").write_bytes((release / "tiny-F16.gguf").read_bytes())
    with pytest.raises(GoldenError):
        serve_model(Place(other, "other", "e" * 64), ServerSettings(), ENGINE)
