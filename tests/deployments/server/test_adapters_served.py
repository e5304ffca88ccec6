"""Adapters that are served beside a model: each is one more model to OpenAI's client, and says what its merged model
says."""

import concurrent.futures
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from model_server import NAME, Address, model_server
from open_models import write_adapter
from safetensors.torch import load_file, save_file
from support import wait_until
from test_follow import DIGESTS, another, following

from deployments.server.adapters import AdapterPlace
from deployments.server.golden import GoldenError
from deployments.server.served import Place, serve_model
from deployments.server.settings import ServerSettings
from model.adapters import add_adapter, read_adapter
from model.lora import LowRank
from model.transformer import load_model, save_model
from storage.service import Limits, Service
from tasks.moderate.config import ModerationConfig
from tasks.moderate.moderator import Moderator

KINDS = {"polite": LowRank(3, 6.0), "style/short": LowRank(5, 5.0, ("q_proj", "down_proj"))}
MODELS = (NAME, *KINDS)
TEXTS = ("The river", "河流很安静。", "แม่น้ำเงียบสงบ", "नदी शांत है", "Die Brücke über den Fluß", "def add_edge(graph)")


@pytest.fixture(scope="module")
def places(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[AdapterPlace, ...]:
    root = tmp_path_factory.mktemp("adapters")
    return tuple(
        AdapterPlace(name, write_adapter(root / str(number), folder, kind))
        for number, (name, kind) in enumerate(KINDS.items())
    )


@pytest.fixture(scope="module")
def server(folder: Path, places: tuple[AdapterPlace, ...]) -> Iterator[Address]:
    with model_server(folder, adapters=places) as address:
        yield address


@pytest.fixture(scope="module")
def expected(
    folder: Path, places: tuple[AdapterPlace, ...], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, dict[str, str]]:
    """What each merged model, and the model alone, say to TEXTS, served as models of their own."""
    folders = {NAME: folder}
    for number, place in enumerate(places):
        merged = tmp_path_factory.mktemp("merged") / str(number)
        shutil.copytree(folder, merged)
        model = load_model(folder)
        add_adapter(model.state_dict(), read_adapter(place.folder, model.shape))
        save_model(model, merged)
        shutil.copy(folder / "config.json", merged)  # which names its control tokens too
        folders[place.name] = merged
    said = {}
    for name, one in folders.items():
        with model_server(one) as address:
            said[name] = {text: complete(address, NAME, text) for text in TEXTS}
    return said


def complete(address: Address, model: str, text: str) -> str:
    made = address.client().completions.create(model=model, prompt=text, max_tokens=16, temperature=0)
    assert made.model == model
    return made.choices[0].text


def stream(address: Address, model: str, text: str) -> str:
    pieces = address.client().completions.create(model=model, prompt=text, max_tokens=16, temperature=0, stream=True)
    return "".join(piece.choices[0].text for piece in pieces)


def made_tokens(address: Address, model: str) -> float:
    """What the server has counted of a model."""
    lines = address.ask("GET", "/metrics")[2].splitlines()
    start = f'llmill_tokens_total{{kind="made",model="{model}"}} '
    return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))


def test_the_models_are_the_base_and_its_adapters(server: Address, places: tuple[AdapterPlace, ...]) -> None:
    base, *others = server.client().models.list().data
    assert base.id == NAME and base.parent is None  # type: ignore[attr-defined]
    assert {one.id: one.parent for one in others} == dict.fromkeys(KINDS, NAME)  # type: ignore[attr-defined]
    digests = {one.id: one.digest for one in (base, *others)}  # type: ignore[attr-defined]
    assert len(set(digests.values())) == 3
    assert digests["polite"] == places[0].digest(digests[NAME])
    status, _, model = server.ask("GET", "/v1/models/style/short")
    assert status == 200 and model["id"] == "style/short" and 0 < model["memory_bytes"] < 1_000_000
    with pytest.raises(openai.NotFoundError, match="there is 'river', 'polite', 'style/short'"):
        complete(server, "rude", "x")


