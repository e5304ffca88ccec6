"""A server answers its release's golden prompts before anybody else's: who says something else is not served."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from golden_release import TEXTS, write_golden_release
from model_server import NAME, model_server
from safetensors.torch import load_file, save_file
from support import wait_until

from deployments.server.follow import Follower
from deployments.server.golden import GoldenError
from deployments.server.served import Place, serve_model
from deployments.server.settings import ServerSettings
from storage.errors import DataError
from tasks.answer.golden import GOLDEN, read_golden


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with golden prompts."""
    return write_golden_release(tmp_path_factory.mktemp("golden") / "tiny")


def copied(release: Path, folder: Path) -> Path:
    shutil.copytree(release, folder)
    return folder


def changed(folder: Path, **fields: Any) -> Path:
    """The first golden prompt has other fields."""
    golden = json.loads((folder / GOLDEN).read_bytes())
    golden["prompts"][0] |= fields
    (folder / GOLDEN).write_text(json.dumps(golden))
    return folder


def load(folder: Path) -> None:
    serve_model(Place(folder, "tiny", "d" * 64), ServerSettings()).engine.stop()


def test_a_release_s_answers_are_its_own(release: Path) -> None:
    golden = read_golden(release)
    assert len(golden) == 1 + len(TEXTS) and all(len(one.tokens) > 3 for one in golden)
    load(release)


@pytest.mark.parametrize("nats", [0.002, 0.02])
def test_what_rounding_may_move_is_let_pass_and_no_more(release: Path, tmp_path: Path, nats: float) -> None:
    first = read_golden(release)[0]
    folder = changed(copied(release, tmp_path / "tiny"), log_probabilities=[v + nats for v in first.log_probabilities])
    if nats < 0.01:
        load(folder)
    else:
        with pytest.raises(GoldenError, match=r"golden prompt 1 of 6: a log-probability differs by 0\.02"):
            load(folder)


@pytest.mark.parametrize("margin", [0.001, 1.0])
def test_another_token_passes_only_where_two_were_as_good_as_equally_likely(
    release: Path, tmp_path: Path, margin: float
) -> None:
    first = read_golden(release)[0]
    token = next(token for token in range(60, 100) if token != first.tokens[2])
    tokens = [*first.tokens[:2], token, *first.tokens[3:]]
    margins = [9.0, 9.0, margin, *[9.0] * (len(tokens) - 3)]
    folder = changed(copied(release, tmp_path / "tiny"), tokens=tokens, margins=margins)
    if margin < 0.02:
        load(folder)
    else:
        with pytest.raises(GoldenError, match="is said, where the release said"):
            load(folder)


def test_a_little_of_a_weight_changed_is_seen(release: Path, tmp_path: Path) -> None:
    folder = copied(release, tmp_path / "tiny")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] *= 1.5
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(GoldenError):
        load(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON|Invalid JSON"),
        ('{"prompts": []}', "prompts: "),
        (
            '{"prompts": [{"ids": [0], "tokens": [1], "text": "", "log_probabilities": [], "margins": []}]}',
            "prompts.0: .*each token",
        ),
        (
            '{"prompts": [{"ids": [0], "tokens": ["1"], "text": "", "log_probabilities": [0], "margins": [0]}]}',
            "tokens.0",
        ),
        (
            '{"prompts": [{"ids": [99999], "tokens": [1], "text": "", "log_probabilities": [0], "margins": [0]}]}',
            "model fails",
        ),
    ],
)
def test_golden_prompts_that_are_none_are_said(release: Path, tmp_path: Path, text: str, words: str) -> None:
    folder = copied(release, tmp_path / "tiny")
    (folder / GOLDEN).write_text(text)
    with pytest.raises(DataError, match=words):
        load(folder)


def test_a_champion_that_says_something_else_is_refused_for_good(
    release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = changed(copied(release, tmp_path / "bad"), log_probabilities=[-1.0] * len(read_golden(release)[0].tokens))
    with model_server(release, look_seconds=0.02, retry_seconds=0.05) as server:
        follower = Follower(server.server, lambda: Place(bad, "bad", "e" * 64))
        wait_until(lambda: "REFUSED" in caplog.text, "it is refused")
        threading.Event().wait(0.3)
        follower.stop()
        assert caplog.text.count("REFUSED") == 1 and f"{NAME} stays" in caplog.text
        assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 1})[1]["model"] == NAME


def test_a_champion_whose_file_is_away_is_tried_again(
    release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    late = copied(release, tmp_path / "late")
    (late / "model.safetensors").rename(tmp_path / "away")
    with model_server(release, look_seconds=0.02, retry_seconds=0.05) as server:
        follower = Follower(server.server, lambda: Place(late, "late", "e" * 64))
        wait_until(lambda: caplog.text.count("REFUSED") > 2, "it is refused again and again")
        assert [f"tried again in {seconds} s" in caplog.text for seconds in (0.05, 0.1, 0.2)] == [True] * 3
        (tmp_path / "away").rename(late / "model.safetensors")
        wait_until(lambda: server.server.served.name == "late", "it is served once its file is there")
        follower.stop()
        assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 1})[1]["model"] == "late"
        assert "llmill_refused_models_total 1.0" in server.ask("GET", "/metrics")[2]
