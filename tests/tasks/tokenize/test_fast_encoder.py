"""The fast encoder has the ids of `tokenizers`, whatever the text, or there is none."""

import json
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from support import shared_data
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from tasks.tokenize import tokenizer as encoding
from tasks.tokenize.fast_encoder import byte_letters, fast_encoder
from tasks.tokenize.splits import PATTERNS, SPLITS
from tasks.tokenize.tokenizer import FEW_CHARACTERS, PIECE_CHARACTERS, TokenizerConfig, encode, learn, pieces

AROUND = (
    *("{0}", "a{0}b", " {0}", "{0} ", "{0}{0}", "1{0}2", "カ{0}カ", "\n{0}\n", "!{0}x", "  {0}", "'{0}", "{0}{0}k"),
    *("\x00{0}\x00a", "の{0}\x01\x01b", "{0}\u3099a", "\u30fb{0}\u30fb", "'{0}s", "'R{0} 'l{0}"),
)
ODD = "aZé\u0301ſ ß'sLl09²½ \t\n\r\x0b\x85\u00a0\u2028\u200d\x00\x07\ufeff.,-_!?#$—“"
ODD += "中カ\u3099\u30fb\u3040हि्ทย์ำ👍🏽\U000e0001\ue000\U0010ffff"
TEXTS = [
    "it's 12345 cats\n",
    "हिन्दी में लिखा ",
    "น้ำใสๆ ไหล ",
    "Straße für Äpfel ",
    "中文字カタカナの ",
    "def f(x):\n    return x\n\n",
]


def alphabet() -> dict[int, str]:
    return {byte: letter for letter, byte in byte_letters().items()}


def split_by(split: str) -> Any:
    steps = [pre_tokenizers.Split(Regex(one), behavior="isolated") for one in SPLITS[split]]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def of_merges(*merges: tuple[str, str], split: str = "gpt-2", **settings: Any) -> Tokenizer:
    """A tokenizer of all bytes and these merges, in their order."""
    vocabulary = {letter: byte for byte, letter in alphabet().items()}
    for first, second in merges:
        vocabulary.setdefault(first + second, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges), **settings))
    tokenizer.pre_tokenizer = split_by(split)
    tokenizer.encode_special_tokens = True
    return tokenizer


def of_all_pairs(split: str) -> Tokenizer:
    """A tokenizer that joins any two bytes, so that another border of words gives other ids."""
    letters = alphabet().values()
    return of_merges(*((first, second) for first in letters for second in letters), split=split)