def test_all_at_once_each_says_what_its_merged_model_says(
    server: Address, expected: Mapping[str, dict[str, str]]
) -> None:
    asked = [(ask, name, text) for text in TEXTS for name in MODELS for ask in (complete, stream)]
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as threads:
        answers = threads.map(lambda one: one[0](server, one[1], one[2]), asked)
        for (_, name, text), answer in zip(asked, answers, strict=True):
            assert answer == expected[name][text], (name, text)
    assert len({json.dumps(said) for said in expected.values()}) == 3, "they say different things"


def test_the_base_is_answered_bit_for_bit_as_without_adapters(folder: Path, places: tuple[AdapterPlace, ...]) -> None:
    """By servers that have read nothing: sums are added up otherwise where a beginning was read before."""
    body = {"model": NAME, "prompt": "Die Brücke", "max_tokens": 24, "temperature": 1.0, "seed": 7, "logprobs": 5}
    chat = {"model": NAME, "messages": [{"role": "user", "content": "河流?"}], "max_tokens": 9, "logprobs": True}
    texts = {"model": NAME, "input": ["one", "नदी"]}
    paths = (("/v1/completions", body), ("/v1/chat/completions", chat), ("/v1/embeddings", texts))
    with model_server(folder) as plain, model_server(folder, adapters=places) as server:
        for path, asked in paths:
            server.post("/v1/completions", {"model": "polite", "prompt": "Something else", "max_tokens": 3})
            with_adapters, without = server.post(path, asked)[1], plain.post(path, asked)[1]
            part = "data" if "data" in without else "choices"
            assert with_adapters[part] == without[part], path


def test_embeddings_are_those_of_the_adapter(server: Address) -> None:
    made = [server.client().embeddings.create(model=name, input="The river").data[0].embedding for name in MODELS]
    again = server.client().embeddings.create(model=NAME, input="The river").data[0].embedding
    assert again == made[0] and made[0] != made[1] != made[2] != made[0]


def test_what_one_has_read_is_not_reused_by_another(server: Address) -> None:
    def cached(model: str) -> int:
        body = {"model": model, "prompt": "A beginning that only this test has: " * 4, "max_tokens": 2}
        reused: int = server.post("/v1/completions", body)[1]["usage"]["prompt_tokens_details"]["cached_tokens"]
        return reused

    assert all(cached(name) < 4 for name in MODELS)
    assert all(cached(name) > 20 for name in MODELS)


def test_a_stream_that_is_closed_frees_its_row_and_the_others_go_on(
    server: Address, expected: Mapping[str, dict[str, str]]
) -> None:
    asked: Any = {"prompt": "The river", "temperature": 2, "seed": 1, "stream": True}
    client = server.client()
    before = made_tokens(server, "polite")
    others = {name: client.completions.create(model=name, max_tokens=60, **asked) for name in (NAME, "style/short")}
    endless = client.completions.create(model="polite", max_tokens=1000, n=16, **asked)
    for pieces in (endless, *others.values()):
        next(pieces)
    endless.close()
    for name, pieces in others.items():
        rest = list(pieces)
        assert {piece.model for piece in rest} == {name} and rest[-1].choices[0].finish_reason in ("stop", "length")
    assert complete(server, "polite", TEXTS[0]) == expected["polite"][TEXTS[0]]
    wait_until(lambda: server.server.served.engine.running == 0, "all rows are free")
    assert 0 < made_tokens(server, "polite") - before < 16 * 200, "most of it was never made"


