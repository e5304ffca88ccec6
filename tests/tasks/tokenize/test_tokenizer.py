"""The tokenizer: user text never becomes a special token, any text comes back, equal text gives equal bytes."""

import json
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from document_sets import run, training
from hypothesis import given
from hypothesis import strategies as st
from open_models import write_llama_2
from support import ROOT
from tiny_model import make_text

from storage.documents import HELDOUT, TRAIN, Document, write_documents
from storage.errors import DataError
from tasks.tokenize.splits import SPLITS, split_name
from tasks.tokenize.stage import tokenize_shard
from tasks.tokenize.tokenizer import (
    PIECE_CHARACTERS,
    SPECIAL_TOKENS,
    TokenizerConfig,
    bytes_per_token,
    encode,
    learn,
    load_tokenizer,
    pieces,
    save_tokenizer,
    token_ids,
    train_tokenizer,
)

SMALL = TokenizerConfig(vocabulary_size=275)
TEXT = "the cat and the dog sat on the mat, and the rat ran at the cat. " * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(learn(SMALL, [TEXT]), path)
    return path


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
@pytest.mark.parametrize("around", ["{}", "a{}b", " {} ", "{0}{0}", "<|{}|>"])
def test_text_that_spells_a_special_token_is_only_text(folder: Path, token: str, around: str) -> None:
    tokenizer = load_tokenizer(folder)
    text = around.format(token)
    for ids in (tokenizer.encode(text).ids, next(encode(tokenizer, [text]))[0]):
        assert not set(ids) & set(range(len(SPECIAL_TOKENS)))
        assert tokenizer.decode(list(map(int, ids)), skip_special_tokens=False) == text


def test_special_tokens_have_the_first_ids(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]
    assert tokenizer.get_vocab_size() == 275


@given(text=st.text(max_size=60))
def test_any_text_comes_back(folder: Path, text: str) -> None:
    tokenizer = load_tokenizer(folder)
    ((ids, size),) = encode(tokenizer, [text])
    assert tokenizer.decode(list(map(int, ids)), skip_special_tokens=False) == text
    assert size == len(text.encode())


SPLIT = {
    ("gpt-2", "it's 42 cats\n"): ["it", "'s", " 42", " cats", "\n"],
    ("deepseek-v3", "it's 12345 cats\n"): ["it", "'s", " ", "123", "45", " cats", "\n"],
    ("deepseek-v3", "हिन्दी में लिखा"): ["हिन्दी", " में", " लिखा"],
    ("deepseek-v3", "น้ำใสๆ ไหล"): ["น้ำใสๆ", " ไหล"],
    ("deepseek-v3", "Straße für Äpfel"): ["Straße", " für", " Äpfel"],
    ("llama-bpe", "I'LL see 12345 cats"): ["I", "'LL", " see", " ", "123", "45", " cats"],
    ("qwen2", "it's 123\n\n中文"): ["it", "'s", " ", "1", "2", "3", "\n\n", "中文"],
}


@pytest.mark.parametrize(("split", "text"), SPLIT)
def test_words_are_split_with_their_marks(split: Any, text: str, tmp_path: Path) -> None:
    save_tokenizer(learn(TokenizerConfig(vocabulary_size=275, split=split), [TEXT]), tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert split_name(json.loads((tmp_path / "tokenizer.json").read_text())) == split
    assert tokenizer.pre_tokenizer is not None
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in pieces] == SPLIT[split, text]


