"""What is measured: each function asks every scorer the same questions and returns the amounts side by side.

- held-out text: bits per byte, which compares across tokenizers, and perplexity per token and per word, which do not;
- known text: the same of texts that the initial model knew, and by how much it has become more: what is forgotten;
- answers: bits per byte of the held-out pairs' answers given their prompts in chat form, and given another pair's
  prompt of the same source: a model that does not read its prompt shows no gap between the two. The base model has
  never seen the chat form, so what it reaches on plain text is beside it as a baseline;
- cloze and choice: two benchmarks made from the held-out documents (own_items.py), through lm-eval.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tasks.answer.pair_ids import Question
from tasks.evaluate.documents import Sampled
from tasks.evaluate.lm_eval.backend import Request
from tasks.evaluate.lm_eval.own_tasks import CHOICE_TASK, CLOZE_TASK, Harness
from tasks.evaluate.measures.calibration import choice_calibration
from tasks.evaluate.measures.own_items import CHOICES, ChoiceItem, ClozeItem, credit, last_words, overlap_scores
from tasks.evaluate.score import BASE, FORGETTING, INITIAL, MODELS
from tasks.evaluate.scorers.scorers import Scorers
from tasks.evaluate.statistics.scores import Item, Measure, select
from tasks.statistics.intervals import Floats
from tasks.words import words

LEAST_ITEMS = 8  # fewer say nothing: an accuracy of 50 % would have an interval from 22 to 78 %
LAST_WORD_CHARACTERS = 2_000_000
WORD_RULE = "by white space; a letter in scripts that have none between words"

Encode = Callable[[str], list[int]]
Ask = Callable[[Callable[[Scorers], Any]], dict[str, Any]]  # the answers by scorer


def heldout_measures(
    ask: Ask, documents: Sequence[Sampled], ids: Sequence[Sequence[int]], stride: int
) -> list[Measure]:
    """Bits per byte and perplexities of `documents`, whose `ids` begin with `<|endoftext|>`: of all together, and of
    each source and each language where there are several."""
    nats = {who: np.array(found) for who, found in ask(lambda scorers: scorers.documents(ids)).items()}
    items = [Item(document.id, document.source) for document in documents]
    rule = f"whole documents after <|endoftext|>, windows moved by {stride} tokens, each token scored once"
    tokens = np.array([len(document) - 1 for document in ids], np.float64)
    sizes = np.array([document.bytes for document in documents], np.float64)
    word_counts = np.array([max(1, len(words(document.text))) for document in documents], np.float64)
    bits = {who: found / math.log(2) for who, found in nats.items()}
    whole = [
        Measure("heldout", "bits_per_byte", rule, items, bits, sizes),
        Measure(
            "heldout", "token_perplexity", f"{rule}; per token of this tokenizer", items, nats, tokens, "exponential"
        ),
        Measure(
            "heldout", "word_perplexity", f"{rule}; per word, {WORD_RULE}", items, nats, word_counts, "exponential"
        ),
    ]
    groups = {
        "source": [document.source for document in documents],
        "lang": [document.language for document in documents],
    }
    apart = [
        select(measure, f"heldout/{kind}={name}", [label == name for label in labels])
        for kind, labels in groups.items()
        for name in sorted(set(labels))
        for measure in whole
        if len(set(labels)) > 1
    ]
    return whole + apart


def known_measures(ask: Ask, documents: Sequence[Sampled], ids: Sequence[Sequence[int]], stride: int) -> list[Measure]:
    """Bits per byte of known text, and how much more than the initial model's they are: document by document, so that
    the interval is that of the difference. `ask` answers for both models, and for INITIAL where the base model is not
    itself what the run started from."""
    answers = ask(lambda scorers: scorers.documents(ids))
    bits = {who: np.array(nats) / math.log(2) for who, nats in answers.items()}
    bits.setdefault(INITIAL, bits[BASE])
    items = [Item(document.id, document.source) for document in documents]
    sizes = np.array([document.bytes for document in documents], np.float64)
    rule = f"whole documents after <|endoftext|>, windows moved by {stride} tokens, each token scored once"
    lost = {model: bits[model] - bits[INITIAL] for model in MODELS}
    return [
        Measure("known_text", "bits_per_byte", rule, items, bits, sizes, higher_is_better=None),
        Measure("known_text", FORGETTING, f"bits per byte less those of the initial model; {rule}", items, lost,
                sizes),
    ]  # fmt: skip


def answer_measures(ask: Ask, asked: Sequence[Question]) -> list[Measure]:
    """Bits per byte of answers given their prompt, given another's, and the gap between the two."""
    own: list[Request] = [(one.prompt, one.answer) for one in asked]
    other: list[Request] = [(one.other_prompt, one.answer) for one in asked]
    as_text: list[Request] = [(one.plain_prompt, one.answer) for one in asked]

    pairs = [one.pair for one in asked]
    items = [Item(pair.id, pair.source, pair.prompt, pair.answer) for pair in pairs]
    sizes = np.array([len(pair.answer.encode()) for pair in pairs], np.float64)
    given, control, plain = (bits_of(ask, requests) for requests in (own, other, as_text))
    gap = {who: control[who] - given[who] for who in given}
    rule = "chat form, the answer's tokens without the end mark, over the answer's UTF-8 bytes"
    another = "another pair's prompt of the same source"
    return [
        Measure("answers", "bits_per_byte", rule, items,
                given | {"base_plain_form": plain[BASE]}, sizes),
        Measure("answers", "bits_per_byte_other_prompt", f"{rule}; after {another}", items,
                {model: control[model] for model in MODELS}, sizes),
        Measure("answers", "prompt_gap", f"bits per byte after {another} less those after its own", items, gap, sizes,
                higher_is_better=True),
    ]  # fmt: skip


