"""A text cut into what is judged at once: sentences, as an answer grows, and passages of a whole text.

A sentence ends with an end mark of any script (`tasks/words.py`), with an empty line, or where it would have more than
MOST_CHARACTERS, at its last white space. Whether it ends there depends on the text alone, never on the pieces that the
text comes in: an end is only taken once the character behind it is there.
"""

import re
from collections.abc import Iterator

from tasks.words import sentence_end

MOST_CHARACTERS = 1000  # of a sentence: code has few end marks, and somebody waits for it
PASSAGE_CHARACTERS = 400  # that a classifier reads at once: it has learned from short texts
_EMPTY_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_LAST_SPACE = re.compile(r"\s(?=\S*\Z)")


def next_end(text: str, start: int = 0) -> int | None:
    """Where the sentence that begins at `start` has ended; None while more of the text may belong to it.

    No more than the longest sentence is looked at, so that a text of nothing but end marks costs no more than others.
    """
    first, latest = max(0, start - 1), start + MOST_CHARACTERS  # a Thai end is known by the letter before
    window = text[first : latest + 1]
    end = sentence_end(window, start - first)
    if end == start - first:  # the space behind a Thai sentence, which ended the one before
        end = sentence_end(window, end + 1)
    line = _EMPTY_LINE.search(window, start - first)
    end = first + min(len(window) if end is None else end, line.end() if line else len(window))
    if end < len(text) and end <= latest:
        return end
    if len(text) <= latest:
        return None
    space = _LAST_SPACE.search(text, start, latest)
    return space.end() if space and space.start() > start else latest


def sentences_of(text: str) -> Iterator[str]:
    """All sentences of a text, which together are the text."""
    start = 0
    while (end := next_end(text, start)) is not None:
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def passages_of(text: str) -> Iterator[str]:
    """Whole sentences together, up to PASSAGE_CHARACTERS where they are shorter; a short text as it is."""
    if len(text) <= PASSAGE_CHARACTERS:
        yield text
        return
    passage = ""
    for sentence in sentences_of(text):
        if passage and len(passage) + len(sentence) > PASSAGE_CHARACTERS:
            yield passage
            passage = ""
        passage += sentence
    yield passage
