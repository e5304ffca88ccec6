"""Canaries: what is drawn, and how often training really meets it."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import artifact

from model.packed import FittedBatches, PackedBatches, RowBatches
from storage.errors import DataError
from storage.tokens import TokenSet, write_token_meta, write_token_shard
from tasks.tokenize.canaries import (
    CANARY_SHARD,
    FEWEST_WORDS,
    PLANTED_TOKENS,
    Canary,
    Planted,
    affordable,
    count_seen,
    draw_canaries,
    first_canary,
    plantings,
    read_planted,
    word_ids,
)
from tasks.tokenize.tokenizer import TokenizerConfig, learn

WORDS = tuple(range(100, 400))


def test_a_canary_stays_when_others_are_asked_for() -> None:
    few, many = draw_canaries(WORDS, 2, (1, 4), 7), draw_canaries(WORDS, 5, (1, 4, 16), 7)
    assert set(few) < set(many)
    assert len({canary.ids for canary in many}) == len(many) == 30
    assert sum(canary.repeats == 0 for canary in many) == 15, "a twin for each"


def test_words_are_whole_words_that_encode_to_themselves() -> None:
    lexicon = ["".join(syllables).title() for syllables in product(("ba", "ke", "lo", "mi", "nu"), repeat=3)]
    tokenizer = learn(TokenizerConfig(vocabulary_size=420), [" ".join(lexicon * 4)])
    words = word_ids(tokenizer)
    assert len(words) >= FEWEST_WORDS
    for canary in draw_canaries(words, 5, (1,), 0):
        text = tokenizer.decode(canary.ids)
        assert tuple(tokenizer.encode(text).ids) == canary.ids
        assert len(text.split()) == 12 and text.replace(" ", "").isalpha()


@given(st.integers(0, 100), st.lists(st.integers(1, 50), min_size=1, max_size=4), st.integers(0, 10**6))
def test_they_take_at_most_their_share(count: int, repeats: list[int], tokens: int) -> None:
    found = affordable(count, repeats, 0.005, tokens)
    cost = PLANTED_TOKENS * sum(repeats)
    assert 0 <= found <= count and found * cost <= 0.005 * tokens
    assert found == count or (found + 1) * cost > 0.005 * tokens


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=10),
    context=st.integers(12, 40),
    rows=st.integers(1, 3),
    steps=st.integers(0, 30),
    seed=st.integers(0, 99),
    whole_documents=st.booleans(),
)
def test_seen_is_how_often_the_batches_hold_a_canary_whole(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    context: int,
    rows: int,
    steps: int,
    seed: int,
    whole_documents: bool,
) -> None:
    """Each batch that training takes is searched: document mark among the inputs, the last word among the targets."""
    folder = tmp_path_factory.mktemp("tokens")
    write_token_meta(folder, 400)
    write_token_shard(folder, "train", 0, [([5] * length, length) for length in lengths], 400)
    canaries = draw_canaries(WORDS, 2, (1, 3), seed)
    write_token_shard(folder, "train", CANARY_SHARD, [(ids, 1) for ids in plantings(canaries, seed)], 400)
    tokens = TokenSet(folder, "train")
    batches: RowBatches = PackedBatches(tokens, context, rows, seed)
    if whole_documents:
        batches = FittedBatches(tokens, context, rows, seed, mark=0, apart=False)
    planted = Planted(WORDS, canaries)
    phases = [(batches, batches.times_seen(steps))]
    found = count_seen(planted, phases, first_canary(tokens, planted), context)
    taken = [
        np.append(inputs, targets[-1]).tolist()
        for batch in map(batches.batch, range(steps))
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True)
    ]
    for canary in found.canaries:
        whole = [0, *canary.ids]
        times = sum(row[at : at + 13] == whole for row in taken for at in range(len(row) - 12))
        assert canary.seen == times
    assert found.epochs == round(steps * rows / batches.packed().rows, 3)
    assert whole_documents or batches.packed().rows == (tokens.tokens - 1) // context


def test_without_canaries_nothing_is_counted(tmp_path: Path) -> None:
    write_token_meta(tmp_path, 400)
    write_token_shard(tmp_path, "train", 0, [([5] * 60, 60)], 400)
    times = np.array([2, 1, 1])
    assert count_seen(Planted((), ()), [(TokenSet(tmp_path, "train"), times)], 1, 20) == Planted((), (), 1.333)


def test_a_damaged_record_names_its_place(tmp_path: Path) -> None:
    (tmp_path / "canaries.json").write_text('{"words": [1]}')
    with pytest.raises(DataError, match="not a record of canaries"):
        read_planted(artifact("tokenize", canaries=tmp_path)["canaries"])


def test_plantings_of_one_canary_are_spread() -> None:
    """Shuffled: of 16 plantings among 336, the chance that all lie in one half is below 2 * 2**-16."""
    order = plantings(draw_canaries(WORDS, 16, (1, 4, 16), 3), 3)
    ids = next(canary.ids for canary in draw_canaries(WORDS, 16, (1, 4, 16), 3) if canary.repeats == 16)
    places = [place for place, found in enumerate(order) if found == ids]
    assert len(places) == 16 and min(places) < len(order) / 2 < max(places)
    assert isinstance(draw_canaries(WORDS, 1, (1,), 0)[0], Canary)
