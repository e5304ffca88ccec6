"""What is new, what is old, and how much of each continued pretraining reads."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import artifact

from storage.store.artifacts import Part
from storage.token_order import Phase, read_order, write_order
from storage.tokens import TokenSet, write_token_meta, write_token_shard
from tasks.mix.pool import whole_documents
from tasks.retrain.config import ContinueConfig
from tasks.retrain.continuing import budget
from tasks.retrain.mixture import Mixture
from tasks.tokenize.canaries import CANARY_SHARD

VOCABULARY = 500
CANARY = (1,) * 12

Documents = Sequence[Sequence[int]]


def token_set(folder: Path, shards: Sequence[Documents]) -> Part:
    folder.mkdir(parents=True)
    write_token_meta(folder, VOCABULARY)
    for number, documents in [*enumerate(shards), (CANARY_SHARD, [CANARY] * 3)]:
        rows = [(ids, 3 * len(ids)) for ids in documents]
        if rows:
            write_token_shard(folder, "train", number, rows, VOCABULARY)
    return artifact("tokenize", tokens=folder)["tokens"]


def drawn(tokens: Part, order: Path) -> list[tuple[int, ...]]:
    """The pieces of the only phase, without document marks; the end of what is cut off is lacking."""
    [(share, phase)] = read_order(order, TokenSet(tokens.path, "train"))
    assert share == 1
    return [tuple(ids.tolist()[1:]) for ids, _ in phase.places(0)]


ids = st.lists(st.integers(2, VOCABULARY - 1), min_size=1, max_size=9).map(tuple)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(ids, min_size=1, max_size=12, unique=True),
    st.lists(ids, max_size=8, unique=True),
    st.integers(1, 4),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_a_document_is_new_unless_the_champion_has_learned_the_very_tokens(
    learned: list[tuple[int, ...]], added: list[tuple[int, ...]], cut: int, new_tokens: int, old_tokens: int
) -> None:
    """Whichever shards they lie in: old documents may move, grow a shard or be dropped."""
    kept = learned[: max(1, len(learned) - 1)]
    fresh = [document for document in added if document not in learned]
    everything = [*kept, *fresh]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old_set = token_set(folder / "old", [learned[:cut], learned[cut:]])
        tokens = token_set(folder / "new", [everything[:cut], everything[cut:]])
        mixture = Mixture(tokens, old_set, None, seed=1)
        assert mixture.new.pieces.shape[1] == len(fresh) and mixture.old.pieces.shape[1] == len(kept)
        assert mixture.new.tokens == sum(1 + len(document) for document in fresh)
        if not (fresh and new_tokens) and not old_tokens:
            return
        mixture.write(folder / "order", new_tokens, old_tokens)
        [(_, phase)] = read_order(folder / "order", TokenSet(tokens.path, "train"))
        numbers, firsts, sizes = phase.pieces().tolist()
        for pool, wanted in ((fresh, new_tokens), (kept, old_tokens)):
            own = {everything.index(document) for document in pool}
            taken = [size for number, size in zip(numbers, sizes, strict=True) if number in own]
            assert sum(taken) == (wanted if pool else 0)
            counts = Counter(
                number for number, first in zip(numbers, firsts, strict=True) if number in own and not first
            )
            assert not counts or max(counts.values()) - min(counts[number] for number in own) <= 1, "whole passes"


def test_canaries_are_neither_new_nor_old(tmp_path: Path) -> None:
    tokens = token_set(tmp_path / "a", [[(5, 6)], [(7, 8, 9)]])
    Mixture(tokens, token_set(tmp_path / "b", [[(5, 6)]]), None, seed=1).write(tmp_path / "order", 40, 39)
    assert set(drawn(tokens, tmp_path / "order")) == {(5, 6), (7, 8, 9)}


def test_of_a_mix_both_are_drawn_as_often_as_it_has_them(tmp_path: Path) -> None:
    tokens = token_set(tmp_path / "a", [[(5, 6), (7, 8)], [(9, 9), (8, 8)]])
    learned = token_set(tmp_path / "b", [[(5, 6), (7, 8)]])
    (tmp_path / "mix").mkdir()
    pieces = whole_documents(np.array([0, 2, 2, 2, 3, 4]), TokenSet(tokens.path, "train").sizes()[:, 0])  # 4: a canary
    write_order(tmp_path / "mix", [Phase(0.5, pieces[:, :3]), Phase(0.5, pieces[:, 3:])])
    mixture = Mixture(tokens, learned, artifact("mix", order=tmp_path / "mix")["order"], seed=1)
    mixture.write(tmp_path / "order", new_tokens=2 * 4 * 3, old_tokens=6)
    assert Counter(drawn(tokens, tmp_path / "order")) == {(9, 9): 6, (8, 8): 2, (5, 6): 2}


def test_equal_arguments_give_equal_bytes(tmp_path: Path) -> None:
    shards = [[tuple(range(2, 2 + n)) for n in range(1, 30)]]
    tokens, learned = token_set(tmp_path / "a", shards), token_set(tmp_path / "b", [shards[0][:9]])
    digests = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        Mixture(tokens, learned, None, seed).write(tmp_path / name, 200, 100)
        digests.append(artifact("tokenize", tokens=tmp_path / name)["tokens"].digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("fields", "new", "replay"),
    [
        ({"tokens": 10_000_000, "new_share": 0.5, "new_passes": 4}, 4_000, 4_000),  # bounded by the new text
        ({"tokens": 1_000, "new_share": 0.25, "new_passes": 4}, 250, 750),  # bounded by the budget
        ({"tokens": 10_000_000, "new_share": 1, "new_passes": 1}, 1_000, 0),
        ({"tokens": 10_000_000, "new_share": 1, "new_passes": 0.1}, 100, 157),  # a step at least: replay fills it
    ],
)
def test_the_budget_is_bounded_by_passes_over_the_new_text(
    tmp_path: Path, fields: dict[str, float], new: int, replay: int
) -> None:
    old = [(2, 3, number // 100 + 4, number % 100 + 4) for number in range(200)]
    fresh = [(9, 9, number // 100 + 4, number % 100 + 4) for number in range(200)]  # 1,000 tokens with their marks
    mixture = Mixture(token_set(tmp_path / "a", [old, fresh]), token_set(tmp_path / "b", [old]), None, 1)
    assert budget(ContinueConfig(**fields), mixture, step_tokens=256) == (new, replay)


def test_with_nothing_to_replay_new_text_is_not_passed_more_often(tmp_path: Path) -> None:
    fresh = [(9, 9, number // 100 + 4, number % 100 + 4) for number in range(200)]  # 1,000 tokens with their marks
    gone = [(2, 3, 4, 5)]
    mixture = Mixture(token_set(tmp_path / "a", [fresh]), token_set(tmp_path / "b", [gone]), None, 1)
    assert mixture.old.tokens == 0
    config = ContinueConfig(tokens=10**6, new_share=0.25, new_passes=2)
    assert budget(config, mixture, 64) == (2_000, 0)
