"""The tokenizer: user text never becomes a special token, any text comes back, equal text gives equal bytes."""

import json
from pathlib import Path

import pytest
from document_sets import run, training
from hypothesis import given
from hypothesis import strategies as st

from storage.documents import HELDOUT
from storage.errors import DataError
from tasks.tokenizer import (
    SPECIAL_TOKENS,
    TokenizerConfig,
    bytes_per_token,
    encode,
    learn,
    load_tokenizer,
    save_tokenizer,
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
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_special_tokens_have_the_first_ids(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]
    assert tokenizer.get_vocab_size() == 275


@given(text=st.text(max_size=60))
def test_any_text_comes_back(folder: Path, text: str) -> None:
    tokenizer = load_tokenizer(folder)
    ((ids, size),) = encode(tokenizer, [text])
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert size == len(text.encode())


def test_the_split_is_gpt2s(folder: Path) -> None:
    saved = json.loads((folder / "tokenizer.json").read_text())
    assert saved["pre_tokenizer"] == {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pre_tokenizer is not None
    pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str("it's 42 cats\n")]
    assert pieces == ["it", "'s", "Ġ42", "Ġcats", "Ċ"]


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


def test_a_tokenizer_with_other_special_tokens_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace("<|user|>", "<|human|>"))
    with pytest.raises(DataError, match="special tokens"):
        load_tokenizer(tmp_path)
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
