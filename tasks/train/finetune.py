"""Fine-tune a pretrained model on pairs and conversations in chat form: answers are learned, the rest is masked.

In: base model, tokenizer, and of the filter the redacted pairs, or clean documents to make pairs from. Out: `model`,
`curve`, and `adapter`, which is empty unless adapters were trained: then `model` has them merged. Each pair is a row of
its own, so that an answer sees its prompt and nothing else, as it will when the model is used; rows of like length go
together, which leaves a few percent of padding. With `packing` those of a step share rows of the context's length, each
seeing itself alone: the same steps, for machines that like few long rows. A conversation longer than the context loses
its oldest exchanges, which is counted.

Three figures on one fixed sample of held-out pairs show what was learned, in bits per byte of the answers' text: the
base model's (prompt and answer as plain text), the tuned model's, and the tuned model's with another pair's prompt.
Only where the last is clearly worse does the model read its prompt.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from model.huggingface import read_shape
from model.shape import Shape
from storage.canonical import digest_of
from storage.documents import FEEDBACK, Pair
from storage.errors import DataError
from storage.store.artifacts import Artifact
from tasks.answer.chat_form import ChatForm
from tasks.answer.template_form import needed_chat_form
from tasks.engine.context import Context, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.notices import loss_notices
from tasks.train.config import observe_device
from tasks.train.jobs import training_job
from tasks.train.lora import AdaptableConfig, write_about
from tasks.train.pairs import (
    FIELDS,
    LEAKING,
    UNRELATED,
    Chosen,
    Origin,
    choose_pairs,
    cut_notices,
    encode_training,
    heldout_sets,
    pairs_of,
)
from tasks.train.teacher import TeacherConfig, check_vocabularies, taught
from tasks.train.trainer_process import notices_of, train, write_curve, write_training

if TYPE_CHECKING:
    from model.batches import Example
    from model.job import Source, TrainingJob


class FinetuneConfig(AdaptableConfig):
    """Which pairs, how long, and at what rates."""

    pairs: Origin = Field(
        "collected", description="Pairs that collect found, or sentences of documents and those that follow them."
    )
    made_pairs: int | None = Field(
        None,
        ge=2,
        le=10_000_000,
        description="About how many documents continuations takes, a fixed sample of all; null: every document.",
    )
    epochs: float = Field(1.0, gt=0, le=100, description="Passes over the training pairs.")
    steps: int | None = Field(None, ge=1, le=10_000_000, description="Optimizer steps, instead of epochs.")
    pairs_per_step: int = Field(64, ge=1, le=65_536, description="Pairs of one optimizer step.")
    packing: bool = Field(
        False, description="Whether the pairs of a step share rows of the context's length, each seeing itself alone."
    )
    curriculum: Literal["length"] | None = Field(
        None, description="Order of the first pass over the pairs; length: from short to long; null: shuffled."
    )
    teacher: TeacherConfig | None = Field(None, description="Learning from a teacher's scores beside the answers.")
    shared_words: int = Field(
        0, ge=0, le=100, description="Least words that a training answer shares with its prompt; others are left out."
    )
    feedback_passes: int = Field(
        4, ge=1, le=100, description="Passes over what users have said in each one over the other pairs."
    )
    heldout_pairs: int = Field(500, ge=1, le=100_000, description="Held-out pairs in the sample that is scored.")
    matrix_rate: float = Field(0.01, gt=0, le=1, description="Peak learning rate of matrices (Muon).")
    embedding_rate: float = Field(
        0.004, gt=0, le=1, description="Peak learning rate of embeddings, head and norms (AdamW)."
    )

    def identity(self) -> dict[str, Any]:
        """Without `made_pairs` where it bounds nothing: such a training is what it was before there was any bound."""
        found = super().identity()
        if self.made_pairs is None:
            del found["made_pairs"]
        return found


@stage(
    "finetune",
    parts=("model", "curve", "adapter"),
    reads={
        "base": ("model",),
        "tokenizer": ("tokenizer",),
        "clean": ("pairs", "documents"),
        "teacher": ("model", "tokenizer"),
    },
    optional=("teacher",),
    observe=observe_device,
    programs=("model.trainer",),
    libraries=("torch", "tiktoken", "tokenizers", UNICODE),
    about="tasks.train.about.FINETUNE",
)
def finetune(
    config: FinetuneConfig,
    base: Artifact,
    tokenizer: Artifact,
    clean: Artifact,
    teacher: Artifact | None = None,
    *,
    context: Context,
) -> Summary:
    """Teach the base model to answer, on pairs of prompt and answer. Summary: pairs by fate, losses on answers."""
    check_vocabularies(teacher, tokenizer)
    shape = read_shape(base["model"].path)
    form = needed_chat_form(tokenizer["tokenizer"].path)
    pairs = pairs_of(config.pairs, clean["pairs"], clean["documents"], config.made_pairs)
    chosen = choose_pairs(pairs, config.heldout_pairs, config.shared_words)
    shorten = config.pairs == "continuations"
    encoded = _encode(form, chosen, shape.context_length, shorten=shorten)
    too_long = encoded.too_long
    sets = heldout_sets(form, chosen.heldout, shape.context_length, shorten=shorten)
    _demand(config, chosen, too_long, sets)
    sets["train"] = examples = encoded.repeated(config.feedback_passes)
    sources = _write_sets(context.work / "examples", sets)
    digest = digest_of([base["model"].digest, tokenizer["tokenizer"].digest, _digest(encoded.learned)])
    begun = {"initial": str(base["model"].path), **taught(config.teacher, teacher, digest)}
    job = _job(config, shape, sources, len(examples), context, begun)
    result = train(job, context)
    write_about(config.lora, context.part("adapter"))
    last = write_curve(context.work / "metrics.jsonl", context.part("curve") / "curve.jsonl")
    write_training("finetune", job, result, last, before=base["model"])
    notices = loss_notices("finetune", {"source": chosen.tallies(too_long)}, FIELDS, "pairs")
    notices += cut_notices("finetune", encoded.cut, shape.context_length)
    return {
        "pairs": chosen.read,
        "training_pairs": len(encoded.examples),
        "heldout_pairs": chosen.heldout_total,
        "dropped_leaking": chosen.total(LEAKING),
        "dropped_unrelated": chosen.total(UNRELATED),
        "dropped_too_long": too_long.total(),
        **({"cut_conversations": encoded.cut.total()} if encoded.cut else {}),
        "scored_pairs": len(sets["heldout"]),
        "parameters": result["parameters"],
        **({"trained_parameters": result["trained_parameters"]} if config.lora else {}),
        "steps": result["steps"],
        "tokens": result["tokens"],
        "training_loss": last["loss"],
        "base_answer_bits_per_byte": result["before"]["plain"],
        "answer_bits_per_byte": result["after"]["heldout"],
        "other_prompt_bits_per_byte": result["after"]["other_prompt"],
        "skipped_updates": result["skipped"],
        **notices_of(result, notices),
    }


def _job(
    config: FinetuneConfig,
    shape: Shape,
    sources: Mapping[str, "Source"],
    examples: int,
    context: Context,
    begun: Mapping[str, object],
) -> "TrainingJob":
    """The trainer's job of a config over so many examples; `begun` has its fields of what it starts and learns from."""
    return training_job(
        config,
        shape,
        context,
        objective="answers",
        steps=config.steps or max(1, round(config.epochs * examples / config.pairs_per_step)),
        rates=config.rates,
        data=sources["train"],
        rows_per_step=config.pairs_per_step,
        packing=config.packing,
        shortest_first=config.curriculum == "length",
        validation={name: sources[name] for name in ("heldout", "other_prompt")},
        validation_before={"plain": sources["plain"]},
        adapter=config.lora.settings if config.lora else None,
        adapter_output=str(context.part("adapter")),
        **begun,
    )


