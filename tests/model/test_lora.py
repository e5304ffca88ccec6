"""Adapters: nothing at first, trained alone, the same merged, and loaded by PEFT."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_families import IDS, SHAPES, scattered
from trainer_process import SHAPE, kill_and_resume, make_job, run_to_end, weights, write_walks

from model.adapter_config import TENSORS
from model.adapters import add_adapter, read_adapter
from model.checkpoint import load_checkpoint
from model.job import TrainingJob
from model.lora import LowRank, adapt, merge, save_adapter, trained
from model.trainer import Trainer
from model.transformer import Transformer, initialise, load_model, save_model
from storage.canonical import digest_file
from storage.errors import ConfigError

pytestmark = pytest.mark.usefixtures("untouched_process")
ALL = LowRank(4, 8.0)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model(IDS))


def adapted(model: Transformer, settings: LowRank) -> Transformer:
    """With adapters of large random numbers."""
    adapt(model, settings, seed=1)
    with torch.no_grad():
        for number, parameter in enumerate(trained(model).values()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.2)
    return model


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2"])
def test_an_adapter_changes_nothing_until_it_is_trained(name: str) -> None:
    model = scattered(Transformer(SHAPES[name]))
    before = logits(model)
    adapt(model, ALL, seed=1)
    assert torch.equal(logits(model), before)
    assert all(".lora_" in one for one in trained(model)) and trained(model)


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2"])
def test_merged_it_is_a_plain_model_that_computes_the_same(name: str, tmp_path: Path) -> None:
    model = adapted(scattered(Transformer(SHAPES[name])), ALL)
    before = logits(model)
    merge(model)
    assert torch.allclose(logits(model), before, atol=1e-5, rtol=0)
    save_model(model, tmp_path)
    assert torch.equal(logits(load_model(tmp_path)), logits(model))


@pytest.mark.parametrize("targets", [(), ("q_proj", "v_proj"), ("k_proj",), ("o_proj", "down_proj")])
@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2"])
def test_peft_computes_the_same_with_it(name: str, targets: tuple[str, ...], tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    model = scattered(Transformer(SHAPES[name]))
    (tmp_path / "base").mkdir()
    save_model(model, tmp_path / "base")
    adapted(model, LowRank(4, 6.0, targets))
    save_adapter(model, LowRank(4, 6.0, targets), tmp_path / "base", tmp_path / "adapter")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    plain = base(IDS).logits
    judge = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.allclose(logits(model), judge(IDS).logits, atol=1e-5, rtol=0)
        assert not torch.allclose(plain, judge(IDS).logits, atol=1e-2)


# Training -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_walks(tmp_path_factory.mktemp("tokens"))


def job_going_on(tokens: Path, work: Path, **settings: Any) -> TrainingJob:
    """One that begins with the weights of a model."""
    work.mkdir()
    base = work / "base"
    base.mkdir()
    model = Transformer(SHAPE)
    initialise(model, 1)
    save_model(model, base)
    return make_job(tokens, work, initial=str(base), **settings)


def job_with_adapter(tokens: Path, work: Path) -> TrainingJob:
    return job_going_on(tokens, work, adapter=LowRank(4, 8.0), adapter_output=str(work / "adapter"))


def test_training_changes_the_adapter_alone(tokens: Path, tmp_path: Path) -> None:
    job = job_with_adapter(tokens, tmp_path / "w")
    base = load_file(Path(job.initial or "", "model.safetensors"))
    trainer = Trainer(dataclasses.replace(job, threads=1))
    assert trainer.run() == 0
    result = json.loads((Path(job.work) / "result.json").read_text())
    assert result["trained_parameters"] < 0.3 * result["parameters"]
    saved = load_checkpoint(Path(job.work) / "checkpoints", trainer.job.identity())
    assert saved is not None
    assert all(".lora_" in name for name in saved.tensors if name != "random"), "neither weights nor their state"
    merged = load_file(Path(job.output) / "model.safetensors")
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert changed == {name for name in base if name.endswith("_proj.weight")}
    again = load_model(Path(job.initial or ""))
    adapter = read_adapter(Path(job.adapter_output), again.shape)
    adapter.check_base([digest_file(Path(job.initial or "", "model.safetensors"))], "the base")
    add_adapter(again.state_dict(), adapter)
    assert all(torch.equal(tensor, merged[name]) for name, tensor in again.state_dict().items())


@pytest.mark.slow
def test_a_model_that_goes_on_with_plain_text_ends_with_the_same_bits_after_a_kill(
    tokens: Path, tmp_path: Path
) -> None:
    """Domain adaptation: all weights, from those of a model."""
    whole, job = (job_going_on(tokens, tmp_path / name) for name in ("whole", "killed"))
    run_to_end(whole)
    kill_and_resume(job, 20)
    assert weights(job) == weights(whole)


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_bits(tokens: Path, tmp_path: Path) -> None:
    whole = job_with_adapter(tokens, tmp_path / "whole")
    run_to_end(whole)
    job = job_with_adapter(tokens, tmp_path / "killed")
    kill_and_resume(job, 20)
    assert weights(job) == weights(whole)
    adapters = [(Path(one.adapter_output) / TENSORS).read_bytes() for one in (job, whole)]
    assert adapters[0] == adapters[1]


def test_an_adapter_needs_weights(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no initial weights"):
        make_job(tokens, tmp_path, adapter=LowRank(4, 8.0))
