"""Pairs as token ids: the one place where a prompt and its answer take chat form.

A conversation is one row: `<|endoftext|>`, then each question and its answer as a pair has them, so that each answer
sees all before it. The system line stands before the first question, with a blank line between; what a tool gave back
is asked as a question is. One that is longer than the context loses its oldest exchanges, never the system line.

Fine-tuning learns from `pair_ids`. Held-out pairs are scored as `questions`, in fine-tuning and in evaluation alike:
the same answer after its own prompt, after another pair's, and after its own as plain text, the form that a base model
knows. A model that does not read its prompt shows no gap between the first two.

Cost: about 15 us a text. Memory: all ids.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from storage.documents import ASSISTANT, SYSTEM, TOOL, USER, Message, Pair
from storage.errors import DataError
from tasks.answer.chat_form import ChatForm, Piece
from tasks.tokenize.tokenizer import text_ids
from tasks.wording import clipped

SHOWN_COLUMNS = 60  # of a question, in a message


@dataclass(frozen=True, slots=True)
class PairIds:
    """A pair in chat form: `prompt` up to where the answer begins, `answer`, and the mark that ends it.

    `learned` are the stretches of the prompt that are answers too, each with the mark that ends it, and
    `learned_bytes` the UTF-8 bytes of their texts. `pair` is without the exchanges that were cut off.
    """

    pair: Pair
    prompt: list[int]
    answer: list[int]
    end: int
    learned: tuple[tuple[int, int], ...] = ()
    learned_bytes: int = 0


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


def pair_ids(form: ChatForm, pairs: Sequence[Pair], context_length: int | None = None) -> list[PairIds]:
    """The ids of each pair; conversations cut to a context, where one is given and that is enough to make them fit."""
    try:
        pieces = form.pieces([_said(pair) for pair in pairs])
    except DataError:
        _refuse_first(form, pairs)
        raise
    made = [_joined(pair, one) for pair, one in zip(pairs, pieces, strict=True)]
    return made if context_length is None else [_cut(form, ids, context_length) for ids in made]


def _refuse_first(form: ChatForm, pairs: Sequence[Pair]) -> None:
    """Raise the error of the first pair that its form refuses, and say which that is."""
    for pair in pairs:
        try:
            form.pieces([_said(pair)])
        except DataError as error:
            roles = ", ".join(message.role for message in _said(pair))
            raise DataError(
                f"{error}. They are of source {pair.source}: {roles}; the first asks "
                f"{clipped(pair.opening, SHOWN_COLUMNS)!r}. Take them out of the data, or give another template"
            ) from error


def _said(pair: Pair) -> list[Message]:
    """All messages with the answer; what a tool says is said by the user, since few chat forms know tools."""
    asked = [Message(USER if role == TOOL else role, content) for role, content in pair.asked]
    return [*asked, Message(ASSISTANT, pair.answer)]


def _joined(pair: Pair, pieces: Sequence[Piece]) -> PairIds:
    *before, last = pieces
    prompt: list[int] = []
    learned = []
    for piece in before:
        start = len(prompt)
        prompt += piece.ids
        if piece.learned:
            learned.append((start, len(prompt)))
    size = sum(len(message.content.encode()) for message in pair.earlier if message.role == ASSISTANT)
    return PairIds(pair, prompt, last.ids[:-1], last.ids[-1], tuple(learned), size)


def _cut(form: ChatForm, ids: PairIds, context_length: int) -> PairIds:
    """Without the oldest exchanges, as many as must go; the system line stays."""
    while (over := len(ids.prompt) + len(ids.answer) - context_length) > 0 and ids.learned:
        ends = [end for _, end in ids.learned]  # what goes with each exchange is no more than what is before its end
        number = next((n for n, end in enumerate(ends, 1) if end >= over), len(ends))
        (ids,) = pair_ids(form, [_without_oldest(ids.pair, number)])
    return ids


def _without_oldest(pair: Pair, exchanges: int) -> Pair:
    system = pair.earlier[: pair.earlier[0].role == SYSTEM]
    answers = [place for place, message in enumerate(pair.earlier) if message.role == ASSISTANT]
    return replace(pair, earlier=(*system, *pair.earlier[answers[exchanges - 1] + 1 :]))


def questions(form: ChatForm, pairs: Sequence[Pair], context_length: int) -> list[Question]:
    """The pairs that have an answer and fit, in their order. Each fits whole, in every form; of conversations the last
    answer is scored, after as much as fits."""
    ids_of = pair_ids(form, pairs, context_length)
    texts = ["".join(f"{message.content}\n" for message in ids.pair.asked) for ids in ids_of]
    asked = [
        Question(ids.pair, ids.answer, ids.prompt, ids.prompt, [form.control.start, *text])
        for ids, text in zip(ids_of, text_ids(form.tokenizer, texts), strict=True)
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
