"""Two benchmarks made from any corpus's own held-out documents, so that every model has some.

- cloze: the last word of a sentence, given the text before it (the form of LAMBADA, Paperno et al. 2016); in scripts
  without spaces between words, its last letters, about a word: two in Chinese and Japanese, four in Thai and the like;
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
from tasks.words import END_MARKS, ends_by_space, is_unspaced, length_in_words, letters, without_end
from tasks.words import sentences as sentences_of
from tasks.words import words as words_of

CHOICES = 4
CLOZE_WORDS = 80  # most words shown before the last one: about LAMBADA's, and within a context of 256 tokens
CHOICE_WORDS = 45  # most words shown before a choice: each is read four times
LEAST_CONTEXT_WORDS = 15
CONTINUATION_WORDS = (5, 30)  # fewest and most words of a sentence that is chosen from
LEAST_WORD_LETTERS = 3  # of a word that a cloze asks for
TAIL_CHARACTERS = 64  # of a sentence without spaces: its last letters are in them

T = TypeVar("T")

_PARAGRAPH = re.compile(r"\S(?:(?!\n\s*\n).)*", re.DOTALL)
_NEXT_LETTER = re.compile(r"\s*[\"'(\[“‘«„]?(\S)")


@dataclass(frozen=True, slots=True)
class ClozeItem:
    """`target` is the word with the white space before it, if there is any; `context` ends in neither."""

    document: str
    source: str
    context: str
    target: str


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """`choices[label]` is the true continuation; each choice begins with the space before it, if there is one."""

    document: str
    source: str
    context: str
    choices: tuple[str, ...]
    label: int


def sentences(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence, by the end marks of its script.

    A full stop of Latin type ends one only before a letter that is not lower case: `e.g. this` goes on. A blank line
    ends a sentence too, and what it ends without an end mark (a heading) is not one, unless the script has no marks.
    """
    spans = []
    for paragraph in _PARAGRAPH.finditer(text):
        begin: int | None = None
        for start, end in sentences_of(paragraph[0]):
            begin = start if begin is None else begin
            if _is_end(paragraph[0], begin, end):
                spans.append((paragraph.start() + begin, paragraph.start() + end))
                begin = None
    return spans


def _is_end(paragraph: str, start: int, end: int) -> bool:
    """Whether a sentence from `start` ends here."""
    body = without_end(paragraph[start:end])
    marks = [mark for mark in paragraph[start + len(body) : end] if mark in END_MARKS]
    if not marks or marks[-1] not in ".!?…":
        return bool(marks) or ends_by_space(body[-1:])
    following = _NEXT_LETTER.match(paragraph, end)
    return following is None or (following[1].isalpha() and not following[1].islower())


def words(text: str) -> list[str]:
    """The letters of each word, lower-cased."""
    return [word for found in words_of(text) if (word := letters(found).lower())]


def last_word(sentence: str) -> str | None:
    """What a cloze asks for: the last word with the white space before it, as it is before the end mark.

    In a script without spaces the last letters, none of a word's before it. None where the end is not such a word.
    """
    body = without_end(sentence)
    parts = words_of(body[-TAIL_CHARACTERS:])
    if not parts:
        return None
    if is_unspaced(parts[-1]):
        count = 4 if ends_by_space(parts[-1]) else 2
        found = "".join(parts[-count:])
        whole = len(parts) > count and body.endswith(found) and all(map(is_unspaced, parts[-count:]))
        return found if whole and letters(found) == found else None
    word = parts[-1]
    before = body[-len(word) - 2 : -len(word)]
    if len(word) < LEAST_WORD_LETTERS or letters(word) != word or before[:1].isspace() or not before[1:].isspace():
        return None
    return before[1:] + word


def last_words(texts: Iterable[str]) -> Iterator[str]:
    """The word that ends each sentence, where it is one that a cloze would ask for."""
    for text in texts:
        for start, end in sentences(text):
            if found := last_word(text[start:end]):
                yield found.strip()


def cloze_items(documents: Sequence[Sampled], most: int, seed: int) -> list[ClozeItem]:
    """At most `most` items over all documents."""

    def candidates(document: Sampled) -> Iterator[ClozeItem]:
        spans = sentences(document.text)
        for number, (start, end) in enumerate(spans):
            target = last_word(document.text[start:end])
            if target is None:
                continue
            place = start + len(without_end(document.text[start:end])) - len(target)
            context = _context(document.text, spans, number, place, CLOZE_WORDS)
            if context is not None:
                yield ClozeItem(document.id, document.source, context, target)

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
            if not CONTINUATION_WORDS[0] <= length_in_words(document.text[start:end]) <= CONTINUATION_WORDS[1]:
                continue
            context = _context(document.text, spans, number - 1, before, CHOICE_WORDS)
            if context is not None:
                space = " " if before < start else ""
                yield ClozeItem(document.id, document.source, context, space + document.text[start:end])

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
    context, length = None, 0.0
    following = end
    for first in range(number, -1, -1):
        start = spans[first][0]
        length += length_in_words(text[start:following])
        if length > most_words:
            break
        context = text[start:end] if length >= LEAST_CONTEXT_WORDS else None
        following = start
    return context


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
