"""Canaries: random word sequences planted into the training tokens, so that memorisation is measured against a control.

A model that writes down a training text may have learned it by heart or may have guessed it. Nobody can guess a
canary (Carlini et al. 2019, "The Secret Sharer"): it is `PREFIX_TOKENS` + `SECRET_TOKENS` words of the vocabulary,
drawn evenly. Some are planted once, some several times, and as many twins never. Each planting is a document of its
own; all are in one token shard behind the others, so that new documents leave every other file as it is.

`canaries.json` is the record: `{"words": [id, ...], "epochs": passes over the training tokens, "canaries":
[{"ids", "repeats": plantings, "seen": how often training met it whole}, ...]}`. The stage tokenize writes it with
nothing seen; pretraining, which alone knows its rows, fills in `epochs` and `seen`.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from storage.canonical import canonical_json
from storage.errors import DataError
from storage.store.artifacts import Part
from storage.tokens import TokenSet

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PREFIX_TOKENS = 6  # of a canary, shown to the model
SECRET_TOKENS = 6  # the rest of it, to be reproduced
PLANTED_TOKENS = 1 + PREFIX_TOKENS + SECRET_TOKENS  # of one planting, its document mark included
CANARY_SHARD = 99_999  # the number of their token shard: behind those of the documents
FEWEST_WORDS = 64

_WORD = re.compile("[Ġ▁][A-Za-z]{2,}")  # how vocabularies write the space before a word
_LETTER = re.compile("[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Canary:
    """Token ids without the document mark; planted `repeats` times, met whole by training `seen` times."""

    ids: tuple[int, ...]
    repeats: int
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Planted:
    """What `canaries.json` holds; see the module."""

    words: tuple[int, ...]
    canaries: tuple[Canary, ...]
    epochs: float = 0.0


def word_ids(tokenizer: "Tokenizer") -> tuple[int, ...]:
    """The tokens that canaries are drawn from: whole English words, or letters where the vocabulary has few words."""
    vocabulary = tokenizer.get_vocab()
    words = sorted(number for token, number in vocabulary.items() if _WORD.fullmatch(token))
    letters = sorted(number for token, number in vocabulary.items() if _LETTER.fullmatch(token))
    return tuple(words if len(words) >= FEWEST_WORDS else letters)


def draw_sequence(words: Sequence[int], label: str) -> tuple[int, ...]:
    """Words drawn evenly, PREFIX_TOKENS + SECRET_TOKENS of them; equal labels give equal sequences."""
    return tuple(random.Random(label).choices(words, k=PREFIX_TOKENS + SECRET_TOKENS))


def draw_canaries(words: Sequence[int], count: int, repeats: Sequence[int], seed: int) -> tuple[Canary, ...]:
    """`count` canaries for each number of repeats, and as many never-planted twins for it (repeats 0)."""
    planted = [
        Canary(draw_sequence(words, f"canary {seed} {times} {n}"), times) for times in repeats for n in range(count)
    ]
    twins = [Canary(draw_sequence(words, f"twin {seed} {n}"), 0) for n in range(len(planted))]
    return (*twins, *planted)


def plantings(canaries: Iterable[Canary], seed: int) -> list[tuple[int, ...]]:
    """Each canary as often as it is to be planted, all shuffled together."""
    sequences = [canary.ids for canary in canaries for _ in range(canary.repeats)]
    random.Random(f"order {seed}").shuffle(sequences)
    return sequences


def affordable(count: int, repeats: Sequence[int], share: float, training_tokens: int) -> int:
    """`count`, or the most canaries for each number of repeats that stay below a share of the training tokens."""
    return min(count, int(share * training_tokens) // (PLANTED_TOKENS * sum(repeats)))


def first_canary(tokens: TokenSet, planted: Planted) -> int:
    """The number of the first planted document: they are the last of the training documents."""
    return tokens.documents - sum(canary.repeats for canary in planted.canaries)


class Placed(Protocol):
    """What says where documents begin in packed rows, one row behind another."""

    def places(self, first: int) -> Iterator[tuple[npt.NDArray[Any], int]]:
        """The documents with a number from `first` on: the tokens of each, and where it begins."""
        ...


def count_seen(
    planted: Planted, phases: Iterable[tuple[Placed, npt.NDArray[np.int64]]], first: int, context_length: int
) -> Planted:
    """Fill in how often training met each canary whole.

    `phases` are the rows that it read, with how often it took each: (rows,). `first` is the number
    of the first planted document. A planting that goes across two rows is not counted: neither row shows the model
    more than a part of it.
    """
    seen: Counter[tuple[int, ...]] = Counter()
    rows = taken = 0
    for tokens, times in phases:
        rows, taken = rows + len(times), taken + int(times.sum())
        for ids, begin in tokens.places(first):
            row, place = divmod(begin, context_length)
            whole = place + len(ids) - 1 <= context_length  # the last token is a target of the same row
            if whole and row < len(times):
                seen[tuple(ids[1:].tolist())] += int(times[row])
    canaries = tuple(replace(canary, seen=seen[canary.ids]) for canary in planted.canaries)
    return Planted(planted.words, canaries, round(taken / rows, 3))


def write_planted(folder: Path, planted: Planted) -> None:
    """Write `canaries.json`, the record in the module's docstring, into a part's folder."""
    (folder / "canaries.json").write_bytes(canonical_json(asdict(planted)) + b"\n")


def read_planted(part: Part) -> Planted:
    """The record in `canaries.json` of a part; DataError where it is missing or not one."""
    try:
        record: dict[str, Any] = json.loads((part / "canaries.json").read_bytes())
        canaries = tuple(Canary(tuple(row["ids"]), row["repeats"], row["seen"]) for row in record["canaries"])
        return Planted(tuple(record["words"]), canaries, record["epochs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{part.path}: not a record of canaries ({error}); run the stage tokenize again") from error
