"""What is new, what is old, and how much of each continued pretraining reads."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import artifact

from storage.store.artifacts import Part
from storage.tokens import TokenSet, write_token_meta, write_token_shard
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


def read(folder: Path) -> list[tuple[tuple[int, ...], int]]:
    return [(tuple(ids[1:].tolist()), size) for ids, size in TokenSet(folder, "train").iterate_documents()]


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
        mixture = Mixture(token_set(folder / "new", [everything[:cut], everything[cut:]]), old_set)
        assert len(mixture.new.places) == len(fresh) and len(mixture.old.places) == len(kept)
        assert mixture.new.tokens == sum(1 + len(document) for document in fresh)
        if not (fresh and new_tokens) and not old_tokens:
            return
        mixture.write(folder / "mixture", new_tokens, old_tokens, seed=1)
        drawn = read(folder / "mixture")
        assert all(size == 3 * len(document) for document, size in drawn)
        for pool, tokens in ((fresh, new_tokens), (kept, old_tokens)):
            counts = Counter(document for document, _ in drawn if document in pool)
            took = sum(count * (1 + len(document)) for document, count in counts.items())
            if pool and tokens:
                assert tokens <= took < tokens + 10, "as much as was asked for, up to the end of a document"
                assert max(counts.values()) - min(counts.get(document, 0) for document in pool) <= 1, "whole passes"


def test_canaries_are_neither_new_nor_old(tmp_path: Path) -> None:
    mixture = Mixture(token_set(tmp_path / "a", [[(5, 6)], [(7, 8, 9)]]), token_set(tmp_path / "b", [[(5, 6)]]))
    mixture.write(tmp_path / "mixture", 40, 40, seed=1)
    assert {document for document, _ in read(tmp_path / "mixture")} == {(5, 6), (7, 8, 9)}


def test_equal_arguments_give_equal_bytes(tmp_path: Path) -> None:
    shards = [[tuple(range(2, 2 + n)) for n in range(1, 30)]]
    mixture = Mixture(token_set(tmp_path / "a", shards), token_set(tmp_path / "b", [shards[0][:9]]))
    digests = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        mixture.write(tmp_path / name, 200, 100, seed)
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
    mixture = Mixture(token_set(tmp_path / "a", [old, fresh]), token_set(tmp_path / "b", [old]))
    assert budget(ContinueConfig(**fields), mixture, step_tokens=256) == (new, replay)


def test_with_nothing_to_replay_new_text_is_not_passed_more_often(tmp_path: Path) -> None:
    fresh = [(9, 9, number // 100 + 4, number % 100 + 4) for number in range(200)]  # 1,000 tokens with their marks
    gone = [(2, 3, 4, 5)]
    mixture = Mixture(token_set(tmp_path / "a", [fresh]), token_set(tmp_path / "b", [gone]))
    assert mixture.old.tokens == 0
    config = ContinueConfig(tokens=10**6, new_share=0.25, new_passes=2)
    assert budget(config, mixture, 64) == (2_000, 0)
