"""Adapters read from PEFT's form: added to weights, and several beside one model, a row each; what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_families import IDS, SHAPES, scattered
from test_lora import ALL, adapted, logits
from torch import Tensor

from model.adapter_config import CONFIG, TENSORS
from model.adapter_rows import Adapters
from model.adapters import add_adapter, read_adapter
from model.cache import KeyValueCache
from model.generate import generate
from model.lora import LowRank, save_adapter, trained
from model.search import search
from model.transformer import Transformer, initialise, load_model, save_model
from storage.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("untouched_process")
FAMILIES = ("qwen3", "llama", "gpt2")


def write_base(folder: Path, name: str) -> Path:
    folder.mkdir()
    save_model(scattered(Transformer(SHAPES[name])), folder)
    return folder


def write_adapter(folder: Path, base: Path, settings: LowRank = ALL, seed: int = 0) -> Path:
    """An adapter of large random numbers for the model of a folder."""
    model = adapted(load_model(base), settings)
    with torch.no_grad():
        for number, parameter in enumerate(trained(model).values()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed + number)) * 0.2)
    save_adapter(model, settings, base, folder)
    return folder


def merged(base: Path, adapter: Path) -> Transformer:
    model = load_model(base)
    add_adapter(model.state_dict(), read_adapter(adapter, model.shape))
    return model


@pytest.mark.parametrize("targets", [(), ("q_proj", "v_proj"), ("o_proj", "down_proj")])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_written_is_read_and_added(name: str, targets: tuple[str, ...], tmp_path: Path) -> None:
    settings = LowRank(4, 6.0, targets)
    base = write_base(tmp_path / "base", name)
    model = adapted(load_model(base), settings)
    save_adapter(model, settings, base, tmp_path / "adapter")
    assert torch.allclose(logits(merged(base, tmp_path / "adapter")), logits(model), atol=1e-5, rtol=0)
    assert not torch.allclose(logits(load_model(base)), logits(model), atol=1e-2)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("llama", {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "up_proj"]}),
        ("qwen3", {"r": 2, "lora_alpha": 8, "target_modules": r".*\.(q_proj|down_proj)"}),
        ("qwen3", {"r": 2, "target_modules": ["v_proj", "layers.1.mlp.down_proj"], "rank_pattern": {"v_proj": 5}}),
        ("llama", {"r": 4, "target_modules": "all-linear", "alpha_pattern": {"layers.0.self_attn.q_proj": 3}}),
        ("gpt2", {"r": 3, "lora_alpha": 7, "target_modules": ["c_attn", "mlp.c_proj"], "fan_in_fan_out": True}),
    ],
)
def test_what_peft_saves_is_read(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base = write_base(tmp_path / "base", name)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    judge = peft.get_peft_model(theirs, peft.LoraConfig(**settings, init_lora_weights=False)).eval()
    judge.save_pretrained(tmp_path / "adapter")
    assert read_adapter(tmp_path / "adapter", SHAPES[name]).config.base_model == str(base)
    with torch.no_grad():
        assert torch.allclose(logits(merged(base, tmp_path / "adapter")), judge(IDS).logits, atol=1e-5, rtol=0)


# Several beside one model -------------------------------------------------------------------------------------------


@pytest.fixture(params=FAMILIES)
def served(request: Any, tmp_path: Path) -> tuple[Transformer, Adapters, dict[str | None, Transformer]]:
    """A base model with two adapters of other ranks and maps beside it, and the merged models, the base among them."""
    base = write_base(tmp_path / "base", request.param)
    folders = {
        "first": write_adapter(tmp_path / "first", base, LowRank(2, 4.0, ("q_proj", "down_proj"))),
        "second": write_adapter(tmp_path / "second", base, LowRank(5, 5.0), seed=100),
    }
    model = load_model(base)
    adapters = Adapters(model, base)
    for name, folder in folders.items():
        adapters.add(name, folder)
    alone: dict[str | None, Transformer] = {None: load_model(base)}
    return model, adapters, alone | {name: merged(base, folder) for name, folder in folders.items()}


ROWS: Sequence[str | None] = ("second", None, "first", "second")


def test_each_row_has_the_logits_of_its_merged_model(
    served: tuple[Transformer, Adapters, dict[str | None, Transformer]],
) -> None:
    model, adapters, alone = served
    ids = torch.randint(0, model.shape.vocabulary_size, (4, 20), generator=torch.Generator().manual_seed(5))
    adapters.choose(ROWS)
    with torch.no_grad():
        together = model.logits(model(ids))
        for row, name in enumerate(ROWS):
            own = alone[name].logits(alone[name](ids[row : row + 1]))[0]
            assert torch.allclose(together[row], own, atol=1e-5, rtol=1e-5), name
        assert not torch.allclose(together[0], together[1], atol=1e-2)
        adapters.choose(["first"])  # of all rows
        assert torch.allclose(
            model.logits(model(ids)), alone["first"].logits(alone["first"](ids)), atol=1e-5, rtol=1e-5
        )
        for nobody in ([None], [None, None, None, None]):
            adapters.choose(nobody)
            assert torch.equal(model.logits(model(ids)), alone[None].logits(alone[None](ids)))


def test_each_row_says_what_its_merged_model_says(
    served: tuple[Transformer, Adapters, dict[str | None, Transformer]],
) -> None:
    """One at a time, by greedy decoding and by beams; and all together, with a cache in which rows go on."""
    model, adapters, alone = served
    prompts = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 3]]
    expected = []
    for name, prompt in zip(ROWS, prompts, strict=True):
        adapters.choose([name])
        expected.append(list(generate(alone[name], prompt, 8)))
        assert list(generate(model, prompt, 8)) == expected[-1]
        assert search(model, prompt, 8, 3) == search(alone[name], prompt, 8, 3)
    assert len(set(map(tuple, expected[:3]))) == 3
    adapters.choose(ROWS)
    cache = KeyValueCache(model.shape, 4, 12, model.device, model.compute_dtype)
    newest, said = torch.tensor(prompts), [list[int]() for _ in prompts]
    with torch.inference_mode():
        for _ in range(8):
            tokens: Tensor = model.logits(model(newest, cache)[:, -1]).argmax(-1)
            for row, token in enumerate(tokens.tolist()):
                said[row].append(token)
            newest = tokens[:, None]
    assert said == expected


def test_an_adapter_can_be_replaced_and_the_weights_stay(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen3")
    model = load_model(base)
    adapters = Adapters(model, base)
    for seed in (0, 50):
        adapters.add("own", write_adapter(tmp_path / f"{seed}", base, seed=seed))
    adapters.choose(["own"])
    assert torch.allclose(logits(model), logits(merged(base, tmp_path / "50")), atol=1e-5, rtol=1e-5)
    tensors = load_model(base).state_dict()
    assert model.state_dict().keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(ConfigError, match=r"no adapter 'other' stands beside this model\. There are: own"):
        adapters.choose(["other"])


# Refused ------------------------------------------------------------------------------------------------------------


def test_an_adapter_replaced_by_one_of_other_maps_leaves_nothing_behind(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "llama")
    one = write_adapter(tmp_path / "one", base, LowRank(4, 6.0, ("q_proj",)))
    other = write_adapter(tmp_path / "other", base, LowRank(2, 6.0, ("v_proj",)), seed=9)
    model = load_model(base)
    beside = Adapters(model, base)
    for name, folder in (("x", one), ("x", other), ("y", other)):
        beside.add(name, folder)
    for name in ("x", "y"):
        beside.choose([name])
        assert torch.allclose(logits(model), logits(merged(base, other)), atol=1e-5)


def test_an_adapter_of_other_weights_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "llama")
    (tmp_path / "other").mkdir()
    other = Transformer(SHAPES["llama"])
    initialise(other, 2)
    save_model(other, tmp_path / "other")
    folder = write_adapter(tmp_path / "adapter", base)
    model = load_model(tmp_path / "other")
    adapters = Adapters(model, tmp_path / "other")
    with pytest.raises(DataError, match=r"trained on other weights than those of .*other: give the model"):
        adapters.add("own", folder)
    assert adapters.names == () and torch.equal(logits(model), logits(other))
    Adapters(load_model(base), base).add("own", folder)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"use_dora": True}, ConfigError, "use_dora is True; only False is known"),
        ({"peft_type": "IA3"}, ConfigError, "peft_type is 'IA3'"),
        ({"modules_to_save": ["lm_head"]}, ConfigError, "modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, ConfigError, "pissa_niter_4.*has changed the weights"),
        ({"r": "four"}, DataError, "no adapter's config that can be read"),
        ({"r": 0}, DataError, "a rank is below 1"),
        ({"rank_pattern": {"(": 3}}, DataError, "no adapter's config that can be read"),
        ({"r": 5}, DataError, "has the shape"),
        ({"rank_pattern": {"q_proj": 3}}, DataError, "q_proj.* has the shape"),
        ({"target_modules": ["q_proj"]}, DataError, "is unexpected"),
        ({"target_modules": ["lm_head"]}, ConfigError, "has no map lm_head; it has"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    change: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base", "llama")
    folder = write_adapter(tmp_path / "adapter", base)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(error, match=message):
        read_adapter(folder, SHAPES["llama"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "has no adapter_model.safetensors"),
        ("pickled", "adapter_model.bin is pickled"),
        ("cut", "no adapter that can be read"),
        ("half", "lora_B.weight is missing"),
        ("another tensor", "x is unexpected"),
        ("not a number", "holds what is not a finite number"),
        ("no adapter", "has no adapter_config.json"),
        ("no folder", "no such folder"),
    ],
)
def test_an_adapter_that_cannot_be_read_is_refused(damage: str, message: str, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", write_base(tmp_path / "base", "qwen3"))
    path = folder / TENSORS
    tensors = load_file(path)
    if damage == "missing":
        path.unlink()
    elif damage == "pickled":
        path.rename(folder / "adapter_model.bin")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    elif damage == "half":
        save_file({name: tensor for name, tensor in tensors.items() if "0.mlp.up_proj.lora_B" not in name}, path)
    elif damage == "another tensor":
        save_file({**tensors, "base_model.model.x": torch.zeros(1)}, path)
    elif damage == "not a number":
        next(iter(tensors.values()))[0, 0] = torch.nan
        save_file(tensors, path)
    elif damage == "no adapter":
        (folder / CONFIG).unlink()
    else:
        folder = tmp_path / "gone"
    with pytest.raises(DataError, match=message):
        read_adapter(folder, SHAPES["qwen3"])
