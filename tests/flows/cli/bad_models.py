"""Bad input in open models: the rows of the table about folders and names that a run is to start from."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from bad_input import BadInput
from open_models import write_adapter, write_gpt2, write_llama, write_qwen
from safetensors.torch import load_file, save_file

RECIPE = "collect: {synthetic: {documents: 60}}\nfinetune: {initial: {path: model}, steps: 1}\n"
PLAN = "plan recipe.yaml"
TAKE = "run recipe.yaml --plain --to initial"
Damage = Callable[[Path], object]


def _model(
    name: str, damage: Damage, *holds: str, command: str = PLAN, write: Callable[[Path], Path] = write_llama
) -> BadInput:
    """A row about a folder that is a good model but for what `damage` does to it."""

    def prepare(folder: Path, home: Path) -> None:
        damage(write(folder / "model"))

    return BadInput(name, command, holds, {"recipe.yaml": RECIPE}, prepare)


def _written(write: Callable[[Path], Path], folder: Path) -> None:
    write(folder / "model")


def _recipe(name: str, initial: str, *holds: str) -> BadInput:
    text = f"collect: {{synthetic: {{documents: 60}}}}\n{initial}\n"
    return BadInput(name, PLAN, ("recipe.yaml", *holds), {"recipe.yaml": text})


def _removed(*names: str) -> Damage:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def _config(**changed: object) -> Damage:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _sharded(folder: Path) -> None:
    """Two files of weights of which one is not there."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {name: f"model-0000{1 + (name in names[5:])}-of-00002.safetensors" for name in names}
    save_file({name: tensors[name] for name in names[:5]}, folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def _not_finite(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = torch.nan
    save_file(tensors, folder / "model.safetensors")


def fewer_rows(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:300].contiguous()
    save_file(tensors, folder / "model.safetensors")
    _config(vocab_size=300)(folder)


def _template(text: str) -> Damage:
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def _quantised(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].to(torch.int8)
    save_file(tensors, folder / "model.safetensors")


def _other_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")


FOLDERS = (
    _model("model whose weights are pickled", pickled, "model: pytorch_model.bin is pickled", "safetensors"),
    _model(
        "model of an unknown family",
        _config(model_type="mamba"),
        "model/config.json: models of the type 'mamba' are not known",
        "Known: qwen3, llama, gpt2",
    ),
    _model("model without a config", _removed("config.json"), "model: has no config.json"),
    _model(
        "model with a config that lacks a size",
        _config(hidden_size=None),
        "model/config.json: the width is None, not a whole number",
    ),
    _model("model without weights", _removed("model.safetensors"), "no model.safetensors and no"),
    _model("model without a tokenizer", _removed("tokenizer.json"), "model: has no tokenizer.json"),
    _model(
        "model with a tokenizer of SentencePiece",
        _other_tokenizer,
        "its tokenizer is a tokenizer.model",
        "save_pretrained",
    ),
    _model(
        "model that lacks a file of its weights",
        _sharded,
        "model.safetensors.index.json: names model-00002-of-00002.safetensors, which is not there",
    ),
    _model(
        "model whose index leads out of its folder",
        lambda folder: (
            _removed("model.safetensors")(folder),
            (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b.safetensors"}}'),
        ),
        "'../b.safetensors' is not a file of this folder",
    ),
)
CONTENTS = (
    _model(
        "model with a NaN",
        _not_finite,
        "model: model.layers.1.mlp.up_proj.weight holds numbers that are not finite",
        command=TAKE,
    ),
    _model(
        "model with fewer rows than its tokenizer has tokens",
        fewer_rows,
        "its tokenizer has 365 tokens, its model 300",
        command=TAKE,
    ),
    _model(
        "model whose weights are of another size",
        _config(vocab_size=380),
        "the weights do not fit config.json: model.embed_tokens.weight has the shape (365, 64), not (380, 64)",
        command=TAKE,
    ),
    _model("model that is quantised", _quantised, "quantised weights are not read", command=TAKE),
    _model(
        "model with a tokenizer that is none",
        lambda folder: (folder / "tokenizer.json").write_text("{"),
        "model/tokenizer.json: not a tokenizer",
        command=TAKE,
    ),
    _model(
        "model that says no control token",
        lambda folder: (folder / "tokenizer_config.json").write_text("{}"),
        "nothing says which token begins or ends a text",
        command=TAKE,
    ),
    _model(
        "template that raises",
        _template("{{ raise_exception('Only with tools') }}"),
        "chat_template.jinja: the template refuses these messages: Only with tools",
        command=TAKE,
    ),
    _model("template that is not Jinja", _template("{% for %}"), "chat_template.jinja: not a template", command=TAKE),
    _model(
        "template that reaches out of the sandbox",
        _template("{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages }}"),
        "chat_template.jinja: the template needs what is not allowed here",
        command=TAKE,
    ),
    _model(
        "template that needs the date",
        _template("{{ strftime_now('%d') }}{% for message in messages %}{{ message.content }}{% endfor %}"),
        "chat_template.jinja: the template needs the date (strftime_now)",
        command=TAKE,
    ),
    _model(
        "template that shows nothing",
        _template("Hello."),
        "chat_template.jinja: the template does not show what user and assistant say",
        command=TAKE,
    ),
    _model(
        "template among the settings that raises",
        lambda folder: (folder / "tokenizer_config.json").write_text(
            json.dumps({"eos_token": "<|im_end|>", "chat_template": "{{ raise_exception('No.') }}"})
        ),
        "tokenizer_config.json: the template refuses these messages: No.",
        command=TAKE,
        write=write_qwen,
    ),
    _model(
        "adapters of maps that the model lacks",
        lambda folder: None,
        "finetune.lora.targets: a gpt2 model has no gate_proj",
        command=f"{PLAN} --set finetune.lora.targets=[q_proj,gate_proj]",
        write=write_gpt2,
    ),
)
NAMES = (
    BadInput(
        "model that is no folder",
        PLAN,
        ("gone: no such folder; a model of the hub is named by model and revision",),
        {"recipe.yaml": "collect: {synthetic: {documents: 60}}\nfinetune: {initial: {path: gone}}\n"},
    ),
    _recipe(
        "address for a model's folder",
        "finetune: {initial: {path: 'https://huggingface.co/org/name/tree/main'}}",
        "finetune.initial: path: https://huggingface.co/org/name/tree/main is an address: write model: org/name",
    ),
    _recipe(
        "address of a bucket for a model's folder",
        "finetune: {initial: {path: 's3://bucket/model'}}",
        "s3://bucket/model is an address: download it first",
    ),
    _recipe(
        "model at no revision", "finetune: {initial: {model: org/name}}", "revision: it is missing: give the commit"
    ),
    _recipe(
        "model at a branch",
        "finetune: {initial: {model: org/name, revision: main}}",
        "revision: 'main' may mean another model tomorrow: give the commit, 40 hexadecimal digits",
    ),
    _recipe("model by folder and name", "pretrain: {initial: {path: a, model: org/name}}", "one of them"),
    _recipe("no model named", "pretrain: {initial: {}}", "give path (a folder) or model and revision"),
    _recipe(
        "token in a recipe's model",
        "finetune: {initial: {model: org/name, revision: main, token: hf_aaaaaaaaaaaaaaaaaaaa}}",
        "a recipe holds no token",
    ),
    _recipe(
        "two models to start from",
        "pretrain: {initial: {path: a}}\nfinetune: {initial: {path: a}}",
        "pretrain.initial and finetune.initial: give one of them",
    ),
    BadInput(
        "mix without pretraining",
        PLAN,
        ("collect.mix says what pretraining reads, and finetune.initial leaves pretraining out",),
        {
            "recipe.yaml": "collect: {synthetic: {documents: 60}, mix: {weights: {synthetic: 1}}}\n"
            "finetune: {initial: {path: a}}\n"
        },
    ),
)
SETTINGS = (
    BadInput(
        "format that the model cannot have",
        "run recipe.yaml --plain --set 'release.formats=[int8]'",
        ("release.formats: int8: int8 is for models without biases, this is gpt2; take it off",),
        {"recipe.yaml": RECIPE},
        lambda folder, home: _written(write_gpt2, folder),
    ),
    BadInput(
        "step that is shorter than a row of an open model's context",
        PLAN,
        ("batch_tokens (64) is less than one row of context_length 128",),
        {
            "recipe.yaml": "collect: {synthetic: {documents: 60}}\n"
            "pretrain: {initial: {path: model}, batch_tokens: 64, steps: 1}\n"
        },
        lambda folder, home: _written(write_llama, folder),
    ),
    BadInput(
        "context of a model that is fine-tuned alone: no step has to hold it",
        "plan recipe.yaml --set pretrain.context_length=4096",
        ("initial: llama of 85,120 parameters", "context of 128"),
        {"recipe.yaml": RECIPE},
        lambda folder, home: _written(write_llama, folder),
        status=0,
    ),
    BadInput(
        "stride over an open model's context",
        "run recipe.yaml --plain --set evaluate.stride=4000",
        ("evaluate.stride: 4000 is more than the model's context of 128 tokens",),
        {"recipe.yaml": RECIPE},
        lambda folder, home: _written(write_llama, folder),
    ),
)
ADAPTED = "collect: {synthetic: {documents: 60}}\nfinetune: {initial: {path: model, adapter: adapter}, steps: 1}\n"


def _adapter(name: str, damage: Damage, *holds: str, command: str = PLAN) -> BadInput:
    """A row about a good model with an adapter that is good but for what `damage` does to it."""

    def prepare(folder: Path, home: Path) -> None:
        damage(write_adapter(folder / "adapter", write_llama(folder / "model")))

    return BadInput(name, command, holds, {"recipe.yaml": ADAPTED}, prepare)


def adapter_config(**changed: object) -> Damage:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return change


def _changed_factors(change: Callable[[torch.Tensor], torch.Tensor]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        save_file({name: change(tensor).contiguous() for name, tensor in load_file(path).items()}, path)

    return damage


def pickled_adapter(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def of_other_weights(folder: Path) -> None:
    other = write_qwen(folder.parent / "other")
    write_adapter(folder, folder.parent / "model", trained_on=other)


def _adapter_alone(folder: Path, home: Path) -> None:
    write_adapter(folder / "model", write_llama(folder / "base"))


ADAPTERS = (
    BadInput(
        "adapter where a model should be",
        PLAN,
        ("model: is an adapter and no model: give the model that it was trained on as path", "this folder as adapter"),
        {"recipe.yaml": RECIPE},
        _adapter_alone,
    ),
    _adapter("adapter that is not there", lambda folder: folder.rename(folder.parent / "x"), "adapter: no such folder"),
    _adapter("adapter without a config", _removed("adapter_config.json"), "adapter: has no adapter_config.json"),
    _adapter("adapter without tensors", _removed("adapter_model.safetensors"), "has no adapter_model.safetensors"),
    _adapter(
        "adapter that is pickled",
        pickled_adapter,
        "adapter: adapter_model.bin is pickled, and reading it runs code",
        "safe_serialization=True",
    ),
    _adapter(
        "adapter of a kind that is not known",
        adapter_config(peft_type="IA3"),
        "adapter/adapter_config.json: peft_type is 'IA3'; only 'LORA' is known here",
    ),
    _adapter(
        "adapter whose config is none", adapter_config(r=None), "adapter_config.json: no adapter's config that can be"
    ),
    _adapter(
        "adapter of the head",
        adapter_config(target_modules=["lm_head"]),
        "target_modules: a llama model has no map lm_head; it has down_proj, gate_proj",
        command=TAKE,
    ),
    _adapter(
        "adapter of a wider model",
        _changed_factors(lambda tensor: torch.cat([tensor, tensor], 1) if tensor.shape[0] == 3 else tensor),
        "this adapter does not fit a llama model of this shape",
        "lora_A.weight has the shape (3, 128), not (3, 64)",
        command=TAKE,
    ),
    _adapter(
        "adapter of other weights",
        of_other_weights,
        "adapter: this adapter was trained on other weights than those of",
        "give the model that it was trained on",
        command=TAKE,
    ),
    _adapter(
        "adapter with a NaN",
        _changed_factors(lambda tensor: tensor * torch.nan),
        "adapter_model.safetensors:",
        "holds what is not a finite number",
        command=TAKE,
    ),
    _recipe(
        "address for an adapter",
        "finetune: {initial: {path: a, adapter: 'https://huggingface.co/org/name'}}",
        "adapter: https://huggingface.co/org/name is an address: download it first",
    ),
    _recipe("adapter without a model", "finetune: {initial: {adapter: a}}", "give path (a folder) or model"),
)
ROWS = (*ADAPTERS, *FOLDERS, *CONTENTS, *NAMES, *SETTINGS)
