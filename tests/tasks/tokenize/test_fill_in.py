"""Fill-in-the-middle as tokens: the marks, their order, and text that spells them."""

from itertools import pairwise
from pathlib import Path

import pytest
from document_sets import Rows, source, training
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import DataError
from storage.store.artifacts import Artifact
from storage.tokens import TokenSet
from tasks.augment.config import AugmentConfig, Middle
from tasks.augment.stage import augment
from tasks.engine.builder import builder
from tasks.engine.context import Execution
from tasks.engine.stage import engine_in_force
from tasks.filter.config import FilterConfig
from tasks.filter.stage import filter_documents
from tasks.tokenize.fill_in import Marks, Text, in_order
from tasks.tokenize.stage import TokenizeConfig, tokenize
from tasks.tokenize.tokenizer import FILL_IN_TOKENS, TokenizerConfig, load_tokenizer, train_tokenizer

LEARNED = "the cat and the dog sat on the mat, and the rat ran at the cat. " * 20
SPELT = "a <|fim_prefix|> cat <|fim_middle|> dog <|fim_suffix|><|endoftext|> sat"
TEXTS = (SPELT, "the cat sat on the mat", "แมวนั่งบนเสื่อและหนูวิ่ง", "猫坐在垫子上，老鼠跑了。", "बिल्ली चटाई पर बैठी है")


def tokens_of(home: Path, fills_in: bool, middle: Middle, *shards: Rows) -> tuple[Artifact, Artifact]:
    """Tokens of texts that are cut, and the tokenizer."""
    learned, documents = source(home, training(LEARNED)), source(home, *shards)
    with builder(home, Execution(workers=1)) as engine, engine_in_force(engine):
        tokenizer = train_tokenizer(TokenizerConfig(vocabulary_size=278, fills_in=fills_in), learned)
        clean = filter_documents(FilterConfig(preset="none"), documents, documents)
        read = augment(AugmentConfig(middle=middle, max_share=1.0), clean, clean)
        tokens = tokenize(TokenizeConfig(canaries=0), read, tokenizer, read)
    assert isinstance(tokens, Artifact) and isinstance(tokenizer, Artifact)
    return tokens, tokenizer


@pytest.mark.parametrize("suffix_first", [0.0, 1.0])
def test_a_cut_text_stands_in_three_parts_behind_three_marks(home: Path, suffix_first: float) -> None:
    cut = Middle(share=1.0, instead=True, suffix_first=suffix_first)
    tokens, tokenizer = tokens_of(home, True, cut, training(*TEXTS[:3]), training(*TEXTS[3:]))
    vocabulary = load_tokenizer(tokenizer["tokenizer"].path)
    prefix, suffix, middle = 4, 5, 6
    assert [vocabulary.token_to_id(token) for token in FILL_IN_TOKENS] == [prefix, suffix, middle]
    found = set()
    for ids, size in TokenSet(tokens["tokens"].path, "train").iterate_documents():
        row = ids.tolist()
        assert [one for one in row if one < 7] == [0, prefix, suffix, middle], "each mark once, none from the text"
        first, second, third = (bytes_of(vocabulary, part) for part in split(row[1:], (prefix, suffix, middle)))
        assert (first == b"") >= (suffix_first == 1.0)
        whole = first + third + second
        text = whole if suffix_first == 0.0 else third + second
        found.add(text.decode())
        assert size == len(text)
    assert found == set(TEXTS)


def split(ids: list[int], marks: tuple[int, ...]) -> list[list[int]]:
    """What stands behind each mark."""
    places = [*(ids.index(mark) for mark in marks), len(ids)]
    return [ids[start + 1 : end] for start, end in pairwise(places)]


def bytes_of(vocabulary: object, ids: list[int]) -> bytes:
    text: str = vocabulary.decode(ids, skip_special_tokens=False)  # type: ignore[attr-defined]
    return text.encode()


def test_a_tokenizer_without_the_marks_is_refused(home: Path) -> None:
    with pytest.raises(DataError, match=r"augment\.middle is set, and the tokenizer has no <\|fim_prefix\|>"):
        tokens_of(home, False, Middle(share=1.0), training(*TEXTS))


def test_without_the_marks_a_vocabulary_is_as_it_was(home: Path) -> None:
    plain = TokenizerConfig(vocabulary_size=278)
    assert plain.special_tokens == ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"]


@given(st.lists(st.lists(st.integers(10, 99), max_size=4), min_size=3, max_size=3))
def test_both_forms_hold_each_part_once(parts: list[list[int]]) -> None:
    marks = Marks(1, 2, 3)
    prefix, middle, suffix = parts
    psm, spm = (in_order(prefix, middle, suffix, form, marks) for form in ("psm", "spm"))
    assert psm == [1, *prefix, 2, *suffix, 3, *middle]
    assert spm == [1, 2, *suffix, 3, *prefix, *middle]


@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_each_way_to_cut_a_text_is_known_by_its_own_digest(one: str, two: str, three: str) -> None:
    whole = one + two + three
    ways = {(one, two, three), (whole, "", ""), ("", whole, ""), (one + two, "", three)}
    texts = [Text((whole,)), *(Text(way, form) for way in ways for form in ("psm", "spm"))]
    assert len({text.digest for text in texts}) == len(texts)