@pytest.mark.parametrize("unit", ["ACGT", " ", "ก", "中"])
def test_a_run_of_eight_mebibytes_without_a_break_is_learned_from_in_seconds(unit: str, home: Path) -> None:
    run_of_letters = (unit * (8 << 20))[: (8 << 20) // len(unit[0].encode())]
    started = time.process_time()
    run(home, train_tokenizer, SMALL, training(TEXT, run_of_letters))
    assert time.process_time() - started < 30, "CPU time: the square of the length would take hours"


@given(text=st.text("ab \n", max_size=200), characters=st.integers(1, 20))
def test_pieces_lose_nothing_and_are_short(text: str, characters: int) -> None:
    found = list(pieces(text, characters))
    assert "".join(found) == text
    assert all(0 < len(piece) <= characters for piece in found)


def test_tokenizing_a_thousand_shards_takes_no_more_memory_than_a_hundred(tmp_path: Path) -> None:
    words = ["".join(letters) for letters in product("abcdefgh", repeat=4)]
    save_tokenizer(learn(TokenizerConfig(vocabulary_size=4096), [" ".join(words * 2)]), tmp_path)
    shard = tmp_path / "00000.parquet"
    write_documents(shard, [Document(str(n), " ".join(words[n::40]), "s", "g", TRAIN) for n in range(4)])
    inputs = {"documents": shard, "tokenizer": tmp_path / "tokenizer.json"}
    (tmp_path / "out").mkdir()
    after: list[int] = []
    for number in range(1, 1001):
        tokenize_shard({"start": 0}, inputs, tmp_path / "out")
        if number in (100, 1000):
            after.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    assert after[1] - after[0] < 64 << 20, "with a tokenizer made for each shard it grew by 114 MB"


BREAKS = [
    "हिन्दी में ",
    "12345  a b, ",
    "it's so\n\n  ",
    "Straße für\t",
    "中文 字",
    "น้ำใสๆ ไหล",
    "x² _ y z.",
    "c  d e-",
    "I'LL go",
]


@pytest.mark.parametrize("split", SPLITS)
def test_pieces_have_the_tokens_of_the_whole(split: Any) -> None:
    tokenizer = learn(TokenizerConfig(vocabulary_size=300, split=split), ["".join(BREAKS) * 9])

    @given(st.lists(st.sampled_from(BREAKS), max_size=40), st.integers(30, 90))
    def same_tokens(texts: list[str], characters: int) -> None:
        text = "".join(texts)
        cut = [encoding.ids for encoding in tokenizer.encode_batch(list(pieces(text, characters)))]
        assert [one for ids in cut for one in ids] == tokenizer.encode(text).ids

    same_tokens()


def test_a_long_text_is_encoded_whole_and_in_its_place(folder: Path) -> None:
    text = (TEXT + " 中文 हिन्दी ") * (2 * PIECE_CHARACTERS // len(TEXT))
    tokenizer = load_tokenizer(folder)
    before, (ids, size), behind = encode(tokenizer, ["before", text, "behind"])
    assert list(ids) == token_ids(tokenizer, text) == tokenizer.encode(text).ids
    assert {type(one) for one in token_ids(tokenizer, text)} == {int}, "numpy's numbers are not JSON"
    assert size == len(text.encode())
    assert [before[0], behind[0]] == [tokenizer.encode(word).ids for word in ("before", "behind")]


def test_pieces_of_a_long_text_are_not_marked_as_beginnings(tmp_path: Path) -> None:
    """Llama 2's kind of tokenizer puts the mark of a space before whatever it is given."""
    tokenizer = load_tokenizer(write_llama_2(tmp_path))
    text = " ".join(make_text(number) for number in range(2 * PIECE_CHARACTERS // 700))
    assert len(text) > PIECE_CHARACTERS
    assert token_ids(tokenizer, text) == tokenizer.encode(text, add_special_tokens=False).ids


ENCODE_EIGHT_MEBIBYTES = """
import resource, sys
from pathlib import Path
from tasks.tokenize.tokenizer import encode, load_tokenizer
tokenizer = load_tokenizer(Path(sys.argv[1]))
list(encode(tokenizer, ["warm"]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(ids, _), = encode(tokenizer, ["ACGT" * (2 << 20)])
print(len(ids), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_run_of_eight_mebibytes_is_encoded_in_bounded_memory(folder: Path) -> None:
    command = [sys.executable, "-c", ENCODE_EIGHT_MEBIBYTES, str(folder)]
    tokens, kibibytes = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert tokens > 1 << 20
    assert kibibytes < 400 << 10, "at once it takes a gibibyte"


LEARN_FROM_ONE_DOCUMENT = """
import random, resource, sys
from itertools import product
from pathlib import Path
from document_sets import run, training
from tasks.tokenize.tokenizer import TokenizerConfig, train_tokenizer
words = ["".join(letters) for letters in product("abcdefgh", repeat=4)]
text = " ".join(random.Random(1).choices(words, k=1_200_000))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(Path(sys.argv[1]), train_tokenizer, TokenizerConfig(vocabulary_size=300), training(text))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_book_of_six_megabytes_is_learned_from_in_the_memory_of_a_page(home: Path) -> None:
    command = [sys.executable, "-c", LEARN_FROM_ONE_DOCUMENT, str(home)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert int(done.stdout) < 400 << 10, "whole it takes 740 MB"


def test_too_little_text_says_how_large_the_vocabulary_can_be() -> None:
    with pytest.raises(DataError, match=r"vocabulary of (\d+) tokens at most, not 4096.*tokenizer.vocabulary_size=\d+"):
        learn(TokenizerConfig(), ["a few words, a few words"])


def test_equal_text_gives_equal_bytes_in_any_order(tmp_path: Path) -> None:
    words = [f"{first}{second}ing " for first in "abcdefgh" for second in "stuvwxyz"] * 3
    written = []
    for number, texts in enumerate((words, words[::-1], sorted(words))):
        (tmp_path / str(number)).mkdir()
        save_tokenizer(learn(SMALL, texts), tmp_path / str(number))
        written.append((tmp_path / str(number) / "tokenizer.json").read_bytes())
    assert written[0] == written[1] == written[2]


def test_only_training_text_is_learned_from(home: Path) -> None:
    rows = [*training(TEXT), ("zyzzyva zyzzyva " * 200, HELDOUT)]
    artifact, summary = run(home, train_tokenizer, SMALL, rows)
    vocabulary = load_tokenizer(artifact["tokenizer"].path).get_vocab()
    assert "Ġthe" in vocabulary
    assert not any("zy" in token for token in vocabulary)
    assert summary["training_bytes"] == len(TEXT)
    assert summary["heldout_bytes_per_token"] > 0
    assert (summary["read"], summary["vocabulary_size"]) == (2, 275)


def test_a_byte_budget_takes_a_fixed_sample(home: Path) -> None:
    texts = [f"{TEXT} number {number}" for number in range(60)]
    config = TokenizerConfig(vocabulary_size=275, training_bytes=len(TEXT) * 20)
    _, summary = run(home, train_tokenizer, config, training(*texts))
    assert 0.5 < summary["training_bytes"] / (len(TEXT) * 20) < 1.5
    _, again = run(home, train_tokenizer, config, training(*texts[:30]), training(*texts[30:]))
    assert summary["training_bytes"] > again["training_bytes"] * 0.8


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="not a tokenizer"):
        load_tokenizer(tmp_path)


def test_bytes_per_token_counts_bytes_not_characters(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert bytes_per_token(tokenizer, ["é"]) == 1.0
    assert bytes_per_token(tokenizer, []) == 0.0


def test_transformers_gives_the_same_ids(folder: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(folder))
    text = "The cat's mat — and été."
    assert theirs(text, add_special_tokens=False)["input_ids"] == load_tokenizer(folder).encode(text).ids
    assert (theirs.eos_token, theirs.bos_token, theirs.pad_token) == (SPECIAL_TOKENS[0],) * 3
    assert theirs.chat_template is None