def test_ledger_metrics_limits_judge_and_feedback_know_an_adapter(
    folder: Path, places: tuple[AdapterPlace, ...], tmp_path: Path
) -> None:
    (tmp_path / "words.txt").write_text("doctor\n")
    judged = {"categories": [{"name": "rude", "words": [{"path": str(tmp_path / "words.txt")}]}]}
    judge = Moderator.of(ModerationConfig.model_validate(judged), "")
    service = Service(f"sqlite:///{tmp_path / 'service.db'}")
    secret = service.add_key("ada", "standard", Limits(tokens_per_day=60))
    with model_server(folder, service, adapters=places, moderator=judge) as server:
        client = server.client(secret)
        ids, used = [], {}
        for name in MODELS:
            reply = client.completions.create(model=name, prompt="The river", max_tokens=8, temperature=0)
            assert reply.usage is not None
            ids.append(reply.id)
            used[name] = reply.usage.completion_tokens
        with pytest.raises(openai.BadRequestError, match="flagged as rude"):
            client.completions.create(model="polite", prompt="The doctor", max_tokens=8)
        client.post("/votes", body={"ids": ids[1:], "choice": "b", "consent": True}, cast_to=object)
        client.post("/feedback", body={"id": ids[1], "rating": "up", "consent": True}, cast_to=object)
        models = client.models.list().data
        metrics: str = server.ask("GET", "/metrics", headers={"authorization": f"Bearer {secret}"})[2]
        with pytest.raises(openai.RateLimitError, match="60 tokens of a day"):
            for _ in range(9):
                client.completions.create(model="style/short", prompt="The river", max_tokens=8)
    rows = {row["model"]: row for row in service.usage("", "model")}
    assert set(rows) == {model.digest for model in models}  # type: ignore[attr-defined]
    for model in models[:2]:
        assert rows[model.digest]["made_tokens"] == used[model.id]  # type: ignore[attr-defined]
        assert f'llmill_tokens_total{{kind="made",model="{model.id}"}} {float(used[model.id])}' in metrics


def test_an_adapter_whose_scores_overflow_is_not_served(
    folder: Path, places: tuple[AdapterPlace, ...], tmp_path: Path
) -> None:
    path = shutil.copytree(places[0].folder, tmp_path / "huge") / "adapter_model.safetensors"
    save_file({name: tensor * 1e30 for name, tensor in load_file(path).items()}, path)
    place = Place(folder, NAME, "d" * 64, adapters=(*places, AdapterPlace("huge", path.parent)))
    with pytest.raises(GoldenError, match="adapter huge: the model's scores are not finite"):
        serve_model(place, ServerSettings())


# Another champion ---------------------------------------------------------------------------------------------------


def test_a_champion_of_other_weights_is_refused_and_the_adapters_stay(
    folder: Path,
    places: tuple[AdapterPlace, ...],
    expected: Mapping[str, dict[str, str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    new = Place(another(tmp_path / "lake", 0.05), "lake", DIGESTS[1], adapters=places)
    with model_server(folder, adapters=places, look_seconds=0.02) as server, following(server, new):
        wait_until(lambda: "REFUSED" in caplog.text, "it is refused")
        for name in MODELS:
            assert complete(server, name, TEXTS[0]) == expected[name][TEXTS[0]]
        assert "llmill_refused_models_total 1.0" in server.ask("GET", "/metrics")[2]
    for words in ("weights are others", "(polite, style/short)", "with adapters of this champion, or without"):
        assert words in caplog.text
    assert caplog.text.count("REFUSED") == 1 and "tried again" not in caplog.text and f"{NAME} stays" in caplog.text


def test_a_champion_of_the_same_weights_takes_the_adapters_along(
    folder: Path, places: tuple[AdapterPlace, ...], expected: Mapping[str, dict[str, str]], tmp_path: Path
) -> None:
    """Such as a release that was made anew with another card; here it is the one beside, which had no adapters."""
    new = Place(shutil.copytree(folder, tmp_path / "again"), "again", DIGESTS[1])
    champion = replace(new, adapters=places)
    with model_server(folder, adapters=places, beside=new, look_seconds=0.02) as server:
        going = server.client().completions.create(
            model="polite", prompt="The river", max_tokens=500, temperature=2, seed=1, stream=True
        )
        next(going)
        with following(server, champion):
            wait_until(lambda: server.server.served.name == "again", "it is served")
            for name in MODELS[1:]:
                assert complete(server, name, TEXTS[1]) == expected[name][TEXTS[1]]
            models = server.client().models.list().data
            assert [(one.id, one.parent) for one in models] == [  # type: ignore[attr-defined]
                ("again", None), ("polite", "again"), ("style/short", "again")
            ]  # fmt: skip
            *_, last = going
            assert last.choices[0].finish_reason in ("stop", "length"), "what was begun is ended"
