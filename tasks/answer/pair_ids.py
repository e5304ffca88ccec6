"""Pairs as token ids: the one place where a prompt and its answer take chat form.

Fine-tuning learns from `pair_ids`. Held-out pairs are scored as `questions`, in fine-tuning and in evaluation alike:
the same answer after its own prompt, after another pair's, and after its own as plain text, the form that a base model
knows. A model that does not read its prompt shows no gap between the first two.

Cost: about 15 us a text. Memory: all ids.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from storage.documents import Message, Pair
from tasks.answer.chat_form import ChatForm
from tasks.tokenize.tokenizer import text_ids


@dataclass(frozen=True, slots=True)
class PairIds:
    """A pair in chat form: `prompt` up to where the answer begins, `answer` without the mark that ends it."""

    pair: Pair
    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out pair as it is scored: its answer, after each of three prompts.

    `other_prompt` is that of the next pair of its source that has another one; its own where
    none fits.
    """

    pair: Pair
    answer: list[int]
    prompt: list[int]
    other_prompt: list[int]
    plain_prompt: list[int]


def pair_ids(form: ChatForm, pairs: Sequence[Pair]) -> list[PairIds]:
    """The ids of each pair."""
    turns = [(Message("user", pair.prompt), Message("assistant", pair.answer)) for pair in pairs]
    return [
        PairIds(pair, prompt.ids, answer.ids[:-1])
        for pair, (prompt, answer) in zip(pairs, form.pieces(turns), strict=True)
    ]


def questions(form: ChatForm, pairs: Sequence[Pair], context_length: int) -> list[Question]:
    """The pairs that have an answer and fit, in their order. Each fits whole, in every form."""
    as_text = text_ids(form.tokenizer, [f"{pair.prompt}\n" for pair in pairs])
    asked = [
        Question(ids.pair, ids.answer, ids.prompt, ids.prompt, [form.control.start, *text])
        for ids, text in zip(pair_ids(form, pairs), as_text, strict=True)
    ]
    asked = [
        one
        for one in asked
        if one.answer and all(fits(prompt, one.answer, context_length) for prompt in (one.prompt, one.plain_prompt))
    ]
    sources: dict[str, list[Question]] = defaultdict(list)
    for one in asked:
        sources[one.pair.source].append(one)
    places: Counter[str] = Counter()
    made = []
    for one in asked:
        members, place = sources[one.pair.source], places[one.pair.source]
        places[one.pair.source] += 1
        following = (members[(place + step) % len(members)] for step in range(1, len(members)))
        made.append(replace(one, other_prompt=_other_prompt(one, following, context_length)))
    return made


def fits(prompt: Sequence[int], answer: Sequence[int], context_length: int) -> bool:
    """Whether a model sees the whole of it at once; its last token is predicted, never read."""
    return len(prompt) + len(answer) <= context_length + 1


def _other_prompt(asked: Question, following: Iterable[Question], context_length: int) -> list[int]:
    others = (one.prompt for one in following if one.prompt != asked.prompt)
    return next((prompt for prompt in others if fits(prompt, asked.answer, context_length)), asked.prompt)
