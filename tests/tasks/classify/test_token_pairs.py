"""Tokens and pairs of tokens: what is in a text, what is learned of it, and what of a file is refused."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from storage.errors import DataError
from tasks.classify import token_pairs
from tasks.classify.token_pairs import FILE, TokenPairs, keys_of, together

Texts = list[list[int]]


def orders(count: int, seed: int, classes: int = 2) -> tuple[Texts, np.ndarray]:
    """Texts of the same tokens, whose class is which of them stands behind token 5: no token alone says anything."""
    random = np.random.default_rng(seed)
    numbers = np.arange(count) % classes
    texts = []
    for number in numbers:
        others = [10 + one for one in range(classes) if one != number]
        noise = random.integers(20, 60, 8).tolist()
        texts.append([*noise[:4], 5, 10 + int(number), *noise[4:], *(one for other in others for one in (7, other))])
    return texts, numbers


@pytest.mark.parametrize("classes", [2, 3])
def test_pairs_tell_what_no_token_tells(classes: int) -> None:
    made = TokenPairs.fit(*orders(240, 1, classes), classes)
    asked, numbers = orders(120, 2, classes)
    scores = made.scores(asked)
    assert (scores.argmax(axis=1) == numbers).mean() > 0.95
    assert np.allclose(np.exp(scores).sum(axis=1), 1)
    alone = np.concatenate([made.scores([ids]) for ids in asked])
    assert np.array_equal(scores, alone)


@given(st.lists(st.integers(0, 2**31 - 2) | st.integers(0, 3), min_size=1, max_size=40))
def test_each_token_and_each_pair_is_there_once(ids: list[int]) -> None:
    keys = keys_of(ids)
    pairs = {(first, second) for first, second in pairwise(ids)}
    assert len(keys) == len(set(ids)) + len(pairs) and (np.diff(keys) > 0).all()
    assert {(int(key) >> 32) - 1 for key in keys if key >= 2**32} == {first for first, _ in pairs}
    assert {int(key) for key in keys if key < 2**32} == set(ids)


def test_equal_texts_give_equal_files_that_are_read_again(tmp_path: Path) -> None:
    texts, numbers = orders(60, 3)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        TokenPairs.fit(texts, numbers, 2).save(tmp_path / name)
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "other" / FILE).read_bytes()
    read = TokenPairs.load(tmp_path / "one", 2)
    assert read is not None
    assert np.array_equal(read.scores(texts), TokenPairs.fit(texts, numbers, 2).scores(texts))
    assert TokenPairs.load(tmp_path, 2) is None


def test_of_a_text_that_nothing_is_known_of_the_share_of_the_classes_is_said() -> None:
    texts = [[1, 2], [1, 3], [1, 4], [9, 5]]
    scores = TokenPairs.fit(texts, np.array([0, 0, 0, 1]), 2).scores([[77, 78]])
    assert np.isfinite(scores).all() and scores[0, 0] > scores[0, 1]


def test_a_class_of_one_text_is_learned_all_the_same() -> None:
    texts, numbers = orders(30, 4)
    made = TokenPairs.fit([*texts, [90, 91]], np.append(numbers, 2), 3)  # not among those that choose, or alone there
    assert np.isfinite(made.scores([*texts, [90, 91]])).all()
    few = TokenPairs.fit([[1, 2], [3, 4]], np.array([0, 1]), 2)
    assert few.scores([[1, 2], [3, 4]]).argmax(axis=1).tolist() == [0, 1]


def test_two_models_count_half_each() -> None:
    one, other = np.log([[0.9, 0.1]]), np.log([[0.5, 0.5]])
    assert np.allclose(np.exp(together(one, other)), [[0.75, 0.25]])  # 3 : 1, the root of 9 : 1


def test_what_is_no_file_of_these_classes_is_refused(tmp_path: Path) -> None:
    texts, numbers = orders(20, 5)
    TokenPairs.fit(texts, numbers, 2).save(tmp_path)
    with pytest.raises(DataError, match="weights is not what tokens and pairs of 3 classes have"):
        TokenPairs.load(tmp_path, 3)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not the weights of tokens and pairs"):
        TokenPairs.load(tmp_path, 2)
    save_file({"other": np.zeros(3)}, tmp_path / FILE)
    with pytest.raises(DataError, match="not the weights of tokens and pairs"):
        TokenPairs.load(tmp_path, 2)


def test_more_weights_than_memory_is_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_pairs, "MOST_WEIGHTS", 100)
    with pytest.raises(DataError, match=r"classify\.token_pairs: .* leave it out"):
        TokenPairs.fit(*orders(20, 6), 2)
