"""What the classifier of moderation (tasks/linear.py) reads of a text.

A text is its tokens, the pairs of neighbours among them and the runs of 2 to 4 letters in them, so that a word that is
written otherwise is not a new one. Each is counted in one of 2**18 places by a hash of it.
"""

import math
import zlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from tasks.linear import PLACES, Row
from tasks.moderate.folding import folded, tokens

SHORTEST, LONGEST = 2, 4  # letters of a run


def features(text: str) -> Iterator[str]:
    """What a text is made of; the first character says of which kind."""
    read = tokens(folded(text))
    before = ""
    for token in read:
        yield f"w{token}"
        if before:
            yield f"p{before} {token}"
        before = token
        edged = f" {token} "
        for length in range(SHORTEST, LONGEST + 1):
            for start in range(len(edged) - length + 1):
                yield edged[start : start + length]


def row_of(text: str) -> Row:
    """The places of a text's features and their damped counts."""
    counts = Counter(zlib.crc32(feature.encode("utf-8", "surrogatepass")) % PLACES for feature in features(text))
    places = sorted(counts)
    damped = [1.0 + math.log(counts[place]) for place in places]
    return Row(np.array(places, np.int64), np.array(damped, np.float32))
