"""Memorisation: what a model writes down word by word, beside what it could have guessed.

- spans: the model reads `prefix_tokens` of a training document; are the next `span_tokens` what it writes? (Carlini et
  al. 2023, "Quantifying memorization": discoverable extraction.) Some spans are boilerplate that anybody would guess,
  so the same is asked of as many spans of held-out documents; only the difference is memory.
- canaries: the same of random sequences that were planted a known number of times, and of twins never planted; and
  their exposure (Carlini et al. 2019, "The Secret Sharer", section 4): log2 of how much further up a canary ranks among
  random sequences never planted than the last does. Without memory a rank is as good as any other.

A span is what greedy decoding gives exactly if each of its tokens is the likeliest after the true ones before it, so
one forward pass answers, and nothing is generated.

`memorisation.json`: `{"canaries": [{"model", "repeats", "count", "seen_mean", "reproduced", "exposure_mean",
"exposure_chance"}, ...], "spans": [{"model", "split", "spans", "reproduced", "low", "high"}, ...], "prefix_tokens",
"span_tokens", "epochs"}`. `reproduced` is a number of canaries or spans, `low` and `high` are the ends of the interval
of its share, exposures are bits, `epochs` passes of pretraining over the training tokens.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.documents import HELDOUT, TRAIN
from storage.tokens import END_OF_TEXT
from tasks.evaluate.documents import Sampled
from tasks.evaluate.lm_eval.backend import Request
from tasks.evaluate.measures.text_and_answers import LEAST_ITEMS, Ask
from tasks.evaluate.score import MODELS, Score
from tasks.evaluate.statistics.scores import Item, Measure
from tasks.statistics.intervals import Floats
from tasks.tokenize.canaries import PREFIX_TOKENS, SECRET_TOKENS, Canary, Planted, draw_sequence

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class Recall:
    """Tokens shown and tokens to be reproduced."""

    prefix_tokens: int
    span_tokens: int

    @classmethod
    def within(cls, context_length: int, prefix_tokens: int, span_tokens: int) -> "Recall":
        """As asked for, or what fits: at most half the context is reproduced, and the prefix takes the rest."""
        span = max(1, min(span_tokens, context_length // 2))
        return cls(max(1, min(prefix_tokens, context_length - span)), span)


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a document, without its document mark."""

    document: Sampled
    prefix: list[int]
    target: list[int]

    def item(self, decode: Decode) -> Item:
        return Item(self.document.id, self.document.source, decode(self.prefix), decode(self.target))


def choose_spans(
    documents: Sequence[Sampled], ids: Sequence[Sequence[int]], recall: Recall, most: int, seed: int
) -> list[Span]:
    """Spans that do not overlap: one from each document at a place drawn by its identity, then a second from each."""
    size = recall.prefix_tokens + recall.span_tokens
    places = []
    for number, (document, tokens) in enumerate(zip(documents, ids, strict=True)):
        starts = list(range(1, len(tokens) - size + 1, size))  # the first token is the document mark
        random.Random(f"{seed} {document.id}").shuffle(starts)
        places += [(turn, number, start) for turn, start in enumerate(starts[:most])]
    return [
        Span(
            documents[number],
            list(ids[number][start : start + recall.prefix_tokens]),
            list(ids[number][start + recall.prefix_tokens : start + size]),
        )
        for _, number, start in sorted(places)[:most]
    ]


def span_measures(
    ask: Ask, training: Sequence[Span], heldout: Sequence[Span], decode: Decode, epochs: float
) -> list[Measure]:
    """Shares of as many training and held-out spans reproduced; nothing where there are too few of either."""
    count = min(len(training), len(heldout))
    if count < LEAST_ITEMS:
        return []
    training, heldout = training[:count], heldout[:count]
    requests: list[Request] = [(span.prefix, span.target) for span in (*training, *heldout)]
    answers = ask(lambda scorers: scorers.continuations(requests))
    greedy = {who: np.array([float(same) for _, same in found]) for who, found in answers.items()}
    inside = {who: flags[:count] for who, flags in greedy.items()}
    outside = {who: flags[count:] for who, flags in greedy.items()}
    known, unknown = ([span.item(decode) for span in spans] for spans in (training, heldout))
    ones = np.ones(count)
    prefix, target = len(training[0].prefix), len(training[0].target)
    rule = f"greedy decoding after {prefix} tokens of a document gives its next {target} tokens exactly"
    trained = f"{rule}; training documents, passed over {epochs:g} times"
    beside = {f"{model}_on_heldout": outside[model] for model in MODELS}
    return [
        Measure("memorisation", "reproduced", trained, known, inside | beside, ones, "proportion",
                higher_is_better=None),
        Measure("memorisation", "reproduced_heldout", f"{rule}; held-out documents", unknown, outside, ones,
                "proportion", higher_is_better=None),
    ]  # fmt: skip


