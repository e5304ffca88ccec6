"""What the stages that train say about themselves. Their time grows with tokens (pairs) times parameters."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.shape import SIZES, Shape, check_teacher
from storage.documents import PAIRS, PAIRS_SCHEMA, PREFERENCES, TRAIN, row_pair
from storage.lookup import tables_of
from storage.store.artifacts import Artifact
from tasks.engine.about import (
    About,
    Figures,
    MadeRun,
    Step,
    Summaries,
    Upcoming,
    Work,
    examples_learned,
    not_about_documents,
    settings,
)
from tasks.initial.config import ImportConfig
from tasks.initial.files import known_shape
from tasks.initial.foreseen import foreseen_shape
from tasks.train.report import report_alignment, report_finetuning, report_nothing, report_pretraining
from tasks.train.times import INITIAL, seconds_here, time_notice, vocabulary_of
from tasks.wording import figure

UNKNOWN = 1 << 30  # the context of a model that is not fetched yet: nothing is too long for it


def _training_tokens(config: Figures) -> int:
    size = SIZES[config["size"]]
    context = config["context_length"] or size.context_length
    rows = max(1, (config["batch_tokens"] or size.batch_tokens) // context)
    tokens: int = config["steps"] * rows * context if config["steps"] else config["tokens"] or size.tokens
    return tokens


def _parameters(config: Figures, summaries: Summaries) -> dict[str, Any]:
    """Numbers of a model's matrices; norms are left out."""
    if INITIAL in summaries:
        return {"parameters": summaries[INITIAL].get("parameters", 0)}
    size = SIZES[config["size"]]

    def chosen(name: str) -> int:
        value: int = getattr(size, name) if config[name] is None else config[name]
        return value

    width, head = chosen("width"), chosen("head_dim")
    vocabulary = vocabulary_of(summaries)
    attention = 2 * width * head * (chosen("heads") + chosen("key_value_heads"))
    layer = attention + 3 * width * chosen("feed_forward")
    return {"parameters": chosen("layers") * layer + vocabulary * width * (1 if chosen("tied_embeddings") else 2)}


def _pretraining_ahead(build: Upcoming) -> float:
    return _training_tokens(build.config) * float(_parameters(build.config, build.summaries)["parameters"])


def _tokens_done(record: Figures) -> float:
    summary = record["summary"]
    return float(summary["tokens"] * summary["parameters"])


def _notices(recipe: Any, will: str) -> list[str]:
    """What a training will lack; raises ConfigError where one that will be built cannot be compiled as it must."""
    if will == "reuse":
        return []
    shape = foreseen_shape(recipe, recipe.tokenizer.vocabulary_size)  # about what the tokenizer will have
    if shape is None:
        return []
    _check_teacher(recipe.pretrain.other_teacher, shape)
    tokens = recipe.pretrain.tokens_trained_on(shape.context_length)
    if will == "build":
        recipe.pretrain.is_compiled(shape, tokens)
    notices: list[str] = time_notice(shape, tokens, recipe.execution.price_per_hour)
    notices += recipe.pretrain.notices(shape, tokens)
    if recipe.makes_encoder and (recipe.collect.docstrings or recipe.collect.synthetic):
        notices.append("pretrain: an encoder learns from texts alone: the pairs that come with them are left aside")
    return notices


def _check_teacher(config: ImportConfig | None, shape: Shape) -> None:
    """Raise ConfigError where a teacher in a folder cannot write or sees less than the model. Vocabularies are compared
    as tokens."""
    if config is not None and config.path is not None:
        theirs = known_shape(Path(config.path))
        config.check_kind(theirs)
        check_teacher(theirs, dataclasses.replace(shape, vocabulary_size=theirs.vocabulary_size))


def _notices_of_finetuning(recipe: Any, will: str) -> list[str]:
    """None; raises ConfigError where the teacher cannot teach a model of this context, or adapters do not fit it."""
    shape = foreseen_shape(recipe, 1)
    if shape is not None and will != "reuse":
        _check_teacher(recipe.finetune.other_teacher, shape)
        if recipe.finetune.lora:
            recipe.finetune.lora.check_targets(shape, "finetune.lora.targets")
    return []


