"""Scoring by several threads: the same answers in the same places, progress from one of them."""

import math
import threading
from pathlib import Path

import pytest
import torch
from tiny_model import VOCABULARY, write_model

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.scorers.scorers import model_scorers


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_answers_keep_their_order_and_progress_is_shown_by_the_caller(tmp_path: Path, threads: int, count: int) -> None:
    folder = write_model(tmp_path / "model", seed=4)["model"].path
    shown: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        shown.append((done, total))

    requests = [([0, number], [number + 9, 5]) for number in range(4, 4 + count)]
    config = EvaluateConfig(threads=threads, device="cpu", token_budget=256)
    with model_scorers(folder, 32, config, "cpu", progress) as scorers:
        together = scorers.continuations(requests)
        assert shown == sorted(shown)
        assert shown[-1:] == [(count, count)] * (count > 0)
        alone = [scorers.continuations([request])[0] for request in requests]
    assert [nats for nats, _ in together] == pytest.approx([nats for nats, _ in alone], abs=1e-4)
    assert len({round(nats, 3) for nats, _ in alone}) == count


def test_threads_change_nothing_but_the_last_digits(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", seed=4)["model"].path
    requests = [([0, *range(5, 5 + length)], [length, 2 * length]) for length in range(5, 40)]
    documents = [[0, *range(5, 5 + length)] for length in range(5, 200, 7)]
    before = torch.get_num_threads()
    found = []
    for threads in (1, 3):
        config = EvaluateConfig(threads=threads, device="cpu")
        with model_scorers(folder, 32, config, "cpu", lambda *_: None) as scorers:
            found.append((scorers.documents(documents), scorers.continuations(requests)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert [nats for nats, _ in found[0][1]] == pytest.approx([nats for nats, _ in found[1][1]], rel=1e-5)
    assert torch.get_num_threads() == before


def test_a_uniform_model_gives_every_token_the_same(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", zero=True)["model"].path
    config = EvaluateConfig(threads=2, device="cpu")
    with model_scorers(folder, 32, config, "cpu", lambda *_: None) as scorers:
        ((nats, _),) = scorers.continuations([([0, 9], [7, 8, 5])])
        (lost,) = scorers.documents([[0, *range(4, 150)]])
    assert nats == pytest.approx(-3 * math.log(VOCABULARY), rel=1e-5)
    assert lost == pytest.approx(146 * math.log(VOCABULARY), rel=1e-5)
