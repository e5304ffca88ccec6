"""Prompts and answers for fine-tuning: where they come from, which are learned from, and their form as token ids.

A training pair leaks where a held-out pair has its question, with any answer: the model would be asked what it has
learned. Of a conversation the first question counts. An answer alone is not a leak: labels, yes and no, and refusals
are in both splits by their nature, and a model that says them without reading is found out by its figure with another
pair's prompt.

What users have said is learned whatever its words, and a source of which nothing is left is no fault where that source
is what users have said: it is not the recipe's to fix.

What is dropped is counted by source and rule (`Chosen.dropped`). Cost: about 15 us a pair and rule, and as much again
for its ids. Memory: all pairs.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

from storage.canonical import fraction_of
from storage.documents import FEEDBACK, HELDOUT, TRAIN, Pair, count_rows, read_documents, read_pairs
from storage.store.artifacts import Part
from tasks.answer.chat_form import ChatForm, prompt_ids
from tasks.answer.pair_ids import PairIds, fits, pair_ids, questions
from tasks.collect.prose import STOP_WORDS
from tasks.notices import Tally, check_nothing_lost
from tasks.words import folded, is_unspaced, length_in_words, letters, sentences, words

if TYPE_CHECKING:
    from model.batches import Example

Origin = Literal["collected", "continuations"]

PROMPT_WORDS = 12  # least words of a continuation's prompt, by script: a shorter one says too little
LEAST_PROMPT_WORDS = 4  # of a prompt that is cut to fit a small model
SHARED_LETTERS = 3  # least letters of a word that prompt and answer may share
_NO_LETTER = re.compile("[^a-z]")
PAIRS_AT_ONCE = 1024  # encoded together

LEAKING, UNRELATED, TOO_LONG, ALIKE = "leaking", "unrelated", "too_long", "alike"
FIELDS = {  # what loosens each rule, for the sentences about losses
    LEAKING: "held-out pairs have their prompts: collect.conversations.group_field, collect.heldout_fraction",
    UNRELATED: "finetune.shared_words",
    TOO_LONG: "pretrain.context_length",
}


def pairs_of(origin: Origin, pairs: Part, documents: Part, most_made: int | None = None) -> Iterator[Pair]:
    """The pairs that the recipe names, in order of the shards.

    Continuations are made of about `most_made` documents: those whose ids have a hash below a share of all.
    """
    if origin == "collected":
        for file in pairs.files:
            yield from read_pairs(file.path)
        return
    share = 1.0 if most_made is None else most_made / max(1, sum(count_rows(file.path) for file in documents.files))
    for file in documents.files:
        for document in read_documents(file.path):
            if share < 1 and fraction_of("continuations", document.id) >= share:
                continue
            made = continuation(document.text)
            if made is not None:
                yield Pair(document.id, document.group, document.split, *made, document.source)


def continuation(text: str) -> tuple[str, str] | None:
    """The first sentences of a document, at least PROMPT_WORDS words of them, and the one that follows."""
    first: int | None = None
    prompt_end, length = 0, 0.0
    for start, end in sentences(text):
        first = start if first is None else first
        if length >= PROMPT_WORDS:
            return text[first:prompt_end], text[start:end]
        prompt_end = end
        length += length_in_words(text[start:end])
    return None


# Which of them --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chosen:
    """Training pairs, a fixed sample of the held-out ones, and what was counted.

    `training_read` is the number of each source's training pairs; `dropped` counts by source and rule; `alike` are
    the preferences of both splits whose two answers are the same.
    """

    training: list[Pair]
    heldout: list[Pair]
    read: int
    heldout_total: int
    training_read: dict[str, int]
    dropped: dict[str, Counter[str]]
    alike: int = 0

    def total(self, rule: str) -> int:
        """How many pairs a rule has dropped."""
        return sum(counts[rule] for counts in self.dropped.values())

    def tallies(self, too_long: Counter[str]) -> dict[str, Tally]:
        """What became of each source, where so many of its chosen pairs do not fit the model."""
        tallies = {}
        for source, read in self.training_read.items():
            dropped = {**self.dropped[source], **({TOO_LONG: too_long[source]} if too_long[source] else {})}
            tallies[source] = Tally(read, read - sum(dropped.values()), dropped)
        return tallies

    def check_kept(self, stage: str, too_long: Counter[str], unit: str = "pairs") -> None:
        """Raise DataError for the sources of which nothing is left, but for what users have said."""
        tallies = self.tallies(too_long)
        tallies.pop(FEEDBACK, None)
        check_nothing_lost(stage, tallies, FIELDS, unit)


def choose_pairs(pairs: Iterable[Pair], sample: int, least_shared: int = 0) -> Chosen:
    """Drop training pairs whose prompt a held-out one has, and those whose answer shares fewer than `least_shared`
    words with its prompt; sample the held-out ones, which are never chosen by their words. A preference whose two
    answers are the same, as redaction may leave them, is neither learned nor scored.

    The sample is the first of the held-out pairs in order of their ids, which are digests: it stays the same when
    others come or go elsewhere. Prompts compare without regard to case and spacing.
    """
    everything = list(pairs)
    heldout = [pair for pair in everything if pair.split == HELDOUT and not alike(pair)]
    prompts = {folded(pair.opening) for pair in heldout}
    training: list[Pair] = []
    read: Counter[str] = Counter()
    dropped: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in everything:
        if pair.split != TRAIN:
            continue
        read[pair.source] += 1
        if folded(pair.opening) in prompts:
            dropped[pair.source][LEAKING] += 1
        elif alike(pair):
            dropped[pair.source][ALIKE] += 1
        elif least_shared and pair.source != FEEDBACK and shared_words(pair) < least_shared:
            dropped[pair.source][UNRELATED] += 1
        else:
            training.append(pair)
    chosen = sorted(heldout, key=lambda pair: pair.id)[:sample]
    counts = len(everything), len(heldout), dict(sorted(read.items()))
    return Chosen(training, chosen, *counts, dropped, sum(map(alike, everything)))


def cut_notices(stage: str, cut: Counter[str], context_length: int) -> list[str]:
    """A sentence for each source whose conversations were cut to fit."""
    return [
        f"{stage} cut {count:,} conversations of source {source}, which are longer than the context of "
        f"{context_length:,} tokens: their oldest exchanges are not learned (pretrain.context_length)"
        for source, count in sorted(cut.items())
    ]


def alike(pair: Pair) -> bool:
    """Whether it is a preference that says nothing: its two answers are the same."""
    return pair.answer == pair.rejected


def leaks(pair: Pair, pairs: Part) -> bool:
    """Whether a held-out pair among all has the question that a training pair begins with."""
    wanted = folded(pair.opening)
    return any(
        other.split == HELDOUT and folded(other.opening) == wanted
        for file in pairs.files
        for other in read_pairs(file.path)
    )


def shared_words(pair: Pair) -> int:
    """Words of the answer that its prompt holds too, as far as their beginnings show: `removes` meets `remove`."""
    asked = " ".join(message.content for message in pair.asked)
    return len(_beginnings(asked) & _beginnings(pair.answer))


def _beginnings(text: str) -> set[str]:
    text = text.lower()
    spaced = "".join(one if letters(one) else " " for one in text) if not text.isascii() else _NO_LETTER.sub(" ", text)
    found = (word for word in words(spaced) if len(word) >= SHARED_LETTERS or is_unspaced(word))
    return {word.removesuffix("s")[:4] for word in found if word not in STOP_WORDS}


# As token ids ---------------------------------------------------------------------------------------------------


def encode_training(
    form: ChatForm, pairs: Iterable[Pair], context_length: int, *, shorten: bool = False
) -> Iterator[tuple[Pair, "Example | None"]]:
    """Each pair with its example; None where the model does not see the whole of it at once, and of a conversation
    not even its last exchange. One that had to be cut comes without its oldest exchanges.

    `shorten`: a prompt that does not fit loses its beginning, as a continuation's may: it is text like any other.
    """
    rest = iter(pairs)
    while batch := list(islice(rest, PAIRS_AT_ONCE)):
        for ids in pair_ids(form, batch, context_length):
            pair, example = ids.pair, _example(ids)
            if _fits(example, context_length):
                yield pair, example
            elif shorten and (shorter := _shortened(form, pair, example, context_length)) is not None:
                yield shorter, encode_chat(form, [shorter])[0]
            else:
                yield pair, None


def _shortened(form: ChatForm, pair: Pair, example: "Example", context_length: int) -> Pair | None:
    """The pair with as much of its prompt's end as fits; None where that is not LEAST_PROMPT_WORDS words."""
    room = len(example.prompt) - (len(example.prompt) + len(example.answer) - context_length - 1)
    starts = [len(pair.prompt)]
    for word in reversed(words(pair.prompt)):
        starts.append(pair.prompt.rindex(word, 0, starts[-1]))
    low, high = 0, len(starts) - 1  # the first `low` starts from the end fit
    while low < high:
        middle = (low + high + 1) // 2
        tokens = len(prompt_ids(form, pair.prompt[starts[middle] :]))
        low, high = (middle, high) if tokens <= room else (low, middle - 1)
    prompt = pair.prompt[starts[low] :]
    return replace(pair, prompt=prompt) if length_in_words(prompt) >= LEAST_PROMPT_WORDS else None