def _notices_of_alignment(recipe: Any, will: str) -> list[str]:
    """None; raises ConfigError where adapters do not fit the model."""
    shape = foreseen_shape(recipe, 1)
    if shape is not None and will != "reuse" and recipe.align is not None and recipe.align.lora:
        recipe.align.lora.check_targets(shape, "align.lora.targets")
    return []


def _explain_pretrain(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    if run.part(stage, "model") is None:
        return None
    if document["split"] != TRAIN:
        return {"verdict": "held out"}
    mixed = run.read(stage, "order") is not None
    there = run.summary("mix").get("tokens") if mixed else run.summary("tokenize").get("train_tokens")
    passes = round(run.summary(stage).get("tokens", 0) / there, 2) if there else None
    return {"verdict": "trained on", "passes": passes, "over": "mix" if mixed else "training text"}


def _words_of_passes(step: Step) -> list[str]:
    return [f"{step['passes']} passes over the {step['over']}" if step.get("passes") else ""]


PRETRAIN = About(
    title="Pretraining",
    work=Work("tokens times parameters", _pretraining_ahead, _tokens_done),
    seconds=seconds_here,
    same_kinds=("teacher",),
    expensive=True,
    follows=_parameters,
    dial="size",
    notices=_notices,
    compared=settings("objective", "size", "context_length", "tokens", "steps", "batch_tokens", "matrix_rate", "seed"),
    figures=("bits_per_byte", "training_bits_per_byte", "training_loss", "heldout_loss", "filled_in"),
    telling=("bits_per_byte", "bits_per_byte_before", "filled_in", "new_documents", "tokens"),
    headline={"parameters": "parameters", "tokens": "tokens"},
    report=report_pretraining,
    explain=_explain_pretrain,
    words=_words_of_passes,
)


def _pairs_ahead(build: Upcoming) -> float | None:
    config = build.config
    pairs = (config["steps"] or 0) * config["pairs_per_step"]
    collected = build.summaries.get("collect", {}).get("pairs_train", 0)
    pairs = pairs or config["epochs"] * collected * _trained_share(config, build.like)
    return pairs * build.before("model").get("parameters", 0) or None


def _trained_share(config: Figures, record: Figures) -> float:
    """How much of the collected pairs fine-tuning trains on: as in a build that chose them alike; else all."""
    before, summary = record["identity"]["config"], record["summary"]
    collected = summary["pairs"] - summary["heldout_pairs"]
    alike = all(before[name] == config[name] for name in ("pairs", "shared_words"))
    return summary["training_pairs"] / collected if alike and collected else 1.0


def _pairs_done(record: Figures) -> float:
    summary, config = record["summary"], record["identity"]["config"]
    parameters = summary.get("parameters", 0)  # not recorded by builds before 2026-11-29
    return float(summary["steps"] * config["pairs_per_step"] * parameters)


def _check_pairs(recipe: Any, inputs: Mapping[str, Artifact]) -> None:
    """Raises DataError where there is no pair to train on or to hold out, or a source loses all of its pairs."""
    from tasks.answer.template_form import needed_chat_form
    from tasks.train.finetune import check_pairs

    if {"clean", "tokenizer"} <= inputs.keys():
        form = needed_chat_form(inputs["tokenizer"]["tokenizer"].path)
        check_pairs(recipe.finetune, inputs["clean"], form, _foreseen_context(recipe))


def _check_vocabulary(recipe: Any, inputs: Mapping[str, Artifact]) -> None:
    """Raises ConfigError where the teacher has another vocabulary than the run."""
    from tasks.train.teacher import check_vocabularies

    check_vocabularies(inputs.get("teacher"), inputs.get("tokenizer"))


def _foreseen_context(recipe: Any) -> int:
    """Tokens that the model will see at once."""
    shape = foreseen_shape(recipe, 1)
    return shape.context_length if shape else recipe.pretrain.context_length or UNKNOWN


def _explain_finetune(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    """How many pairs of the document's group there are: pairs are split as their group is."""
    pairs = run.part("collect", "pairs")
    if run.part(stage, "model") is None or pairs is None:
        return None
    groups = (table["group"].to_pylist().count(document["group"]) for table in tables_of(pairs, ["group"]))
    count = sum(groups)
    verdict = "trained on" if document["split"] == TRAIN else "held out"
    return {"verdict": verdict if count else "no pairs", "pairs_of_its_group": count}


def _explain_pair(run: MadeRun, stage: str, pair: Mapping[str, Any]) -> Step | None:
    """Whether a pair was learned from. Those that are too long, or share no word, are counted in the summary alone."""
    return _fate(run, stage, pair, PAIRS) if run.config(stage).get("pairs") == "collected" else None


def _fate(run: MadeRun, stage: str, pair: Mapping[str, Any], part: str) -> Step | None:
    """Whether a row of a part that a stage learns from was learned from."""
    from tasks.train.pairs import ALIKE, LEAKING, alike, leaks

    read = run.read(stage, part)
    if pair["part"] != part or read is None:
        return None
    row = row_pair({name: pair[name] for name in PAIRS_SCHEMA.names})
    if alike(row):
        return {"verdict": "left out", "rule": ALIKE}
    if pair["split"] != TRAIN:
        return {"verdict": "held out"}
    return {"verdict": "left out", "rule": LEAKING} if leaks(row, read) else {"verdict": "for training"}


_RULES = {"leaking": "a held-out pair has its question", "alike": "its two answers are the same"}


def _words_of_pairs(step: Step) -> list[str]:
    if "pairs_of_its_group" not in step:
        return [_RULES.get(step.get("rule", ""), "")]
    return [f"{figure(step['pairs_of_its_group'])} pairs of its group"]


FINETUNE = About(
    title="Fine-tuning",
    notices=_notices_of_finetuning,
    work=Work("pairs times parameters", _pairs_ahead, _pairs_done),
    same_kinds=("teacher",),
    expensive=True,
    checks=(_check_pairs, _check_vocabulary),
    compared=settings("pairs", "epochs", "steps", "matrix_rate", "seed"),
    figures=("answer_bits_per_byte", "other_prompt_bits_per_byte", "training_loss"),
    telling=("answer_bits_per_byte", "base_answer_bits_per_byte"),
    headline={"pairs": "training_pairs"},
    report=report_finetuning,
    explain=_explain_finetune,
    explain_pair=_explain_pair,
    words=_words_of_pairs,
)


def _scored_ahead(build: Upcoming) -> float | None:
    collected = build.summaries.get("collect", {})
    pairs = collected.get("preferences_train", 0) + collected.get("preferences_heldout", 0)
    return pairs * build.before("model").get("parameters", 0) or None


def _scored(record: Figures) -> float:
    return float(record["summary"]["preferences"] * record["summary"]["parameters"])


def _check_preferences(recipe: Any, inputs: Mapping[str, Artifact]) -> None:
    """Raises DataError where there is no preference to train on or to hold out, or a source loses all of its own."""
    from tasks.answer.template_form import needed_chat_form
    from tasks.train.align import AlignConfig, check_preferences

    if {"clean", "tokenizer"} <= inputs.keys():
        form = needed_chat_form(inputs["tokenizer"]["tokenizer"].path)
        config = recipe.align or AlignConfig()
        check_preferences(config, inputs["clean"], form, _foreseen_context(recipe))


def _explain_preference(run: MadeRun, stage: str, pair: Mapping[str, Any]) -> Step | None:
    """Whether a preference was learned from; those that are too long are counted in the summary alone."""
    return _fate(run, stage, pair, PREFERENCES)


REFERENCE = About(
    title="Likelihoods before alignment",
    work=Work("preferences times parameters", _scored_ahead, _scored),
    report=report_nothing,
    explain=not_about_documents,
)
ALIGN = About(
    title="Alignment",
    notices=_notices_of_alignment,
    work=examples_learned("preferences", "preferences_train", "preferences_per_step"),
    checks=(_check_preferences,),
    compared=settings("method", "beta", "epochs", "steps", "matrix_rate", "seed"),
    telling=("win_rate", "win_rate_before"),
    headline={"preferences": "training_preferences"},
    report=report_alignment,
    explain=not_about_documents,
    explain_pair=_explain_preference,
    words=_words_of_pairs,
)
