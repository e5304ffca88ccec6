"""Two benchmarks made from any corpus's own held-out documents, so that every model has some.

- cloze: the last word of a sentence, given the text before it (the form of LAMBADA, Paperno et al. 2016);
- choice: the true next sentence among four (the form of HellaSwag, Zellers et al. 2019). Items come in blocks of
  four from four documents, of the same source where possible and of like length: the continuations of the other
  three are the distractors. So each text is right once and wrong three times; whoever does not read the context
  (by length, frequency or style of the continuation) is right in exactly one item of four. The place of the right
  one is drawn evenly.

Items go round the documents, one from each, then a second from each, so that they spread as far as they can; the
intervals count what remains of the clustering. Cost: about 1 ms a document of 5 KB.
"""

import hashlib
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tasks.evaluate.documents import Sampled

CHOICES = 4
CLOZE_WORDS = 80  # most words shown before the last one: about LAMBADA's, and within a context of 256 tokens
CHOICE_WORDS = 45  # most words shown before a choice: each is read four times
LEAST_CONTEXT_WORDS = 15
CONTINUATION_WORDS = (5, 30)  # fewest and most words of a sentence that is chosen from

T = TypeVar("T")

_SENTENCE_END = re.compile(r"[.!?][\"')\]]?(?=\s+[\"'(\[]?[^\W\d_a-z]|\s*$)")
_LAST_WORD = re.compile(r"(?P<before>.*\S)(?P<target>\s[^\W\d_]{3,})[.!?]$", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class ClozeItem:
    """`target` is the word with the white space before it; `context` ends in neither."""

    document: str
    source: str
    context: str
    target: str


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """`choices[label]` is the true continuation; each choice begins with the white space before it."""

    document: str
    source: str
    context: str
    choices: tuple[str, ...]
    label: int


def sentences(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence: an end mark followed by white space and a letter that is not lower case.

    A blank line ends a sentence too, and what it ends without an end mark (a heading) is none.
    """
    spans = []
    for paragraph in re.finditer(r"\S(?:(?!\n\s*\n).)*", text, re.DOTALL):
        start, end = paragraph.span()
        for mark in _SENTENCE_END.finditer(text, start, end):
            spans.append((start, mark.end()))
            start = mark.end() + len(text[mark.end() : end]) - len(text[mark.end() : end].lstrip())
    return spans


def words(text: str) -> list[str]:
    """Runs of letters, lower-cased."""
    return [word.lower() for word in _WORD.findall(text)]


def last_words(texts: Iterable[str]) -> Iterator[str]:
    """The word that ends each sentence, where it is one that a cloze would ask for."""
    for text in texts:
        for start, end in sentences(text):
            if match := _LAST_WORD.fullmatch(text, start, end):
                yield match["target"].strip()


def cloze_items(documents: Sequence[Sampled], most: int, seed: int) -> list[ClozeItem]:
    """At most `most` items over all documents."""

    def candidates(document: Sampled) -> Iterator[ClozeItem]:
        spans = sentences(document.text)
        for number, (start, end) in enumerate(spans):
            match = _LAST_WORD.fullmatch(document.text, start, end)
            if match is None:
                continue
            context = _context(document.text, spans, number, match.end("before"), CLOZE_WORDS)
            if context is not None:
                yield ClozeItem(document.id, document.source, context, match["target"])

    return _round_robin([_shuffled(list(candidates(d)), seed, d.id) for d in documents], most)


def choice_items(documents: Sequence[Sampled], most: int, seed: int) -> list[ChoiceItem]:
    """At most `most` items over all documents; none where fewer than four documents have a continuation."""

    def candidates(document: Sampled) -> Iterator[ClozeItem]:
        spans = sentences(document.text)
        for number in range(1, len(spans)):
            start, end = spans[number]
            before = spans[number - 1][1]
            if "\n\n" in document.text[before:start]:
                continue
            if not CONTINUATION_WORDS[0] <= len(document.text[start:end].split()) <= CONTINUATION_WORDS[1]:
                continue
            context = _context(document.text, spans, number - 1, before, CHOICE_WORDS)
            if context is not None:
                yield ClozeItem(document.id, document.source, context, " " + document.text[start:end])

    stems = _round_robin([_shuffled(list(candidates(d)), seed, d.id) for d in documents], most)
    blocks = _blocks(stems)
    places = [number % CHOICES for number in range(CHOICES * len(blocks))]
    random.Random(_seed(seed, "places")).shuffle(places)
    items: list[ChoiceItem] = []
    for block in blocks:
        for stem in block:
            label = places[len(items)]
            wrong = [other.target for other in block if other is not stem]
            random.Random(_seed(seed, stem.document + stem.target)).shuffle(wrong)
            choices = (*wrong[:label], stem.target, *wrong[label:])
            items.append(ChoiceItem(stem.document, stem.source, stem.context, choices, label))
    return items


def overlap_scores(item: ChoiceItem) -> list[float]:
    """Share of each choice's distinct words that the context holds: the baseline that reads no order at all."""
    context = set(words(item.context))
    shares = []
    for choice in item.choices:
        found = set(words(choice))
        shares.append(len(found & context) / max(1, len(found)))
    return shares


def credit(scores: Sequence[float], label: int) -> float:
    """1 if the right choice has the highest score, shared equally among those that have it."""
    best = max(scores)
    return float(scores[label] == best) / sum(score == best for score in scores)


def _blocks(stems: list[ClozeItem]) -> list[list[ClozeItem]]:
    """Blocks of four stems from four documents with four texts, near in length: first within a source, then across."""
    full: list[list[ClozeItem]] = []
    left: list[ClozeItem] = stems
    for order in (_by_source_and_length, _by_length):
        open_blocks: list[list[ClozeItem]] = []
        for stem in sorted(left, key=order):
            for block in open_blocks:
                apart = all(stem.document != other.document and stem.target != other.target for other in block)
                if apart and (order is _by_length or block[0].source == stem.source):
                    block.append(stem)
                    break
            else:
                open_blocks.append([stem])
            full += [block for block in open_blocks if len(block) == CHOICES]
            open_blocks = [block for block in open_blocks if len(block) < CHOICES]
        left = [stem for block in open_blocks for stem in block]
    return full


def _by_length(stem: ClozeItem) -> tuple[int, str, str]:
    return len(stem.target), stem.document, stem.target


def _by_source_and_length(stem: ClozeItem) -> tuple[str, int, str, str]:
    return stem.source, *_by_length(stem)


def _context(text: str, spans: list[tuple[int, int]], number: int, end: int, most_words: int) -> str | None:
    """Whole sentences up to `end` inside sentence `number`, at most `most_words`; None if there are too few."""
    context = None
    for first in range(number, -1, -1):
        candidate = text[spans[first][0] : end]
        if len(candidate.split()) > most_words:
            break
        context = candidate
    return context if context is not None and len(context.split()) >= LEAST_CONTEXT_WORDS else None


def _shuffled(values: list[T], seed: int, identity: str) -> list[T]:
    random.Random(_seed(seed, identity)).shuffle(values)
    return values


def _round_robin(groups: Sequence[list[T]], most: int) -> list[T]:
    """The first of each group, then the second of each, up to `most`."""
    chosen: list[T] = []
    for depth in range(max(map(len, groups), default=0)):
        chosen += [group[depth] for group in groups if depth < len(group)]
        if len(chosen) >= most:
            break
    return chosen[:most]


def _seed(seed: int, identity: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{identity}".encode()).digest()[:8], "big")
