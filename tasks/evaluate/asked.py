"""What every scorer is asked: held-out text, answers, items, spans, canaries and benchmarks, the same for all.

All of it is chosen by the seed and by the identities of the documents, before a model is loaded; what does not fit the
shortest context of the models is asked of none. Cost: one pass over the sampled texts, and their encoding.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.huggingface import read_shape
from storage.documents import HELDOUT, TRAIN, Pair
from storage.errors import ConfigError
from storage.store.artifacts import Artifact, Part
from tasks.answer.chat_form import ChatForm
from tasks.answer.pair_ids import Question, questions
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.documents import (
    Entry,
    Sampled,
    heldout_pairs,
    read_sample,
    with_identified_languages,
)
from tasks.evaluate.lm_eval.loading import Loaded, load_benchmarks
from tasks.evaluate.measures.feedback import OfUsers, of_users
from tasks.evaluate.measures.memorisation import Recall, Span, choose_spans
from tasks.evaluate.measures.own_items import ChoiceItem, ClozeItem, choice_items, cloze_items
from tasks.evaluate.measures.preferences import TwoAnswers, two_answers
from tasks.evaluate.measures.text_and_answers import Encode
from tasks.tokenize.canaries import Planted, read_planted
from tasks.tokenize.tokenizer import token_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ITEM_BYTES = 4_000  # of held-out text read for each item asked for


@dataclass(frozen=True, slots=True)
class Texts:
    """Documents, and the ids of each after the mark that begins a text."""

    documents: list[Sampled]
    ids: list[list[int]]


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions, and what they were made of.

    `heldout` is scored, `training` makes the n-gram baselines, `known` is what the initial model knew; `questions` are
    those of `pairs` that fit and have another's prompt beside their own; `said` is what held-out users have said;
    `known_spans` are of `training`, `other_spans` of `heldout`.
    """

    form: ChatForm
    encode: Encode
    context_length: int
    stride: int
    heldout: Texts
    training: Texts
    known: Texts
    pairs: list[Pair]
    questions: list[Question]
    preferences: list[TwoAnswers]
    said: OfUsers
    cloze: list[ClozeItem]
    choice: list[ChoiceItem]
    recall: Recall
    known_spans: list[Span]
    other_spans: list[Span]
    planted: Planted
    benchmarks: Loaded

    @property
    def encoder(self) -> "Tokenizer":
        return self.form.tokenizer

    @property
    def start(self) -> int:
        """The id before each document."""
        return self.form.control.start

    def counts(self) -> dict[str, int]:
        """How many items there are of each figure that needs some."""
        return {
            "answers": len(self.questions),
            "cloze": len(self.cloze),
            "choice": len(self.choice),
            "memorisation": min(len(self.known_spans), len(self.other_spans)),
        }


def choose_asked(
    config: EvaluateConfig,
    models: Iterable[Path],
    canaries: Part,
    form: ChatForm,
    clean: Artifact,
    entries: Mapping[str, list[Entry]],
    known: list[Sampled],
) -> Asked:
    """Choose from the documents, `entries` by split, and pairs of `clean`, as much as the config asks for.

    `models` are the folders of those that are asked.

    ConfigError where the stride is longer than the models' context, or where a benchmark cannot be loaded.
    """

    @functools.cache  # every scorer asks for the same texts
    def encode(text: str) -> list[int]:
        return token_ids(form.tokenizer, text)

    def encode_documents(documents: Iterable[Sampled]) -> list[list[int]]:
        return [[form.control.start, *token_ids(form.tokenizer, document.text)] for document in documents]

    documents = read_sample(entries[HELDOUT], max(config.heldout_bytes, ITEM_BYTES * config.items))
    scored = with_identified_languages(read_sample(entries[HELDOUT], config.heldout_bytes), clean["signals"].path)
    sample = read_sample(entries[TRAIN], config.baseline_bytes)
    planted = read_planted(canaries)
    pairs = heldout_pairs(clean["pairs"].path, config.items, config.seed)
    benchmarks = load_benchmarks(config.tasks, config.seed)
    context_length = min(read_shape(model).context_length for model in models)
    stride = _stride(config, context_length)
    asked_pairs = [one for one in questions(form, pairs, context_length) if one.other_prompt != one.prompt]
    cloze, choice = _own_items(config, documents, encode, context_length)
    training, heldout = Texts(sample, encode_documents(sample)), Texts(scored, encode_documents(scored))
    recall = Recall.within(context_length, config.prefix_tokens, config.span_tokens)
    known_spans, other_spans = (
        choose_spans(texts.documents, texts.ids, recall, config.spans, config.seed) for texts in (training, heldout)
    )
    return Asked(
        form=form,
        encode=encode,
        context_length=context_length,
        stride=stride,
        heldout=heldout,
        training=training,
        known=Texts(known, encode_documents(known)),
        pairs=pairs,
        questions=asked_pairs,
        preferences=two_answers(
            form, heldout_pairs(clean["preferences"].path, config.items, config.seed), context_length
        ),
        said=of_users(form, clean, config.items, config.seed, context_length),
        cloze=cloze,
        choice=choice,
        recall=recall,
        known_spans=known_spans,
        other_spans=other_spans,
        planted=planted,
        benchmarks=benchmarks,
    )


def _stride(config: EvaluateConfig, context_length: int) -> int:
    stride = context_length // 2 if config.stride is None else config.stride
    if stride > context_length:
        raise ConfigError(f"evaluate.stride: {stride} is more than the models' context of {context_length} tokens")
    return stride


def _own_items(
    config: EvaluateConfig, documents: list[Sampled], encode: Encode, context_length: int
) -> tuple[list[ClozeItem], list[ChoiceItem]]:
    """Items made from the held-out documents whose answers fit the context."""

    def fits(text: str) -> bool:
        return len(encode(text)) < context_length

    cloze = [item for item in cloze_items(documents, config.items, config.seed) if fits(item.target)]
    choice = [
        item for item in choice_items(documents, config.items, config.seed) if all(fits(text) for text in item.choices)
    ]
    return cloze, choice
