"""The adapters of a release: on the weights that its card names they make its model, by PEFT's own computation."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from open_models import write_adapter
from test_release import CONFIG, CORPUS, EXAMPLES, SCORES
from tiny_model import LocalContext, artifact, write_corpus, write_model, write_tokenizer

from model.adapters import add_adapter, read_adapter
from model.lora import LowRank
from model.transformer import load_model, save_model
from storage.canonical import digest_file
from storage.store.artifacts import Artifact
from tasks.release import make_release

IDS = torch.randint(0, 300, (2, 30), generator=torch.Generator().manual_seed(1))
RANKS = {"finetune": LowRank(3, 6.0, ("q_proj", "down_proj")), "align": LowRank(2, 8.0)}


def trained(stage: str, before: Path, folder: Path, *, by_adapter: bool) -> Artifact:
    """What a training leaves that begins with the model of a folder: all weights changed, or an adapter merged."""
    shutil.copytree(before, folder / "model")
    adapter = folder / "adapter"
    adapter.mkdir()
    (adapter / "about.json").write_text("null\n")
    model = load_model(before)
    with torch.no_grad():
        if by_adapter:
            add_adapter(model.state_dict(), read_adapter(write_adapter(adapter, before, RANKS[stage]), model.shape))
        else:
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)), alpha=0.05)
    save_model(model, folder / "model")
    return artifact(stage, model=folder / "model", adapter=adapter)


def released(root: Path, tuned: Artifact, before: Artifact | None) -> Path:
    scores = root / "scores"
    scores.mkdir()
    for name, value in (("scores", SCORES), ("corpus", CORPUS), ("examples", EXAMPLES)):
        (scores / f"{name}.json").write_text(json.dumps(value))
    others = (write_tokenizer(root / "tokenizer"), artifact("evaluate", scores=scores))
    clean = write_corpus(root / "clean", train=4, heldout=12)
    light = CONFIG.model_copy(update={"formats": (), "samples": 0})
    make_release.function(light, tuned, *others, clean, before, context=LocalContext(root / "build"))
    return root / "build" / "release"


def logits(judge: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = judge(IDS).logits
    return found


@pytest.mark.parametrize("aligned", [None, "all weights", "adapter"])
@pytest.mark.parametrize("tuned_by", ["all weights", "adapter"])
def test_what_it_carries_makes_its_model(tuned_by: str, aligned: str | None, tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base = write_model(tmp_path / "base", seed=2)["model"].path
    steps = [trained("finetune", base, tmp_path / "tuned", by_adapter=tuned_by == "adapter")]
    if aligned:
        steps.append(trained("align", steps[0]["model"].path, tmp_path / "aligned", by_adapter=aligned == "adapter"))
    folder = released(tmp_path, steps[-1], steps[0] if aligned else None)
    card = (folder / "README.md").read_text()
    carried = sorted(path.name for path in (folder / "adapters").glob("*"))
    if (aligned or tuned_by) == "all weights":
        assert carried == []
        assert ("overtaken by alignment" in card) is (tuned_by == "adapter")
        return
    assert carried == ["align"] * (aligned == "adapter") + ["finetune"] * (tuned_by == "adapter")
    begun = base if "finetune" in carried else steps[0]["model"].path
    judge = transformers.AutoModelForCausalLM.from_pretrained(begun, dtype=torch.float32)
    assert not torch.allclose(logits(judge), logits_of(folder), atol=1e-2)
    order = [name for name in ("finetune", "align") if name in carried]
    judge = peft.PeftModel.from_pretrained(judge, folder / "adapters" / order[0], adapter_name=order[0])
    for name in order[1:]:
        judge.load_adapter(folder / "adapters" / name, name)
    judge.base_model.set_adapter(order)
    assert torch.allclose(logits(judge.eval()), logits_of(folder), atol=1e-5, rtol=0)
    bases = dict(re.findall(r"\| `adapters/(\w+)` \| \d \| `(\w{64})` \|", card))
    wanted = {"finetune": base, "align": steps[0]["model"].path}
    assert bases == {name: digest_file(wanted[name] / "model.safetensors") for name in carried}
    assert ("Both at once on the base model" in card) is (len(carried) == 2)
    assert "  adapters/" + carried[0] + "/adapter_model.safetensors\n" in (folder / "SHA256SUMS").read_text()
    assert not (folder / "adapters" / carried[0] / "about.json").exists()


def logits_of(folder: Path) -> torch.Tensor:
    model = load_model(folder)
    with torch.no_grad():
        return model.logits(model(IDS))