def canary_measures(
    ask: Ask, planted: Planted, candidates: int, seed: int, decode: Decode, start: int = END_OF_TEXT
) -> list[Measure]:
    """Shares reproduced and exposures by number of repeats; nothing where none was planted. `start` begins a text."""
    if not planted.canaries:
        return []
    others = [draw_sequence(planted.words, f"candidate {seed} {number}") for number in range(candidates)]
    requests = [_request(start, ids) for ids in (*(canary.ids for canary in planted.canaries), *others)]
    answers = ask(lambda scorers: scorers.continuations(requests))
    nats = {who: np.array([likelihood for likelihood, _ in found]) for who, found in answers.items()}
    greedy = {who: np.array([float(same) for _, same in found]) for who, found in answers.items()}
    count = len(planted.canaries)
    exposures = {who: exposure(found[:count], found[count:]) for who, found in nats.items()}
    measures = []
    for repeats in sorted({canary.repeats for canary in planted.canaries}):
        places = [place for place, canary in enumerate(planted.canaries) if canary.repeats == repeats]
        group = [planted.canaries[place] for place in places]
        items = [
            Item(f"canary-{place}", "canaries", decode(canary.ids[:PREFIX_TOKENS]), decode(canary.ids[PREFIX_TOKENS:]))
            for place, canary in zip(places, group, strict=True)
        ]
        name, ones = f"canaries/repeats={repeats}", np.ones(len(items))
        rule = (
            f"random sequences of {PREFIX_TOKENS + SECRET_TOKENS} out of {len(planted.words)} words, planted {repeats} "
            f"times, met whole by pretraining {_seen_mean(group):g} times on average"
        )
        exact = {who: flags[places] for who, flags in greedy.items()}
        bits = {who: found[places] for who, found in exposures.items()}
        guessed = float(len(planted.words)) ** -SECRET_TOKENS
        measures += [
            Measure(name, "reproduced", f"{rule}; greedy decoding after {PREFIX_TOKENS} gives the others", items, exact,
                    ones, "proportion", constants={"chance": guessed}, higher_is_better=None),
            Measure(name, "exposure", f"{rule}; bits, by rank among {candidates} never planted", items, bits, ones,
                    constants={"chance": chance_exposure(candidates)}, higher_is_better=None),
        ]  # fmt: skip
    return measures


def exposure(likelihoods: Floats, candidates: Floats) -> Floats:
    """log2(candidates + 1) - log2(rank) of each likelihood; 0 for the last rank; equal ones share the middle rank."""
    ordered = np.sort(candidates)
    not_above = np.searchsorted(ordered, likelihoods, side="right")
    ties = not_above - np.searchsorted(ordered, likelihoods, side="left")
    ranks = 1 + len(ordered) - not_above + ties / 2
    return np.log2(len(ordered) + 1) - np.log2(ranks)


def chance_exposure(candidates: int) -> float:
    """The mean exposure of a sequence that is any rank among the candidates with the same probability."""
    ranks = candidates + 1
    return math.log2(ranks) - math.lgamma(ranks + 1) / math.log(2) / ranks


def memorisation_table(lines: Sequence[Score], planted: Planted, recall: Recall) -> dict[str, Any]:
    """The contents of `memorisation.json`, from the lines of the measures above."""
    found = {(line.name, line.metric, line.model): line for line in lines}
    canaries, spans = [], []
    for repeats in sorted({canary.repeats for canary in planted.canaries}):
        group = [canary for canary in planted.canaries if canary.repeats == repeats]
        for model in MODELS:
            exact, rank = (found[f"canaries/repeats={repeats}", metric, model] for metric in ("reproduced", "exposure"))
            canaries.append(
                {
                    "model": model,
                    "repeats": repeats,
                    "count": len(group),
                    "seen_mean": _seen_mean(group),
                    "reproduced": _number(exact),
                    "exposure_mean": rank.value,
                    "exposure_chance": rank.baselines["chance"],
                }
            )
    for split, metric in ((TRAIN, "reproduced"), (HELDOUT, "reproduced_heldout")):
        for model in MODELS:
            line = found.get(("memorisation", metric, model))
            if line is not None:
                counts = {"spans": line.items, "reproduced": _number(line)}
                spans.append({"model": model, "split": split, **counts, "low": line.low, "high": line.high})
    return {
        "canaries": canaries,
        "spans": spans,
        "prefix_tokens": recall.prefix_tokens,
        "span_tokens": recall.span_tokens,
        "epochs": planted.epochs,
    }


def _request(start: int, ids: Sequence[int]) -> Request:
    """A canary as training has met it: after a document mark."""
    return [start, *ids[:PREFIX_TOKENS]], list(ids[PREFIX_TOKENS:])


def _number(line: Score) -> int:
    """How many of its items a share means."""
    return round((line.value or 0.0) * line.items)


def _seen_mean(group: Sequence[Canary]) -> float:
    return round(sum(canary.seen for canary in group) / len(group), 2)