def bits_of(ask: Ask, requests: list[Request]) -> dict[str, Floats]:
    """The bits of each continuation, by scorer."""
    answers = ask(lambda scorers: scorers.continuations(requests))
    return {who: np.array([-nats / math.log(2) for nats, _ in found]) for who, found in answers.items()}


def benchmark_measures(
    ask: Ask,
    cloze: Sequence[ClozeItem],
    choice: Sequence[ChoiceItem],
    most_frequent_word: str,
    encode: Encode,
    folder: Path,
    start: int,
) -> list[Measure]:
    """The two benchmarks through lm-eval, texts after the id `start`; a task with few items is left out."""
    tasks = {
        "cloze": (CLOZE_TASK, [asdict(item) for item in cloze if len(cloze) >= LEAST_ITEMS]),
        "choice": (CHOICE_TASK, [asdict(item) for item in choice if len(choice) >= LEAST_ITEMS]),
    }
    harness = Harness(tasks, folder, encode, start)
    found: dict[str, Any] = ask(lambda scorers: harness.run(scorers.continuations))
    measures = []
    if tasks["cloze"][1]:
        measures += _cloze(cloze, _samples(found, "cloze"), most_frequent_word)
    if tasks["choice"][1]:
        measures += _choice(choice, _samples(found, "choice"))
    return measures


def frequent_last_word(texts: Sequence[str]) -> str:
    """The word that most sentences end with, the first by alphabet among equals; read from a bounded sample."""
    counts: Counter[str] = Counter()
    total = 0
    for text in texts:
        counts.update(last_words([text]))
        total += len(text)
        if total >= LAST_WORD_CHARACTERS:
            break
    return min(counts, key=lambda word: (-counts[word], word), default="")


def _samples(found: Mapping[str, Any], task: str) -> dict[str, list[dict[str, Any]]]:
    return {who: results[task]["samples"] for who, results in found.items()}


def _column(samples: Mapping[str, list[dict[str, Any]]], metric: str) -> dict[str, Floats]:
    return {who: np.array([float(row[metric]) for row in rows]) for who, rows in samples.items()}


def _cloze(
    cloze: Sequence[ClozeItem], samples: Mapping[str, list[dict[str, Any]]], most_frequent_word: str
) -> list[Measure]:
    items = [Item(item.document, item.source, item.context, item.target) for item in cloze]
    ones = np.ones(len(items))
    most_frequent = np.array([float(item.target.strip() == most_frequent_word) for item in cloze])
    right = _column(samples, "acc") | {"most_frequent_word": most_frequent}
    nats = {who: -values for who, values in _column(samples, "perplexity").items()}
    return [
        Measure("cloze", "accuracy", "lm-eval acc: greedy decoding gives exactly the tokens of the last word", items,
                right, ones, "proportion", higher_is_better=True),
        Measure("cloze", "word_perplexity", "lm-eval perplexity: e to the mean nats of the word", items, nats, ones,
                "exponential"),
    ]  # fmt: skip


def _choice(choice: Sequence[ChoiceItem], samples: Mapping[str, list[dict[str, Any]]]) -> list[Measure]:
    items = [Item(item.document, item.source, item.context, item.choices[item.label], item.choices) for item in choice]
    ones = np.ones(len(items))
    overlap = np.array([credit(overlap_scores(item), item.label) for item in choice])
    rules = {
        "accuracy": ("acc", "lm-eval acc: highest summed log-probability"),
        "accuracy_per_character": ("acc_norm", "lm-eval acc_norm: highest log-probability per character"),
        "accuracy_mutual_information": (
            "acc_mutual_info",
            "lm-eval acc_mutual_info: highest log-probability less that without the context",
        ),
    }
    likelihoods = {
        who: [[nats for nats, _ in row["filtered_resps"][:CHOICES]] for row in rows] for who, rows in samples.items()
    }
    return [
        *(
            Measure("choice", metric, rule, items, _column(samples, name) | {"word_overlap": overlap}, ones,
                    "proportion", higher_is_better=True, constants={"chance": 1 / CHOICES})
            for metric, (name, rule) in rules.items()
        ),
        choice_calibration("choice", items, likelihoods, [item.label for item in choice]),
    ]  # fmt: skip
