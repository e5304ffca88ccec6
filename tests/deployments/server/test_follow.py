"""Another champion is served without a request that fails; one that cannot be served is refused."""

import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from model_server import NAME, Address, model_server
from open_models import write_qwen
from safetensors.torch import load_file, save_file
from support import wait_until

from deployments.server.follow import Follower
from deployments.server.served import Place

DIGESTS = "d" * 64, "e" * 64


def another(folder: Path, value: float) -> Path:
    """A model like the one that is served, whose weights are others, or no numbers."""
    write_qwen(folder, context_length=1024)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] += value
    save_file(tensors, folder / "model.safetensors")
    return folder


@contextmanager
def following(server: Address, *places: Place) -> Iterator[list[Place]]:
    """The last of these places is the champion; others may be added."""
    champions = list(places)
    follower = Follower(server.server, lambda: champions[-1] if champions else None)
    try:
        yield champions
    finally:
        follower.stop()


def test_requests_go_on_through_a_change_and_none_fails(folder: Path, tmp_path: Path) -> None:
    new = Place(another(tmp_path / "lake", 0.05), "lake", DIGESTS[1])
    with model_server(folder, look_seconds=0.05) as server, following(server) as champions:
        over = threading.Event()
        answers: list[tuple[int, Any]] = []

        def ask(seed: int) -> None:
            while not over.is_set():
                body = {"model": NAME, "prompt": f"The river {seed}", "max_tokens": 20, "seed": seed}
                answers.append(server.post("/v1/completions", body))

        stream = server.client().completions.create(
            model=NAME, prompt="The river", max_tokens=1000, temperature=2, seed=1, n=4, stream=True
        )
        first = next(stream)
        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) > 20, "requests are answered")
        champions.append(new)
        wait_until(lambda: server.server.served.name == "lake", "the new one is served")
        seen = len(answers)
        wait_until(lambda: len(answers) > seen + 20, "and answers")
        over.set()
        for thread in threads:
            thread.join()
        assert {status for status, _ in answers} == {200}
        served = [answer["system_fingerprint"] for _, answer in answers]
        assert set(served) == {digest[:16] for digest in DIGESTS}
        assert {answer["model"] for _, answer in answers[-8:]} == {"lake"}, (
            "who asks for the one of before gets this one"
        )
        rest = list(stream)
        assert {chunk.system_fingerprint for chunk in (first, *rest)} == {DIGESTS[0][:16]}, "what was begun is ended"
        assert sum(chunk.choices[0].finish_reason is not None for chunk in rest) == 4
        (model,) = server.ask("GET", "/v1/models")[2]["data"]
        assert (model["id"], model["digest"]) == ("lake", DIGESTS[1])
        assert server.post("/v1/completions", {"model": "nobody", "prompt": "x"})[0] == 404


def test_a_model_that_is_served_no_more_is_forgotten(folder: Path, tmp_path: Path) -> None:
    new = Place(another(tmp_path / "lake", 0.05), "lake", DIGESTS[1])
    with model_server(folder, look_seconds=0.05) as server:
        before = weakref.ref(server.server.served.release.model)
        for path, body in (("completions", {"prompt": "x"}), ("embeddings", {"input": "x"})):
            assert server.post(f"/v1/{path}", body)[0] == 200
        with following(server, new):
            wait_until(lambda: server.server.served.name == "lake", "the new one is served")
            assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 1})[1]["model"] == "lake"

            def forgotten() -> bool:
                gc.collect()
                return before() is None

            wait_until(forgotten, "its memory is free")


@pytest.mark.parametrize(("value", "words"), [(torch.nan, "not finite"), (None, "is not a release")])
def test_a_champion_that_cannot_be_served_is_refused_loudly_once(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, value: float | None, words: str
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    if value is not None:
        another(broken, value)
    with model_server(folder, look_seconds=0.02) as server, following(server, Place(broken, "broken", DIGESTS[1])):
        wait_until(lambda: "REFUSED" in caplog.text, "it is refused")
        status, answer = server.post("/v1/completions", {"prompt": "x", "max_tokens": 1})
        assert status == 200 and answer["model"] == NAME
        assert server.ask("GET", "/readyz")[0] == 200
        assert "llmill_refused_models_total 1.0" in server.ask("GET", "/metrics")[2]
        threading.Event().wait(0.2)
        assert caplog.text.count("REFUSED") == 1 and words in caplog.text and f"{NAME} stays" in caplog.text


def test_a_store_that_is_away_changes_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def away() -> Place | None:
        raise OSError("the store is away")

    with model_server(folder, look_seconds=0.02) as server:
        follower = Follower(server.server, away)
        wait_until(lambda: "the store is away" in caplog.text, "it is said")
        assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 1})[0] == 200
        follower.stop()
