"""Shingle hashes say the same of documents as sets of word tuples do."""

import re
import unicodedata

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from support import cost_in_loops

from tasks.deduplicate.shingles import INVISIBLE, batches, encode, normalise, shingle, shingle_sets
from tasks.deduplicate.similarity import jaccard
from tasks.words import spaced

WORDS = st.lists(st.sampled_from(["a", "b", "cd", "Ef", "_g", "7", "x1", "été"]), max_size=30)
GAPS = st.lists(st.sampled_from([" ", "\n", ", ", "... ", " - ", "“", "—", "\u00a0"]), min_size=30, max_size=30)
TEXTS = st.builds(lambda words, gaps: "".join(f"{w}{g}" for w, g in zip(words, gaps, strict=False)), WORDS, GAPS)


def reference(text: str, width: int = 5) -> set[tuple[str, ...]]:
    """Word n-grams as Python sets; a short text is one shingle, equal for texts equal but for case and spaces."""
    words = re.findall(r"\w+", text.lower())
    if len(words) < width:
        return {("short", " ".join(text.lower().split()))}
    return {tuple(words[start : start + width]) for start in range(len(words) - width + 1)}


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_sets_of_hashes_have_the_sizes_and_similarities_of_sets_of_words(texts: list[str]) -> None:
    sets = list(shingle_sets(texts, 5))
    expected = [reference(text) for text in texts]
    assert [len(found) for found in sets] == [len(words) for words in expected]
    for found, words in zip(sets, expected, strict=True):
        assert jaccard(found, sets[0]) == len(words & expected[0]) / len(words | expected[0])


@settings(max_examples=50, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=6))
def test_a_document_has_the_same_hashes_alone_and_in_a_batch(texts: list[str]) -> None:
    hashes, starts = shingle(encode(texts), 5)
    for text, piece in zip(texts, np.split(hashes, starts[1:]), strict=True):
        assert piece.tolist() == shingle(encode([text]), 5).hashes.tolist()


def test_hashes_do_not_depend_on_the_place_in_a_long_document() -> None:
    sentence = "the quick brown fox jumps"
    filler = " ".join(f"w{number}" for number in range(30_000))
    (alone,), (long,) = shingle_sets([sentence], 5), shingle_sets([f"{filler} {sentence}"], 5)
    assert alone[0] in long
    assert len(long) == 30_001


def test_similar_words_do_not_collide() -> None:
    words = [f"{first}{second}" for first in "abcdefghijklmnopqrstuvwxyz" for second in "abcdefghijklmnopqrstuvwxyz"]
    hashes = shingle(encode([" ".join(words)]), 1).hashes
    assert len(np.unique(hashes)) == len(words)
    assert len(np.unique(hashes >> np.uint64(32))) == len(words)
    lowest_bits = np.bincount((hashes & np.uint64(7)).astype(int), minlength=8)
    assert lowest_bits.min() > 50, "a polynomial's low bits are poor: they must be mixed"


def test_typographic_punctuation_separates_words_and_letters_of_other_scripts_do_not() -> None:
    plain, typographic = 'say "yes" - or no - to all that', "say “yes” — or no — to all that"
    assert shingle(encode([plain]), 5).hashes.tolist() == shingle(encode([typographic]), 5).hashes.tolist()
    assert len(shingle(encode(["один два три четыре пять шесть"]), 5).hashes) == 2


def test_composed_and_decomposed_letters_are_equal() -> None:
    assert encode(["caf\u00e9"]).texts == encode(["Cafe\u0301"]).texts


def compared(text: str) -> bytes:
    """The form of a text by its definition."""
    text = unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).lower()
    return " ".join(spaced(text).split()).encode()


@given(st.text(alphabet=" \n\tAbé.\u00a0\u3000", max_size=12))
def test_one_space_is_left_between_runs(text: str) -> None:
    assert encode([text]).texts == [" ".join(text.lower().split()).encode()]


def test_white_space_is_what_python_takes_for_it() -> None:
    for code in range(0x11000):
        if not 0xD800 <= code < 0xE000 and chr(code).isspace():
            assert encode([f"a{chr(code)}b"]).texts == [b"a b"], hex(code)


def test_batches_hold_every_text_once_in_order_and_stay_small() -> None:
    texts = ["x" * size for size in (3, 4, 5, 50, 1, 2)]
    cut = [batch.to_pylist() for batch in batches(pa.array(texts), 10)]
    assert [text for batch in cut for text in batch] == texts
    assert [sum(map(len, batch)) for batch in cut] == [7, 5, 50, 3]


ANY_TEXT = st.text(  # what the forms of texts differ in, in any order
    alphabet=st.one_of(
        st.sampled_from("aB_7 \t\n\r\x00\x1c\x7f.-"),
        st.sampled_from("éÉ\u0301\u00ad\u200b\ufeff\u00a0\u0085\u1680\u2028\u3000“—ﬁ™Ａİßς山水กंक\U000e0061\U0001d173𝔸"),
        st.characters(codec="utf-8"),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ANY_TEXT, max_size=6), st.integers(0, 3))
def test_a_batch_holds_the_form_of_each_text_by_itself(texts: list[str], offset: int) -> None:
    texts = texts[offset:]
    array = pa.array(["é before "] * offset + texts, pa.string()).slice(offset)
    assert encode(array).texts == [compared(text) for text in texts]


@settings(max_examples=300, deadline=None)
@given(st.lists(ANY_TEXT, max_size=6))
def test_words_of_any_script_and_length_are_told_apart(texts: list[str]) -> None:
    """By the definition in words: what is a word, and two words of a batch have one hash where they are equal."""
    texts = [*texts, *(text + "x" * size for text, size in zip(texts, (7, 8, 9, 64, 65, 200), strict=False))]
    found = [_words(compared(text).decode()) for text in texts]
    hashes, starts = shingle(encode(texts), 1)
    pieces = np.split(hashes, starts[1:]) if texts else []
    for words, piece in zip(found, pieces, strict=True):
        assert len(piece) == max(len(words), 1)
    known: dict[str, int] = {}
    for words, piece in zip(found, pieces, strict=True):
        known |= dict(zip(words, piece.tolist(), strict=False))
    assert len(set(known.values())) == len(known)
    for words, piece in zip(found, pieces, strict=True):
        assert not words or [known[word] for word in words] == piece.tolist()


def _words(text: str) -> list[str]:
    return re.findall("(?:[a-z0-9_]|[^\x00-\xbf\u2000-\u206f\u3000-\u303f])+", text)


def test_a_word_of_a_megabyte_costs_no_more_than_its_bytes() -> None:
    """A megabyte in one word takes as long as in many: some Python loops of 100,000 turns."""
    texts = ["".join(f"{number:x}" for number in range(200_000)), "x" * 1_000_000, "x" * 70 + " " + "x" * 71]
    assert cost_in_loops(lambda: shingle(encode(texts), 5)) < 10


def test_quotation_marks_make_english_little_dearer_to_compare() -> None:
    """A megabyte takes 1.4 Python loops of 100,000 turns; a look at each letter takes ten times as long."""
    text = "It’s a “quoted” sentence of plain English, and so on. " * 20_000
    assert cost_in_loops(lambda: normalise(text)) < 5


def test_every_character_by_itself_and_before_an_accent_has_its_form() -> None:
    """Most of these take the short way, which looks at no string."""
    characters = [chr(code) for code in range(0x80, 0x3100)]
    texts = [f"a{character}\u0301 b" for character in characters] + [f"a{character} b" for character in characters]
    assert encode(texts).texts == [compared(text) for text in texts]