def check_pairs(config: FinetuneConfig, clean: Artifact, form: ChatForm, context_length: int) -> None:
    """Raise the error that fine-tuning would end with: no pair, or none of a source. Needs no model; encodes only
    until each source has a pair that fits."""
    pairs = pairs_of(config.pairs, clean["pairs"], clean["documents"], config.made_pairs)
    chosen = choose_pairs(pairs, config.heldout_pairs, config.shared_words)
    shorten = config.pairs == "continuations"
    too_long: Counter[str] = Counter()
    lacking = {pair.source for pair in chosen.training}
    for pair, example in encode_training(form, chosen.training, context_length, shorten=shorten):
        if example is None:
            too_long[pair.source] += 1
        else:
            lacking.discard(pair.source)
        if not lacking:
            break
    _demand(config, chosen, too_long, heldout_sets(form, chosen.heldout, context_length, shorten=shorten))


@dataclass(slots=True)
class _Encoded:
    """The training pairs that fit and their examples, and of each source the number of those that do not, and of the
    conversations that were cut to fit."""

    learned: list[Pair] = field(default_factory=list)
    examples: list["Example"] = field(default_factory=list)
    too_long: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)

    def repeated(self, passes: int) -> list["Example"]:
        """The examples, those of what users have said as often as that: few among many would be passed over once."""
        times = [passes if pair.source == FEEDBACK else 1 for pair in self.learned]
        return [example for example, count in zip(self.examples, times, strict=True) for _ in range(count)]


