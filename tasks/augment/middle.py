"""Fill-in-the-middle after Bavarian et al. 2022 (arXiv 2207.14255): a text is cut at two places, and its middle is
learned after its ends, so that a model can be asked for what is missing between two texts.

The text stays whole in its row; where it is cut stands beside it (`Cut`), and the stage tokenize puts the parts in
order with the control tokens of the tokenizer (tasks/tokenize/fill_in.py). Cuts are drawn evenly among the borders of
grapheme clusters. A model sees a context's length at once, so a longer text is changed piece by piece; the paper does
the same with what it has packed into a context.
"""

import random
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from tasks.augment.changes import CLUSTER
from tasks.augment.config import Middle

PSM, SPM = "psm", "spm"  # which of the two ends comes first: the prefix, the suffix
LEAST_CLUSTERS = 8  # of a piece: of fewer there is nothing to learn


class Cut(NamedTuple):
    """A text, the characters where its middle begins and ends, and which of its ends comes first."""

    text: str
    first: int
    second: int
    form: str


def cuts_of(text: str, config: Middle, draw: random.Random) -> Iterator[Cut]:
    """The pieces of a text, each cut: together the text, or none where it is too short."""
    start = 0
    while start < len(text):
        borders = _borders(text, start, config.most_characters)
        if len(borders) <= LEAST_CLUSTERS:
            return
        first, second = sorted(borders[draw.randrange(len(borders))] for _ in range(2))
        form = SPM if draw.random() < config.suffix_first else PSM
        yield Cut(text[start : borders[-1]], first - start, second - start, form)
        start = borders[-1]


def _borders(text: str, start: int, most: int) -> list[int]:
    """Where the clusters of a piece end, after its start: so many characters at most, up to a white space in its second
    half, where there is one; more where the piece or what is left behind it would be too short to be one."""
    borders, last_space = [start], 0
    for found in CLUSTER.finditer(text, start):
        if found.end() - start > most and len(borders) > LEAST_CLUSTERS:
            borders = borders[:last_space] if last_space > max(len(borders) // 2, LEAST_CLUSTERS) else borders
            rest = [found.end() for found in islice(CLUSTER.finditer(text, borders[-1]), LEAST_CLUSTERS)]
            return borders if len(rest) == LEAST_CLUSTERS else borders + rest
        borders.append(found.end())
        last_space = len(borders) if found[0].isspace() else last_space
    return borders