def check_splits(split: str, characters: list[str]) -> None:
    tokenizer = of_all_pairs(split)
    fast = fast_encoder(tokenizer)
    assert fast is not None
    for character in characters:
        texts = [around.format(character) for around in AROUND]
        expected = [one.ids for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        assert [fast.encode_ordinary(text) for text in texts] == expected, f"U+{ord(character):04X}"


@pytest.mark.parametrize("split", PATTERNS)
def test_each_kind_of_character_is_split_alike(split: str) -> None:
    """Some characters of each general category from all over Unicode, and the neighbours of the ranges in patterns."""
    kinds: dict[str, list[str]] = {}
    for character in map(chr, range(0x110000)):
        kinds.setdefault(unicodedata.category(character), []).append(character)
    del kinds["Cs"]
    some = [character for kind in kinds.values() for character in kind[:: max(1, len(kind) // 6)]]
    edges = [chr(edge + step) for edge in (0x3040, 0x309F, 0x30A0, 0x30FF, 0x4E00, 0x9FA5) for step in (-1, 0, 1)]
    check_splits(split, [*some, *edges, *ODD])


@pytest.mark.slow
@pytest.mark.parametrize("split", PATTERNS)
def test_each_character_of_unicode_is_split_alike(split: str) -> None:
    planes = [*range(0xD800), *range(0xE000, 0x20000), *range(0x20000, 0xE0000, 64), *range(0xE0000, 0xE0200)]
    check_splits(split, [chr(number) for number in planes])


@pytest.mark.parametrize("split", SPLITS)
def test_any_text_has_the_same_ids(split: Any) -> None:
    tokenizer = learn(TokenizerConfig(vocabulary_size=380, split=split), [*TEXTS * 9, ODD * 3, "aaa aaaa aaaaa " * 4])
    fast = fast_encoder(tokenizer)
    assert fast is not None

    @given(st.lists(st.one_of(st.text(ODD), st.sampled_from(TEXTS), st.text(), st.text("a", max_size=9))).map("".join))
    def same_ids(text: str) -> None:
        assert fast.encode_ordinary(text) == tokenizer.encode(text, add_special_tokens=False).ids

    same_ids()


@pytest.mark.parametrize("split", PATTERNS)
@pytest.mark.parametrize("unit", [" ", "\n", "\t", " \n", "a", "1", "!", "\x00", "中", "カ", "\u3099", "\u3040", "é "])
def test_a_piece_without_a_break_has_the_same_ids(split: str, unit: str) -> None:
    """As long as a text is that is encoded at once: a longer run of white space makes tiktoken give up."""
    tokenizer = of_merges(("Ġ", "Ġ"), ("ĠĠ", "ĠĠ"), ("a", "a"), split=split)
    fast = fast_encoder(tokenizer)
    assert fast is not None
    text = (unit * PIECE_CHARACTERS)[: PIECE_CHARACTERS - 1] + "x"
    assert fast.encode_ordinary(text) == tokenizer.encode(text, add_special_tokens=False).ids


OTHERS = {
    "one token of two merges": of_merges(("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")),
    "a token whose text encodes otherwise": of_merges(("b", "c"), ("a", "b"), ("ab", "c")),
    "dropout": of_merges(("a", "b"), dropout=0.1),
    "a word that is a token is left whole": of_merges(("a", "b"), ignore_merges=True),
}


@pytest.mark.parametrize("what", OTHERS)
def test_merges_that_it_would_take_otherwise_are_left_to_the_library(what: str) -> None:
    assert fast_encoder(of_merges(("a", "b"), ("ab", "c"))) is not None
    assert fast_encoder(OTHERS[what]) is None


def test_merges_out_of_the_order_of_ids_are_left_to_the_library() -> None:
    about = json.loads(of_merges(("a", "b"), ("b", "c")).to_str())
    about["model"]["merges"].reverse()
    assert fast_encoder(Tokenizer.from_str(json.dumps(about))) is None


def test_whatever_else_changes_ids_is_left_to_the_library() -> None:
    def with_(**parts: Any) -> Tokenizer:
        tokenizer = of_merges(("a", "b"))
        for name, part in parts.items():
            setattr(tokenizer, name, part)
        return tokenizer

    added, cut, padded = with_(), with_(), with_()
    added.add_tokens([AddedToken("abba", special=False)])
    cut.enable_truncation(8)
    padded.enable_padding(length=8)
    others = [
        with_(normalizer=normalizers.NFC()),
        with_(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
        with_(pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Digits(), split_by("gpt-2")])),
        with_(pre_tokenizer=pre_tokenizers.Whitespace()),
    ]
    for other in (added, cut, padded, *others):
        assert fast_encoder(other) is None
    assert fast_encoder(with_(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False))) is not None


def test_much_text_has_the_ids_of_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents of all lengths, one longer than a piece: by the fast encoder and without it."""
    tokenizer = learn(TokenizerConfig(vocabulary_size=300), [*TEXTS * 9])
    texts = ["".join(TEXTS[: number % 7]) * number for number in range(120)] + ["".join(TEXTS) * 5_000, "", "a"]
    assert len(texts[-3]) > PIECE_CHARACTERS and sum(map(len, texts)) > 2 * FEW_CHARACTERS
    found = list(encode(tokenizer, texts))
    with monkeypatch.context() as patch:
        patch.setattr(encoding, "FEW_CHARACTERS", 1 << 60)
        expected = list(encode(tokenizer, texts))
    assert [size for _, size in found] == [size for _, size in expected]
    for (ids, _), (others, _) in zip(found, expected, strict=True):
        assert np.array_equal(ids, others)
    whole = [one for piece in pieces(texts[-3], 10_000) for one in tokenizer.encode(piece).ids]
    assert np.array_equal(found[-3][0], whole)


@pytest.mark.slow
def test_real_text_in_many_languages_has_the_same_ids() -> None:
    """All corpora, 117 MB of 7,867 texts, by a tokenizer that was learned from the first of each."""
    corpora = sorted(Path(shared_data("corpus")).glob("*.jsonl.zst"))
    first = (piece for path in corpora for text in islice(texts_of(path), 40) for piece in pieces(text, 1 << 16))
    tokenizer = learn(TokenizerConfig(vocabulary_size=8192), first)
    fast = fast_encoder(tokenizer)
    assert fast is not None and len(corpora) > 15
    for text in (text for path in corpora for text in texts_of(path)):
        for piece in pieces(text, PIECE_CHARACTERS):
            assert fast.encode_ordinary(piece) == tokenizer.encode(piece, add_special_tokens=False).ids


def texts_of(path: Path) -> Iterator[str]:
    """The texts of a corpus."""
    with zstandard.open(path, "rt", encoding="utf-8") as lines:
        yield from (json.loads(line)["text"] for line in lines)
