"""Fine-tune a pretrained model on prompt and answer pairs, in chat form, the prompt masked.

In: base model, tokenizer, and of the filter the redacted pairs, or clean documents to make pairs from. Out: `model`
and `curve`. Each pair is a row of its own, so that an answer sees its prompt and nothing else, as it will when the
model is used; rows of like length go together, which leaves a few percent of padding.

Three figures on one fixed sample of held-out pairs tell what was learned, in bits per byte of the answers' text: the
base model's (prompt and answer as plain text), the tuned model's, and the tuned model's with another pair's prompt.
Only where the last is clearly worse does the model read its prompt.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from model.shape import Shape
from storage.artifacts import Artifact, Part
from storage.canonical import digest_of
from storage.documents import HELDOUT, TRAIN, read_documents, read_rows
from storage.errors import DataError
from tasks.chat import answer_form, prompt_form, text_ids
from tasks.collect.prose import STOP_WORDS
from tasks.context import Context, Summary
from tasks.pretrain import TrainerConfig, observe_device, training_job
from tasks.stage import stage
from tasks.tokenizer import END_OF_TEXT, load_tokenizer
from tasks.training import train, write_curve, write_training
from tasks.words import length_in_words, sentences

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.batches import Example

WORD = re.compile(r"[^\W\d_]{3,}")
PROMPT_WORDS = 12  # least words of a continuation's prompt, by script: a shorter one says too little


class FinetuneConfig(TrainerConfig):
    """Which pairs, how long, and at what rates."""

    pairs: Literal["collected", "continuations"] = Field(
        "collected", description="Pairs that collect found, or sentences of documents and those that follow them."
    )
    epochs: float = Field(1.0, gt=0, le=100, description="Passes over the training pairs.")
    steps: int | None = Field(None, ge=1, le=10_000_000, description="Optimizer steps, instead of epochs.")
    pairs_per_step: int = Field(64, ge=1, le=65_536, description="Pairs of one optimizer step.")
    shared_words: int = Field(
        0, ge=0, le=100, description="Least words that a training answer shares with its prompt; others are left out."
    )
    heldout_pairs: int = Field(500, ge=1, le=100_000, description="Held-out pairs in the sample that is scored.")
    matrix_rate: float = Field(0.01, gt=0, le=1, description="Peak learning rate of matrices (Muon).")
    embedding_rate: float = Field(
        0.004, gt=0, le=1, description="Peak learning rate of embeddings, head and norms (AdamW)."
    )


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt, its answer, and the split of its group."""

    id: str
    split: str
    prompt: str
    answer: str


@stage(
    "finetune",
    parts=("model", "curve"),
    reads={"base": ("model",), "tokenizer": ("tokenizer",), "clean": ("pairs", "documents")},
    observe=observe_device,
    programs=("model.trainer",),
    libraries=("torch", "tokenizers"),
)
def finetune(
    config: FinetuneConfig,
    base: Artifact,
    tokenizer: Artifact,
    clean: Artifact,
    *,
    context: Context,
) -> Summary:
    """Supervised fine-tuning of `base`; see the module."""
    from model.batches import ExampleSet
    from model.job import Source

    shape = Shape.from_huggingface(json.loads((base["model"] / "config.json").read_bytes()))
    encoder = load_tokenizer(tokenizer["tokenizer"].path)
    pairs = read_pairs(config, clean["pairs"], clean["documents"])
    chosen = choose_pairs(pairs, config.heldout_pairs, config.shared_words)
    examples = [example for example in encode_chat(encoder, chosen.training) if fits(example, shape)]
    sets = {"train": examples, **heldout_sets(encoder, chosen.heldout, shape)}
    if not examples or not sets["heldout"]:
        raise _no_pairs(config, "training" if not examples else "held-out")
    sources = {}
    for name, members in sets.items():
        ExampleSet.write(context.work / "examples" / name, members)
        sources[name] = Source("examples", str(context.work / "examples" / name))
    job = training_job(
        config,
        shape,
        context,
        steps=config.steps or max(1, round(config.epochs * len(examples) / config.pairs_per_step)),
        rates=(config.matrix_rate, config.embedding_rate),
        data=sources["train"],
        data_digest=digest_of([base["model"].digest, tokenizer["tokenizer"].digest, _digest(chosen.training)]),
        rows_per_step=config.pairs_per_step,
        validation={name: sources[name] for name in ("heldout", "other_prompt")},
        validation_before={"plain": sources["plain"]},
        initial=str(base["model"].path),
    )
    result = train(job, context)
    last = write_curve(context.work / "metrics.jsonl", context.part("curve") / "curve.jsonl")
    write_training("finetune", job, result, last, before=base["model"])
    return {
        "pairs": chosen.read,
        "training_pairs": len(examples),
        "heldout_pairs": chosen.heldout_total,
        "dropped_leaking": chosen.leaking,
        "dropped_unrelated": chosen.unrelated,
        "dropped_too_long": len(chosen.training) - len(examples),
        "scored_pairs": len(sets["heldout"]),
        "steps": result["steps"],
        "tokens": result["tokens"],
        "training_loss": last["loss"],
        "base_answer_bits_per_byte": result["before"]["plain"],
        "answer_bits_per_byte": result["after"]["heldout"],
        "other_prompt_bits_per_byte": result["after"]["other_prompt"],
        "skipped_updates": result["skipped"],
    }