def _encode(form: ChatForm, chosen: Chosen, context_length: int, *, shorten: bool) -> _Encoded:
    encoded = _Encoded()
    made = encode_training(form, chosen.training, context_length, shorten=shorten)
    for pair, (used, example) in zip(chosen.training, made, strict=True):
        if example is None:
            encoded.too_long[pair.source] += 1
            continue
        encoded.cut.update([pair.source] if used.earlier != pair.earlier else [])
        encoded.learned.append(used)
        encoded.examples.append(example)
    return encoded


def _write_sets(folder: Path, sets: Mapping[str, Sequence["Example"]]) -> dict[str, "Source"]:
    """Each set in a folder of its own, where the trainer reads it."""
    from model.batches import ExampleSet
    from model.job import Source

    sources = {}
    for name, members in sets.items():
        ExampleSet.write(folder / name, members)
        sources[name] = Source("examples", str(folder / name))
    return sources


def _demand(
    config: FinetuneConfig, chosen: Chosen, too_long: Counter[str], sets: Mapping[str, Sequence["Example"]]
) -> None:
    """There is something to learn from of each source, and something to score."""
    if not chosen.training_read:
        raise _no_pairs(config, "training")
    chosen.check_kept("finetune", too_long)
    if not chosen.heldout:
        raise _no_pairs(config, "held-out")
    if not sets["heldout"]:
        raise DataError(
            f"finetune: none of {len(chosen.heldout)} held-out pairs fits the model's context, with its own prompt "
            "and with another's: raise pretrain.context_length, or give shorter pairs"
        )


def _digest(pairs: Sequence[Pair]) -> str:
    return digest_of([[pair.prompt, pair.answer, *map(list, pair.earlier)] for pair in pairs])


def _no_pairs(config: FinetuneConfig, which: str) -> DataError:
    if config.pairs == "continuations":
        return DataError(
            f"finetune: no {which} pair could be made: finetune.pairs=continuations needs documents of two sentences "
            "or more in that split; give more documents or another collect.heldout_fraction"
        )
    return DataError(
        f"finetune: there is no {which} pair: finetune.pairs=collected takes what collect has found. Name a source of "
        "pairs in collect.conversations or collect.docstrings, hold out another share of them "
        "(collect.heldout_fraction), or set finetune.pairs=continuations to make pairs from the documents"
    )
