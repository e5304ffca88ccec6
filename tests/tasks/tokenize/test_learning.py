"""What is learned of text is what the trainer of `tokenizers` learns of it, byte for byte, whatever the text."""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import shared_data
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from benchmarks.library_bpe import by_library
from tasks.tokenize import words as counting
from tasks.tokenize.fast_encoder import byte_letters
from tasks.tokenize.merges import learn_merges
from tasks.tokenize.splits import SPLITS
from tasks.tokenize.tokenizer import TokenizerConfig, learn, pieces
from tasks.tokenize.words import count_words, splitter

TEXTS = [
    "it's 12345 cats, we'LL see\r\n\r\n  them",
    "हिन्दी में लिखा हुआ वाक्य। ",
    "น้ำใสๆ ไหลผ่านหมู่บ้าน ",
    "Straßenbau für Äpfel und Öl\u00a0— ",
    "春天来了，山上的花都开了カタカナの。",
    "👍🏽 👩\u200d👩\u200d👧 ok 🙂🙂 ",
    "def f(x):\n\treturn x**2  # ²\n\n",
    "aaaaaaa aaaa aa ababababab bababa \x00\x85\u2028",
    "\U0001fae8 \U0001faea \u1c89\u0cdc unknown\u0378 ",  # newer than Python's tables, and one that is nobody's
]


def assert_same(config: TokenizerConfig, texts: list[str]) -> None:
    """Equal files; what text there is decides how large the vocabulary can be."""
    theirs = by_library(config, texts)
    ours = learn(config.model_copy(update={"vocabulary_size": theirs.get_vocab_size()}), texts)
    assert ours.to_str(pretty=True) == theirs.to_str(pretty=True)


@pytest.mark.parametrize("split", SPLITS)
def test_any_text_gives_the_file_of_the_library(split: Any) -> None:
    parts = st.one_of(st.sampled_from(TEXTS), st.text("ab c1é中\n", max_size=12), st.text(max_size=8))

    @given(st.lists(st.lists(parts, max_size=6).map("".join), max_size=5), st.integers(261, 330), st.integers(1, 3))
    def same(texts: list[str], size: int, fewest: int) -> None:
        config = TokenizerConfig(vocabulary_size=size, split=split, min_frequency=fewest, longest_word_bytes=16)
        assert_same(config, texts)

    same()


ALPHABET = [bytes([byte]) for byte in range(256)]


@given(st.dictionaries(st.text("abc", min_size=1, max_size=12), st.integers(1, 4), max_size=8), st.integers(1, 3))
def test_merges_of_any_words_are_those_of_the_library(words: dict[str, int], fewest: int) -> None:
    """Few letters and counts: ties, runs, and texts that two merges make."""
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    letters = sorted(byte_letters(), key=byte_letters().__getitem__)
    trainer = trainers.BpeTrainer(vocab_size=293, min_frequency=fewest, initial_alphabet=letters, show_progress=False)
    theirs.train_from_iterator([" ".join([word] * count) for word, count in words.items()], trainer)
    found = learn_merges({word.encode(): count for word, count in words.items()}, ALPHABET, 293, fewest)
    made = [(found.tokens[first].decode(), found.tokens[second].decode()) for first, second in found.merges]
    model = json.loads(theirs.to_str())["model"]
    assert [list(merge) for merge in made] == model["merges"]
    assert {token.decode() for token in found.tokens[256:]} == {token for token in model["vocab"] if len(token) > 1}


AROUND = ("{0}", "a{0}b", " {0}", "{0} ", "{0}{0}", "1{0}2", "カ{0}カ", "\n{0}\n", "!{0}x", "'{0}", "の{0}\x01\x01b")


def check_splitter(split: str, characters: Iterable[str]) -> None:
    words_of = splitter(split)
    library = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(one), behavior="isolated") for one in SPLITS[split]])
    for character in characters:
        text = "\n\n".join(around.format(character) for around in AROUND)
        assert words_of(text) == [word for word, _ in library.pre_tokenize_str(text)], f"U+{ord(character):04X}"


@pytest.mark.parametrize("split", SPLITS)
def test_each_kind_of_character_is_split_as_the_library_does(split: str) -> None:
    kinds: dict[str, list[str]] = {}
    for character in map(chr, range(0x110000)):
        kinds.setdefault(unicodedata.category(character), []).append(character)
    del kinds["Cs"]
    check_splitter(split, [character for kind in kinds.values() for character in kind[:: max(1, len(kind) // 20)]])


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_each_character_of_unicode_is_split_as_the_library_does(split: str) -> None:
    planes = [*range(0xD800), *range(0xE000, 0x20000), *range(0x20000, 0xE0000, 64), *range(0xE0000, 0xE0200)]
    check_splitter(split, map(chr, planes))


def test_beyond_so_many_different_words_the_rare_ones_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The common ones keep their counts to within what was forgotten, and there are never many."""
    texts = [f"common often{number % 3} rare{number}x" for number in range(400)]
    true = Counter(word for text in texts for word in splitter("gpt-2")(text))
    monkeypatch.setattr(counting, "MOST_BYTES", 300)
    monkeypatch.setattr(counting, "LOOK_CHARACTERS", 0)
    found = count_words(texts, "gpt-2", 1024)
    assert sum(map(len, found.counts)) <= 300
    assert found.counts[b"common"] == true["common"] == 400
    assert all(true[word.decode()] >= count for word, count in found.counts.items())
    assert found.forgotten == true.total() - sum(found.counts.values()) > 0
    assert count_words(texts, "gpt-2", 1024) == found
    assert count_words(texts[:10], "gpt-2", 1024).forgotten == 0
    long = count_words(["x" * 250 + "\n", "y" * 250 + "\n", "common " * 3], "gpt-2", 1024)
    assert sum(map(len, long.counts)) <= 300, "few words are many bytes where they are long"


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_real_text_in_many_languages_gives_the_file_of_the_library(split: Any) -> None:
    import zstandard

    corpus = shared_data("corpus")
    texts: list[str] = []
    for name in ("books_de", "books_en", "docs_peps", "laws_de", "stories_multi", "udhr_multi", "wiki_multi"):
        with zstandard.open(Path(corpus) / f"{name}.jsonl.zst", "rt", encoding="utf-8") as lines:
            read = [json.loads(line)["text"] for _, line in zip(range(200), lines, strict=False)]
        texts += [piece for text in read for piece in pieces(text, 1 << 16)]
    assert_same(TokenizerConfig(vocabulary_size=16_384, split=split), texts)
