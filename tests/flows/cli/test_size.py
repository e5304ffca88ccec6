"""`llmill size`: its figures are those of a real model of the shape."""

import json
from pathlib import Path

import pytest
import torch
from support import Command
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.cache import KeyValueCache
from model.cost import CPU_CORE, cache_bytes, devices_filled_by, training_bytes, training_flop
from model.optimizer import Optimizer, OptimizerSettings
from model.shape import SIZES
from model.transformer import Transformer, initialise
from tasks.train.pretrain import PretrainConfig


def test_memory_and_operations_are_those_of_a_training_step() -> None:
    shape = PretrainConfig(size="micro", context_length=128).shape(512)
    model = Transformer(shape)
    initialise(model, 0)
    optimizer = Optimizer(model, OptimizerSettings(matrix_rate=0.01, embedding_rate=0.01))
    ids = torch.zeros(2, 128, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # whose products are counted
        model.logits(model(ids)).sum().backward()
    optimizer.step(1.0)
    assert training_flop(shape) == pytest.approx(counter.get_total_flops() / ids.numel(), rel=0.01)
    kept = sum(tensor.nbytes for tensor in optimizer.state().values())
    held = sum(weight.nbytes + weight.grad.nbytes for weight in model.parameters() if weight.grad is not None)
    assert training_bytes(shape) == pytest.approx(kept + held, rel=0.01)
    cache = KeyValueCache(shape, 1, shape.context_length, model.device, torch.float32)
    assert cache_bytes(shape) == cache.keys.nbytes + cache.values.nbytes


@pytest.mark.parametrize("name", SIZES)
def test_each_size_has_its_figures(name: str, tmp_path: Path, command: Command) -> None:
    status, out, _ = command("size", name, "--price", "2.5", "--json", home=tmp_path)
    found = json.loads(out)
    assert status == 0 and found["parameters"] == PretrainConfig(size=name).shape(4096).parameters
    for device in found["devices"]:
        hours = found["tokens"] / device["tokens_per_second"] / 3600
        assert device["hours"] == pytest.approx(hours, rel=0.02, abs=0.001)
        assert device["cost"] == pytest.approx(2.5 * device["hours"], abs=0.01)
    assert any("H200" in device["device"] for device in found["devices"]) == (name in ("124m", "350m", "1b"))


def test_a_model_is_timed_by_the_largest_measured_one_not_above_it() -> None:
    """And on cards only where it fills them; no size is in the table twice."""
    found = {name: devices_filled_by(PretrainConfig(size=name).shape(4096)) for name in ("nano", "micro", "124m")}
    for devices in found.values():
        assert len({device.name for device in devices}) == len(devices)
    micro, nano = ({device.name: device.flop_per_second for device in found[name]} for name in ("micro", "nano"))
    assert micro.keys() == nano.keys() and all(micro[name] > nano[name] for name in nano)
    assert {device.processor for device in found["124m"]} == {CPU_CORE, "NVIDIA H200"}


def test_the_dial_follows_the_practice_that_it_names() -> None:
    """Rates of nanochat by width, batches of GPT-3 by parameters, budgets of Hoffmann et al."""
    for name, size in SIZES.items():
        assert size.matrix_rate == 0.02
        assert size.embedding_rate == pytest.approx(0.004 * (768 / size.width) ** 0.5, rel=0.2)
        if name in ("124m", "350m", "1b"):
            parameters = PretrainConfig(size=name).shape(50_304).parameters
            assert size.tokens == pytest.approx(20 * parameters, rel=0.1)
            assert size.batch_tokens == (2**20 if parameters > 1e9 else 2**19)


def test_it_is_read_by_people(tmp_path: Path, command: Command) -> None:
    options = ("--vocabulary", "50304", "--tokens", "1000000000", "--price", "2")
    status, out, _ = command("size", "124m", *options, home=tmp_path)
    assert status == 0
    for said in ("121 million", "1 billion tokens, 524,288 a step", "NVIDIA H200, bfloat16, compiled", "cost"):
        assert said in out
    assert "cost" not in command("size", "124m", home=tmp_path)[1]
    assert list(tmp_path.iterdir()) == [], "nothing is started"


def test_a_size_that_is_not_known_is_said(tmp_path: Path, command: Command) -> None:
    status, _, err = command("size", "2b", home=tmp_path)
    assert status == 2 and "no such size; there are nano, micro, mini, 124m, 350m, 1b" in " ".join(err.split())
