"""Of two answers to a held-out prompt: whether a model finds the one that people chose the likelier, and by how much.

Answers are scored without the mark that ends them, which a base model has never seen. The shorter answer is a baseline:
it is the likelier one for a model that knows nothing of either.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from storage.documents import Pair
from tasks.answer.chat_form import ChatForm
from tasks.answer.pair_ids import fits, pair_ids
from tasks.evaluate.lm_eval.backend import Request
from tasks.evaluate.measures.text_and_answers import Ask
from tasks.evaluate.statistics.scores import Item, Measure
from tasks.statistics.intervals import Floats


@dataclass(frozen=True, slots=True)
class TwoAnswers:
    """A held-out preference as ids: what stands before both answers, the chosen one and the rejected one."""

    pair: Pair
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def two_answers(form: ChatForm, pairs: Sequence[Pair], context_length: int) -> list[TwoAnswers]:
    """The preferences whose two answers fit, in their order."""
    chosen = pair_ids(form, pairs)
    rejected = pair_ids(form, [replace(pair, answer=pair.rejected) for pair in pairs])
    made = [
        TwoAnswers(one.pair, one.prompt, one.answer, other.answer) for one, other in zip(chosen, rejected, strict=True)
    ]

    def fit(one: TwoAnswers) -> bool:
        return all(ids and fits(one.prompt, ids, context_length) for ids in (one.chosen, one.rejected))

    return [one for one in made if fit(one)]


def preference_measures(ask: Ask, asked: Sequence[TwoAnswers]) -> list[Measure]:
    """How often the chosen answer is the likelier, a tie being half, and by how many nats."""
    requests: list[Request] = [(one.prompt, ids) for one in asked for ids in (one.chosen, one.rejected)]
    answers = ask(lambda scorers: scorers.continuations(requests))
    nats = {who: np.array([found for found, _ in scored]).reshape(-1, 2) for who, scored in answers.items()}
    margins = {who: found[:, 0] - found[:, 1] for who, found in nats.items()}
    items = [
        Item(one.pair.id, one.pair.source, one.pair.opening, one.pair.answer, (one.pair.answer, one.pair.rejected))
        for one in asked
    ]
    lengths = np.array([[len(one.pair.answer.encode()), len(one.pair.rejected.encode())] for one in asked], np.float64)
    right = {who: _right(found) for who, found in margins.items()} | {
        "shorter_answer": _right(lengths[:, 1] - lengths[:, 0])
    }
    ones = np.ones(len(items))
    rule = "log-probability of the answer's tokens without the end mark, after its prompt in chat form"
    return [
        Measure("preferences", "accuracy", f"the chosen answer has the higher {rule}", items, right, ones, "proportion",
                higher_is_better=True, constants={"chance": 0.5}),
        Measure("preferences", "margin", f"nats by which the chosen answer has the higher {rule}", items, margins, ones,
                higher_is_better=True),
    ]  # fmt: skip


def _right(margins: Floats) -> Floats:
    return (margins > 0) + (margins == 0) / 2
