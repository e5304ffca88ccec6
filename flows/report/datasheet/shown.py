"""Texts as a datasheet shows them: documents are others', so nothing personal in them goes on.

What is replaced is what the filter looks for (tasks/filter/personal.py), whatever the recipe asks the filter for. It
knows no names of people.
"""

import re
from functools import lru_cache
from typing import Any

from storage.addresses import redacted
from tasks.filter.personal import without_personal_data
from tasks.wording import clipped

EXAMPLE_CHARACTERS = 320
READ_CHARACTERS = 65_536  # of a text, far more than is shown: what is cut in two is not recognised
CUT = "..."
_DIGEST = re.compile(r"[0-9a-f]{12,64}")
_WORD_AT_END = re.compile(r"[!-~]*$")  # ASCII: so an address ends that begins in Chinese text
_DIGITS_AT_END = re.compile(r"[\s0-9()+./\-\u2010-\u2013]*$")


def example_text(text: str) -> str:
    """The beginning of a whole text on one line."""
    read = text[:READ_CHARACTERS]
    read = read if len(read) == len(text) else f"{read}{CUT}"
    parted = without_personal_data(read)  # a line at a time, and again as one: either may show what the other hides
    return clipped(without_personal_data(" ".join(parted.split())), EXAMPLE_CHARACTERS)


@lru_cache(maxsize=16_384)  # shards have the same names in all parts
def short_text(text: str) -> str:
    """A text that a stage has perhaps shortened: its last word, or number, may be half of something personal."""
    if _DIGEST.fullmatch(text):
        return text
    if text.endswith(CUT):
        whole = _DIGITS_AT_END.sub("", _WORD_AT_END.sub("", text.removesuffix(CUT)))
        text = f"{whole} {CUT}" if whole else CUT
    return without_personal_data(redacted(text))


def short_texts(value: Any) -> Any:
    """The same of every text in a JSON value; names of fields stay."""
    if isinstance(value, str):
        return short_text(value)
    if isinstance(value, dict):
        return {name: short_texts(inner) for name, inner in value.items()}
    return [short_texts(inner) for inner in value] if isinstance(value, list) else value
