"""The words of texts with how often each is there, by one regular expression: the words that `tokenizers` splits.

Counting is most of the work of learning a vocabulary, so it is done by the library `regex`, three times as fast. Both
know the same patterns, and whatever Python's own tables know of Unicode they take for the same kind of character (the
tests ask each one). A text with a character that is newer than that is split by `tokenizers`.

Memory is bounded: where the different words have more than MOST_BYTES, be they many or long, the rarer half is
forgotten, and those that are as common as its commonest. What is forgotten and met again is counted from one, so the
counts of rare words can be too low, by how common the forgotten ones were each time (Manku and Motwani 2002,
"Approximate Frequency Counts over Data Streams"); how many occurrences were forgotten is said. Equal texts in equal
order give equal counts.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tasks.tokenize.splits import PATTERNS, SPLITS

MOST_BYTES = (
    18_000_000  # two million words of nine letters: 1.3 GB with the places of their pairs; 29 MB of English have 1
)
LOOK_CHARACTERS = 2_000_000  # of text between two looks at how many they are


@dataclass(frozen=True, slots=True)
class Words:
    """UTF-8 of each different word with how often it is there, and how many occurrences are not counted."""

    counts: dict[bytes, int]
    forgotten: int


def count_words(texts: Iterable[str], split: str, longest_bytes: int) -> Words:
    """Split texts into words, cut those that are longer, and count them."""
    words_of = splitter(split)
    counts, forgotten, unseen = Counter[str](), 0, 0
    for text in texts:
        counts.update(words_of(text))
        unseen += len(text)
        if unseen > LOOK_CHARACTERS:
            unseen, before = 0, counts.total()
            while sum(len(word.encode()) for word in counts) > MOST_BYTES:
                counts = _commoner_half(counts)
            forgotten += before - counts.total()
    cut: dict[bytes, int] = {}
    while counts:
        word, count = counts.popitem()
        whole = word.encode()
        for start in range(0, len(whole), longest_bytes):
            part = whole[start : start + longest_bytes]
            cut[part] = cut.get(part, 0) + count
    return Words(cut, forgotten)


def _commoner_half(counts: Counter[str]) -> Counter[str]:
    fewest = sorted(counts.values())[len(counts) // 2] + 1
    return Counter({word: count for word, count in counts.items() if count >= fewest})


def splitter(split: str) -> Callable[[str], list[str]]:
    """What splits a text into the words that `tokenizers` makes of it."""
    import regex
    from tokenizers import Regex, pre_tokenizers

    find_all = regex.compile(PATTERNS[split], regex.V1).findall
    steps = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in SPLITS[split]]
    by_library = pre_tokenizers.Sequence(steps)
    known: set[str] = set()

    def words_of(text: str) -> list[str]:
        if not text.isascii():
            unseen = set(text) - known
            if any(unicodedata.category(character) == "Cn" for character in unseen):
                return [word for word, _ in by_library.pre_tokenize_str(text)]
            known.update(unseen)
        words: list[str] = find_all(text)
        return words

    return words_of