def encode_chat(form: ChatForm, pairs: Sequence[Pair]) -> list["Example"]:
    """Examples in chat form: every answer and its end are learned."""
    return [_example(ids) for ids in pair_ids(form, pairs)]


def _example(ids: PairIds) -> "Example":
    from model.batches import Example

    size = ids.learned_bytes + len(ids.pair.answer.encode())
    return Example(ids.prompt, [*ids.answer, ids.end], size, ids.learned)


def heldout_sets(
    form: ChatForm, pairs: Sequence[Pair], context_length: int, *, shorten: bool = False
) -> dict[str, list["Example"]]:
    """The three sets that are scored, over the same answers: `heldout` in chat form, `other_prompt` the same with
    another pair's prompt (its own where there is no other), `plain` as text, the form that a base model knows.

    Only the answer's text is scored, not the mark that ends it: a base model has never seen that.
    """
    from model.batches import Example

    if shorten:
        pairs = [pair for pair, _ in encode_training(form, pairs, context_length, shorten=True)]
    sets: dict[str, list[Example]] = {"heldout": [], "other_prompt": [], "plain": []}
    for asked in questions(form, pairs, context_length):
        size = len(asked.pair.answer.encode())
        sets["heldout"].append(Example(asked.prompt, asked.answer, size))
        sets["other_prompt"].append(Example(asked.other_prompt, asked.answer, size))
        sets["plain"].append(Example(asked.plain_prompt, asked.answer, size))
    return sets


def _fits(example: "Example", context_length: int) -> bool:
    return fits(example.prompt, example.answer, context_length)
