"""On a GPU, where there is one: it says what the CPU says, and a killed run ends with the same bits."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from trainer_process import curve, make_job, start, wait_for_step, weights, write_walks

from model.batches import Batch
from model.job import Source
from model.likelihood import score_continuations, score_documents
from model.loss import target_nats
from model.parallel import Workers, add_gradients
from model.shape import Shape
from model.transformer import Transformer, initialise

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
SHAPE = Shape(512, 2, 64, 4, 2, 16, 96, 64)


def a_model(device: str, dtype: torch.dtype = torch.float32) -> Transformer:
    model = Transformer(SHAPE, dtype)
    initialise(model, seed=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):  # zero at first: the blocks would do nothing
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return model.to(device)


def a_batch(rows: int = 8) -> Batch:
    ids = np.random.default_rng(0).integers(0, 512, (rows, 65))
    return Batch(ids[:, :-1].copy(), ids[:, 1:].copy())


def gradients(model: Transformer) -> dict[str, torch.Tensor]:
    add_gradients(model, a_batch(), a_batch().losses, 256, target_nats, Workers(1))
    return {name: parameter.grad.cpu() for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_scores_are_those_of_the_cpu() -> None:
    random = np.random.default_rng(2)
    requests = [(random.integers(0, 512, 1 + i % 40).tolist(), random.integers(0, 512, 3).tolist()) for i in range(50)]
    documents = [random.integers(0, 512, 10 + 5 * i).tolist() for i in range(30)]
    there, here = a_model("cuda").eval(), a_model("cpu").eval()
    for (a, greedy_a), (b, greedy_b) in zip(
        score_continuations(there, requests), score_continuations(here, requests), strict=True
    ):
        assert a == pytest.approx(b, abs=2e-3) and greedy_a == greedy_b
    assert score_documents(there, documents) == pytest.approx(score_documents(here, documents), rel=1e-4)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_are_those_of_the_cpu(compiled: bool) -> None:
    model = a_model("cuda")
    if compiled:
        model.compile_blocks()
    expected, found = gradients(a_model("cpu")), gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.linalg.norm(found[name] - gradient) <= 2e-3 * torch.linalg.norm(gradient) + 1e-7, name


@pytest.mark.parametrize("compiled", [False, True])
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path, compiled: bool) -> None:
    tokens = write_walks(tmp_path)
    changes = {"device": "cuda", "dtype": "bfloat16", "compiled": compiled}
    whole, killed = (make_job(tokens, tmp_path / name, **changes) for name in ("whole", "killed"))
    assert start(whole).wait(300) == 0, (Path(whole.work) / "log").read_text()
    process = start(killed)
    wait_for_step(killed, 20, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert start(killed).wait(300) == 0
    assert "resumed at step" in (Path(killed.work) / "log").read_text()
    assert curve(killed) == curve(whole)
    assert weights(killed) == weights(whole)
    result = json.loads((Path(whole.work) / "result.json").read_text())
    assert result["after"]["heldout"] < 2.0


@pytest.mark.parametrize("packing", [False, True])
def test_examples_of_all_lengths_are_learned(tmp_path: Path, packing: bool) -> None:
    from model.batches import Example, ExampleSet

    random = np.random.default_rng(5)
    examples = [
        Example([0, *random.integers(1, 60, 1 + i % 9).tolist()], random.integers(1, 60, 1 + i % 4).tolist(), 4)
        for i in range(64)
    ]
    ExampleSet.write(tmp_path / "examples", examples)
    source = Source("examples", str(tmp_path / "examples"))
    job = make_job(
        tmp_path,
        tmp_path / "work",
        objective="answers",
        packing=packing,
        device="cuda",
        dtype="bfloat16",
        data=source,
        validation={"heldout": source},
    )
    assert start(job).wait(300) == 0, (Path(job.work) / "log").read_text()
    losses = [row["loss"] for row in curve(job)]
    assert losses[-1] < losses[0] - 0.5