def read_pairs(config: FinetuneConfig, pairs: Part, documents: Part) -> Iterator[Pair]:
    """The pairs that the config names, in order of the shards."""
    if config.pairs == "collected":
        for file in pairs.files:
            for row in read_rows(file.path, ["id", "split", "prompt", "answer"]):
                yield Pair(**row)
        return
    for file in documents.files:
        for document in read_documents(file.path):
            made = continuation(document.text)
            if made is not None:
                yield Pair(document.id, document.split, *made)


def continuation(text: str) -> tuple[str, str] | None:
    """The first sentences of a document, at least PROMPT_WORDS words of them, and the one that follows."""
    first: int | None = None
    prompt_end, words = 0, 0.0
    for start, end in sentences(text):
        first = start if first is None else first
        if words >= PROMPT_WORDS:
            return text[first:prompt_end], text[start:end]
        prompt_end = end
        words += length_in_words(text[start:end])
    return None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Training pairs, a fixed sample of the held-out ones, and what was counted."""

    training: list[Pair]
    heldout: list[Pair]
    read: int
    heldout_total: int
    leaking: int
    unrelated: int


def choose_pairs(pairs: Iterable[Pair], sample: int, least_shared: int = 0) -> Chosen:
    """Drop training pairs that share their prompt or answer with a held-out one, and those whose answer shares fewer
    than `least_shared` words with its prompt; sample the held-out ones, which are never chosen by their words.

    The sample is the first of the held-out pairs in order of their ids, which are digests: it stays the same when
    others come or go elsewhere. Texts compare without regard to case and spacing.
    """
    everything = list(pairs)
    heldout = [pair for pair in everything if pair.split == HELDOUT]
    prompts = {_normal(pair.prompt) for pair in heldout}
    answers = {_normal(pair.answer) for pair in heldout}
    training = [
        pair
        for pair in everything
        if pair.split == TRAIN and _normal(pair.prompt) not in prompts and _normal(pair.answer) not in answers
    ]
    leaking = len(everything) - len(heldout) - len(training)
    related = [pair for pair in training if shared_words(pair) >= least_shared] if least_shared else training
    chosen = sorted(heldout, key=lambda pair: pair.id)[:sample]
    return Chosen(related, chosen, len(everything), len(heldout), leaking, len(training) - len(related))


def shared_words(pair: Pair) -> int:
    """Words of the answer that its prompt holds too, as far as their beginnings tell: `removes` meets `remove`."""
    return len(_beginnings(pair.prompt) & _beginnings(pair.answer))


def _beginnings(text: str) -> set[str]:
    words = (word for word in WORD.findall(text.lower()) if word not in STOP_WORDS)
    return {word.removesuffix("s")[:4] for word in words}


def encode_chat(tokenizer: "Tokenizer", pairs: Sequence[Pair]) -> list["Example"]:
    """Examples in chat form: the answer and its end are learned."""
    from model.batches import Example

    prompts = text_ids(tokenizer, [pair.prompt for pair in pairs])
    answers = text_ids(tokenizer, [pair.answer for pair in pairs])
    return [
        Example(prompt_form(prompt), answer_form(answer), len(pair.answer.encode()))
        for pair, prompt, answer in zip(pairs, prompts, answers, strict=True)
    ]


def heldout_sets(tokenizer: "Tokenizer", pairs: Sequence[Pair], shape: Shape) -> dict[str, list["Example"]]:
    """The three sets that are scored, over the same answers: `heldout` in chat form, `other_prompt` the same with
    the prompt of the next pair in the sample, `plain` as text with a line break, the form that a base model knows.

    Only the answer's text is scored, not the mark that ends it: a base model has never seen that.
    """
    from model.batches import Example

    prompts = text_ids(tokenizer, [pair.prompt for pair in pairs])
    answers = text_ids(tokenizer, [pair.answer for pair in pairs])
    line_break = text_ids(tokenizer, ["\n"])[0]
    sets: dict[str, list[Example]] = {"heldout": [], "other_prompt": [], "plain": []}
    for index, (pair, answer) in enumerate(zip(pairs, answers, strict=True)):
        other = _next_different(prompts, index)
        forms = {
            "heldout": prompt_form(prompts[index]),
            "other_prompt": prompt_form(other),
            "plain": [END_OF_TEXT, *prompts[index], *line_break],
        }
        rows = {name: Example(form, answer, len(pair.answer.encode())) for name, form in forms.items()}
        if answer and all(fits(row, shape) for row in rows.values()):
            for name, row in rows.items():
                sets[name].append(row)
    return sets


def fits(example: "Example", shape: Shape) -> bool:
    """Whether the model sees the whole of an example at once."""
    return len(example.prompt) + len(example.answer) <= shape.context_length + 1


def _next_different(prompts: Sequence[list[int]], index: int) -> list[int]:
    for step in range(1, len(prompts)):
        other = prompts[(index + step) % len(prompts)]
        if other != prompts[index]:
            return other
    return prompts[index]


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _digest(pairs: Sequence[Pair]) -> str:
    return digest_of([[pair.prompt, pair.answer] for pair in pairs])


def _no_pairs(config: FinetuneConfig, which: str) -> DataError:
    if config.pairs == "continuations":
        return DataError(
            f"no {which} pair could be made: finetune.pairs=continuations needs documents of two sentences or more "
            "in that split; give more documents or another collect.heldout_fraction"
        )
    return DataError(
        f"finetune.pairs=collected, but collect found no {which} pair that fits the model: name a source of pairs in "
        "collect.pairs or collect.docstrings, or set finetune.pairs=continuations to make them from the documents"
    )
