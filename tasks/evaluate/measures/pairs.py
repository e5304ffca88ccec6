"""The held-out pairs that are asked, as token ids in chat form."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from storage.documents import HELDOUT, read_rows
from storage.tokens import END_OF_TEXT
from tasks.evaluate.documents import rank
from tasks.evaluate.measures.text_and_answers import AnswerPair

Pair = dict[str, str]


def heldout_pairs(folder: Path, most: int, seed: int) -> list[Pair]:
    """At most `most` held-out pairs, in an order given by their identities."""
    rows = (row for path in sorted(folder.glob("*.parquet")) for row in read_rows(path))
    pairs = [row for row in rows if row["split"] == HELDOUT]
    return sorted(pairs, key=lambda pair: (rank(seed, pair["id"]), pair["id"]))[:most]


def as_questions(
    pairs: list[Pair], context_of: Callable[[str], list[int]], encode: Callable[[str], list[int]], context_length: int
) -> list[AnswerPair]:
    """Each pair beside the next one of its source with another prompt.

    `context_of(prompt)` is the chat form up to the answer. Left out: pairs that do not fit into the context whole, as
    they are in fine-tuning, and those without another.
    """
    questions = []
    for _, group in groupby(sorted(pairs, key=lambda pair: pair["source"]), key=lambda pair: pair["source"]):
        members = [
            pair
            for pair in group
            if pair["answer"] and len(context_of(pair["prompt"])) + len(encode(pair["answer"])) <= context_length
        ]
        contexts = [context_of(pair["prompt"]) for pair in members]
        for number, pair in enumerate(members):
            others = ((number + step) % len(members) for step in range(1, len(members)))
            other = next((place for place in others if members[place]["prompt"] != pair["prompt"]), None)
            if other is not None:
                questions.append(
                    AnswerPair(
                        pair["id"],
                        pair["source"],
                        pair["prompt"],
                        pair["answer"],
                        contexts[number],
                        encode(pair["answer"]),
                        contexts[other],
                        [END_OF_TEXT, *encode(pair["prompt"] + "\n")],
                    )
                )
    return questions
