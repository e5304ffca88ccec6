"""What held-out users have said: bits per byte of their corrections, and how often the answer that they chose is the
likelier one. The unit of the intervals is the user, since what one says hangs together.

Beside it what is learned from users: bits per byte of those very corrections, by which a retraining sees whether it
has learned them. The unit is the correction, and one is enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from storage.documents import FEEDBACK, HELDOUT, PAIRS, PREFERENCES, TRAIN, Pair
from storage.store.artifacts import Artifact
from tasks.answer.chat_form import ChatForm
from tasks.answer.pair_ids import PairIds, fits, pair_ids
from tasks.evaluate.documents import has_source, some_pairs
from tasks.evaluate.lm_eval.backend import Request
from tasks.evaluate.measures.preferences import TwoAnswers, preference_measures, two_answers
from tasks.evaluate.measures.text_and_answers import LEAST_ITEMS, Ask, bits_of
from tasks.evaluate.score import LEARNED_FEEDBACK, Score
from tasks.evaluate.statistics.scores import Item, Measure, missing_lines

NAME = FEEDBACK
CORRECTIONS, CHOICES = "bits_per_byte", "accuracy"  # metrics
RULES = {CORRECTIONS: "corrections", CHOICES: "preferences"}  # what each is measured on


@dataclass(frozen=True, slots=True)
class OfUsers:
    """What held-out users have said, as it is asked; `learned`: whether the recipe learns from users at all;
    `taught`: corrections that it learns."""

    learned: bool
    corrections: list[PairIds]
    choices: list[TwoAnswers]
    taught: list[PairIds] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How many items there are of each figure, by its metric; empty where nothing is learned from users."""
        return {CORRECTIONS: len(self.corrections), CHOICES: len(self.choices)} if self.learned else {}


def of_users(form: ChatForm, clean: Artifact, most: int, seed: int, context_length: int) -> OfUsers:
    """At most `most` corrections and preferences of held-out users that fit, chosen by their identities."""
    parts = [clean[name].path for name in (PAIRS, PREFERENCES)]
    corrected, chosen = (some_pairs(path, most, seed, FEEDBACK, HELDOUT) for path in parts)
    return OfUsers(
        has_source(parts, FEEDBACK),
        corrections(form, corrected, context_length),
        two_answers(form, chosen, context_length),
        corrections(form, some_pairs(parts[0], most, seed, FEEDBACK, TRAIN), context_length),
    )


def corrections(form: ChatForm, pairs: Sequence[Pair], context_length: int) -> list[PairIds]:
    """The pairs that fit whole, in their order; of conversations the last answer counts."""
    ids = pair_ids(form, pairs, context_length)
    return [one for one in ids if one.answer and fits(one.prompt, one.answer, context_length)]


def feedback_measures(ask: Ask, said: OfUsers) -> list[Measure]:
    """The figures of which there are items enough."""
    asked, chosen = said.corrections, said.choices
    measures = []
    if len(asked) >= LEAST_ITEMS:
        measures.append(_bits(ask, NAME, "of held-out users", asked, [one.pair.group for one in asked]))
    if said.taught:
        measures.append(
            _bits(ask, LEARNED_FEEDBACK, "that are learned", said.taught, [one.pair.id for one in said.taught])
        )
    if len(chosen) >= LEAST_ITEMS:
        found = next(one for one in preference_measures(ask, chosen) if one.metric == CHOICES)
        items = [replace(item, document=one.pair.group) for item, one in zip(found.items, chosen, strict=True)]
        measures.append(replace(found, name=NAME, items=items))
    return measures


def _bits(ask: Ask, name: str, whose: str, asked: Sequence[PairIds], units: Sequence[str]) -> Measure:
    """Bits per byte of corrections; those with the same unit hang together."""
    requests: list[Request] = [(one.prompt, one.answer) for one in asked]
    items = [
        Item(unit, one.pair.source, one.pair.opening, one.pair.answer) for unit, one in zip(units, asked, strict=True)
    ]
    sizes = np.array([len(one.pair.answer.encode()) for one in asked], np.float64)
    rule = f"corrections {whose} in chat form, tokens without the end mark, over their UTF-8 bytes"
    return Measure(name, CORRECTIONS, rule, items, bits_of(ask, requests), sizes)


def missing_feedback(counts: dict[str, int]) -> list[Score]:
    """A line that says so for each figure, by its metric, of which there are too few items."""
    return [
        line
        for metric, count in counts.items()
        if count < LEAST_ITEMS
        for line in missing_lines(NAME, metric, f"needs {LEAST_ITEMS} items", count, _note(metric))
    ]


def feedback_notices(counts: dict[str, int]) -> list[str]:
    """A sentence where nothing of it could be measured."""
    if not counts or any(count >= LEAST_ITEMS for count in counts.values()):
        return []
    said = " and ".join(f"{count} {RULES[metric]}" for metric, count in counts.items())
    return [
        f"evaluate: {NAME} was not measured: held-out users have given {said}, and it takes {LEAST_ITEMS} of one kind "
        "(collect.feedback.heldout_users)"
    ]


def _note(metric: str) -> str:
    return f"not enough {RULES[metric]} of held-out users"
