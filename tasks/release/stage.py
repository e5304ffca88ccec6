"""Stage release: one folder with all that a user loads, serves and shares.

Comes in: the fine-tuned or aligned model, the tokenizer, the scores, the filtered documents (held-out ones, for the
loss of each format), and of an aligned model the adapter of fine-tuning. Goes out: part `release`, the folder that
`transformers.AutoModelForCausalLM.from_pretrained` takes unchanged:

| file | from |
|---|---|
| model.safetensors, training.json | the model and how it was trained, the very same files |
| config.json | the model's shape |
| generation_config.json | ids that start and end a text, the search for an answer, the form of prompts |
| tokenizer.json, tokenizer_config.json, chat_template.jinja | the tokenizer, and the chat form as data |
| NAME-F16.gguf, NAME-Q8_0.gguf | the same for llama.cpp (gguf.py) |
| MLmodel, components/tokenizer/ | the same for MLflow, without its weights a second time (mlmodel.py) |
| model.int8.safetensors, model.onnx | for CPUs in eight bits (model/int8.py), for onnxruntime (onnx.py) |
| formats.json | each of these files, its size and what it loses in bits per byte (formats.py) |
| adapters/STAGE/ | adapters alone in PEFT's form, where they make this model of its base (adapters.py) |
| README.md | the model card, made from the figures (card.py) |
| scores.json, samples.json | what was measured; answers to held-out prompts, never drawn: they can be repeated |
| golden.json | the likeliest tokens after some prompts, by which a server knows its engine (tasks/answer/golden.py) |
| SHA256SUMS | `sha256sum -c SHA256SUMS` |

Nothing in it says when or where it was made: equal inputs give equal bytes. Cost: the samples, a second or two; a
forward pass over `loss_bytes` for each format. How fast int8 is, is in the summary alone, since it varies.
"""

import json
from pathlib import Path
from typing import Any

from model.huggingface import shape_of
from model.shape import INT8_WEIGHTS
from storage.canonical import digest_file
from storage.errors import DataError
from storage.files import clone_or_copy
from storage.store.artifacts import Artifact, Part
from tasks.answer.chat_form import CHAT_TEMPLATE, ChatForm, OwnForm
from tasks.answer.golden import GOLDEN, GoldenFile
from tasks.answer.prompt_form import PromptForm
from tasks.answer.release import SUMS
from tasks.answer.template_form import CHAT_TEMPLATE_FILE, needed_chat_form
from tasks.engine.context import Context, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.evaluate.score import SCORES, read_scores
from tasks.notices import NOTICES
from tasks.release.adapters import carry_adapters
from tasks.release.card import model_card
from tasks.release.config import ReleaseConfig
from tasks.release.formats import int8_speed, left_out, write_formats
from tasks.release.golden import golden_prompts
from tasks.release.mlmodel import write_mlmodel
from tasks.release.samples import make_samples
from tasks.tokenize.control import GENERATION_CONFIG, TOKENIZER_CONFIG, ControlTokens
from tasks.tokenize.tokenizer import END, SPECIAL_TOKENS
from tasks.train.device import training_device
from tasks.train.trainer_process import TRAINING_FILE


def observe_device(config: ReleaseConfig) -> dict[str, str]:
    """What `auto` stands for on this machine: the last digits of another device's sums differ."""
    return {"device": training_device(config.device)}


