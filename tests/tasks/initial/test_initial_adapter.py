"""An open model with an adapter: what is taken over computes as both together do, and wrong bases are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from open_models import write_adapter, write_gpt2, write_llama, write_qwen
from safetensors.torch import load_file, save_file
from tiny_model import LocalContext

from model.adapter_config import TENSORS
from model.lora import LowRank
from model.transformer import load_model
from storage.errors import DataError
from tasks.initial.config import ImportConfig
from tasks.initial.observe import observe_initial
from tasks.initial.stage import take_over
from tasks.notices import NOTICES

WRITERS = {"llama": write_llama, "gpt2": write_gpt2, "qwen3": write_qwen}
TARGETS = {"llama": ["q_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"], "qwen3": "all-linear"}
IDS = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(1))


def taken(folder: Path, adapter: Path, out: Path, **settings: Any) -> dict[str, Any]:
    config = ImportConfig(path=str(folder), adapter=str(adapter), **settings)
    return take_over.function(config, context=LocalContext(out))


def logits(folder: Path) -> torch.Tensor:
    model = load_model(folder)
    with torch.no_grad():
        return model.logits(model(IDS))


@pytest.mark.parametrize("family", WRITERS)
def test_a_model_and_what_peft_saves_compute_the_same_taken_over(family: str, tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    theirs = WRITERS[family](tmp_path / "theirs")
    base = transformers.AutoModelForCausalLM.from_pretrained(theirs, dtype=torch.float32)
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=TARGETS[family], init_lora_weights=False, fan_in_fan_out=family == "gpt2"
    )
    judge = peft.get_peft_model(base, config).eval()
    judge.save_pretrained(tmp_path / "adapter")
    summary = taken(theirs, tmp_path / "adapter", tmp_path / "ours")
    assert summary["adapter_rank"] == 4 and NOTICES not in summary
    with torch.no_grad():
        assert torch.allclose(logits(tmp_path / "ours/model"), judge(IDS).logits, atol=1e-4, rtol=0)
    assert not torch.allclose(logits(tmp_path / "ours/model"), logits(theirs), atol=1e-2)
    assert json.loads((tmp_path / "ours/model/training.json").read_text())[0]["adapter_rank"] == 4


def test_an_adapter_that_a_run_has_trained_fits_the_model_that_the_run_began_with(tmp_path: Path) -> None:
    """Such a run has the open model in float32, in a file of its own: its digest is another."""
    half = write_llama(tmp_path / "half")
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(half / "model.safetensors").items()}
    save_file(tensors, half / "model.safetensors")
    take_over.function(ImportConfig(path=str(half)), context=LocalContext(tmp_path / "whole"))
    for name, trained_on in (("of the run", tmp_path / "whole/model"), ("of the file", half)):
        adapter = write_adapter(tmp_path / name, tmp_path / "whole/model", trained_on=trained_on)
        taken(half, adapter, tmp_path / f"taken {name}")
    found = [logits(tmp_path / f"taken {name}" / "model") for name in ("of the run", "of the file")]
    assert torch.equal(*found) and not torch.allclose(found[0], logits(tmp_path / "whole/model"), atol=1e-2)
    other = write_llama(tmp_path / "other")  # the same numbers with more digits
    with pytest.raises(DataError, match=r"trained on other weights than those of .*half: give the model"):
        taken(half, write_adapter(tmp_path / "of another", half, trained_on=other), tmp_path / "refused")


def test_a_shorter_context_is_no_other_base(tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "theirs")
    adapter = write_adapter(tmp_path / "adapter", folder)
    assert taken(folder, adapter, tmp_path / "ours", context_length=48)["context_length"] == 48
    assert taken(folder, adapter, tmp_path / "whole")["context_length"] == 128
    assert torch.equal(logits(tmp_path / "ours/model"), logits(tmp_path / "whole/model"))


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", write_qwen(tmp_path / "qwen"), LowRank(2, 2.0, ("down_proj",)))
    with pytest.raises(DataError, match=r"does not fit a llama model of this shape: .*down_proj"):
        taken(write_llama(tmp_path / "theirs", feed_forward=80), adapter, tmp_path / "ours")


def test_a_name_of_another_base_is_said(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "theirs")
    adapter = write_adapter(tmp_path / "adapter", folder)
    path = adapter / "adapter_config.json"
    for name, said in (("someone/theirs", False), ("someone/other-7b", True)):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": name}))
        summary = taken(folder, adapter, tmp_path / name)
        assert ("trained on someone/other-7b" in "".join(summary.get(NOTICES, []))) is said


def test_it_is_observed_by_content_and_not_by_place(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "theirs")
    one, other = (write_adapter(tmp_path / name, folder) for name in ("one", "other"))
    configs = [ImportConfig(path=str(folder), adapter=str(adapter)) for adapter in (one, other)]
    assert observe_initial(configs[0]) == observe_initial(configs[1]) != observe_initial(ImportConfig(path=str(folder)))
    assert configs[0].identity() == configs[1].identity() == ImportConfig(path=str(folder)).identity()
    tensors = load_file(other / TENSORS)
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, other / TENSORS)
    assert observe_initial(configs[0]) != observe_initial(configs[1])