@stage(
    "release",
    parts=("release",),
    reads={
        "tuned": ("model", "adapter"),
        "tokenizer": ("tokenizer",),
        "scores": ("scores",),
        "clean": ("documents",),
        "before": ("adapter",),
    },
    optional=("before",),
    observe=observe_device,
    libraries=("torch", "tokenizers", "gguf", UNICODE),
    about="tasks.release.about.RELEASE",
)
def make_release(
    config: ReleaseConfig,
    tuned: Artifact,
    tokenizer: Artifact,
    scores: Artifact,
    clean: Artifact,
    before: Artifact | None = None,
    *,
    context: Context,
) -> Summary:
    """Make one folder to serve: weights, tokenizer, card, samples, formats. Summary: sizes in bytes and losses.

    `before` is the fine-tuned model that `tuned` was made of by alignment."""
    folder = context.part("release")
    settings = _read_object(tuned["model"] / "config.json")
    shape = shape_of(settings)
    form = needed_chat_form(tokenizer["tokenizer"].path)
    for artifact, part, names in (
        (tuned, "model", ("model.safetensors", TRAINING_FILE)),
        (tokenizer, "tokenizer", _tokenizer_files(tokenizer["tokenizer"], form)),
        (scores, "scores", (SCORES,)),
    ):
        files = {file.name: file for file in artifact[part].files}
        for name in names:
            clone_or_copy(files[name].path, folder / name)  # whoever edits the release touches no other stage

    trained = [before, tuned] if before else [tuned]
    adapters = carry_adapters(trained, folder)
    samples = _write_answers(config, tuned, form, scores, folder, context)
    _write_json(folder / "config.json", settings | form.control.settings)
    _write_json(folder / GENERATION_CONFIG, _generation_config(config, form.control))
    if isinstance(form, OwnForm):
        _write_json(folder / TOKENIZER_CONFIG, _own_tokenizer_config(tokenizer, shape.context_length))
        (folder / CHAT_TEMPLATE_FILE).write_bytes(CHAT_TEMPLATE.read_bytes())
    write_mlmodel(config.name, folder, _form(config), form)
    formats = write_formats(config, folder, shape, clean, context)
    _write_json(folder / "formats.json", formats)
    corpus = _read_object(scores["scores"] / "corpus.json")
    training = json.loads((tuned["model"] / TRAINING_FILE).read_bytes())
    made_from = (*trained, tokenizer, scores, clean)
    card = model_card(config, shape, training, read_scores(scores), corpus, samples, formats, adapters, made_from)
    (folder / "README.md").write_text(card, encoding="utf-8")
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): digest_file(path) for path in written}
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    absent = left_out(config, shape, folder)
    size = sum(path.stat().st_size for path in (*written, folder / SUMS))
    return {
        "name": config.name,
        "prompt_form": _form(config),
        "parameters": shape.parameters,
        "files": len(sums) + 1,
        "bytes": size,
        "samples": len(samples),
        **{f"loss_{line['format']}": line["loss"] for line in formats[1:]},
        **(int8_speed(folder) if (folder / INT8_WEIGHTS).exists() else {}),
        **({NOTICES: absent} if absent else {}),
    }


def _write_answers(
    config: ReleaseConfig, tuned: Artifact, form: ChatForm, scores: Artifact, folder: Path, context: Context
) -> list[dict[str, str]]:
    """The samples, which are returned, and the golden prompts, which the samples' are among."""
    from model.transformer import load_model

    model = load_model(tuned["model"].path, "cpu")
    samples = make_samples(config, _form(config), model, form, scores, context)
    golden = GoldenFile(prompts=golden_prompts(model, form, samples.ids))
    _write_json(folder / "samples.json", samples.lines)
    _write_json(folder / GOLDEN, golden.model_dump())
    return samples.lines


def _form(config: ReleaseConfig) -> PromptForm:
    return config.prompt_form or "chat"


def _tokenizer_files(part: Part, form: ChatForm) -> list[str]:
    """What is taken as it is: all that the tokenizer of an open model came with, but its ids."""
    if isinstance(form, OwnForm):
        return ["tokenizer.json"]
    return [file.name for file in part.files if file.name != GENERATION_CONFIG]


def _generation_config(config: ReleaseConfig, control: ControlTokens) -> dict[str, Any]:
    """Never drawn by default; an answer ends with any of the model's ends, as does a text."""
    settings = {**control.settings, "do_sample": False, "max_new_tokens": config.max_new_tokens}
    settings["prompt_form"] = _form(config)  # a name of ours, as below
    if config.beams > 1:  # what follows makes transformers search as model.search.search does
        settings |= {"num_beams": config.beams, "length_penalty": 0.0, "early_stopping": "never"}
        settings |= {"no_repeat_in_answer": config.no_repeat} if config.no_repeat else {}
    return settings


def _own_tokenizer_config(tokenizer: Artifact, context_length: int) -> dict[str, Any]:
    settings = _read_object(tokenizer["tokenizer"] / TOKENIZER_CONFIG)
    return {**settings, "eos_token": SPECIAL_TOKENS[END], "model_max_length": context_length}


def _read_object(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise DataError(f"{path.name}: not a JSON object; run the stage before this one again")
    return value


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
