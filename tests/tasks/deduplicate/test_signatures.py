"""Our signatures are datasketch's, bit for bit; bands and clusters keep their promises."""

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from support import cost_in_loops

from tasks.deduplicate import DeduplicateConfig
from tasks.deduplicate.clusters import candidate_pairs, equal_groups, ranking, representatives
from tasks.deduplicate.shingles import encode, shingle
from tasks.deduplicate.signatures import Signer, band_keys, shingle_hashes32, signatures

TEXTS = [
    "one two three four five six",
    "short",
    "",
    *(" ".join(f"w{n * k % 97}" for n in range(200)) for k in (1, 2, 3)),
]


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_signatures_equal_datasketch_affine32(seed: int) -> None:
    shingles = shingle(encode(TEXTS), 5)
    ours = signatures(shingles, 112, seed)
    for number, piece in enumerate(np.split(shingle_hashes32(shingles.hashes), shingles.starts[1:])):
        theirs = MinHash(num_perm=112, seed=seed, hashfunc=int, scheme="affine32")
        theirs.update_batch(piece.tolist())
        assert ours[:, number].tolist() == theirs.hashvalues.tolist()


def test_band_keys_are_equal_exactly_where_all_rows_of_the_band_are() -> None:
    minima = np.arange(12, dtype=np.uint32).reshape(6, 2).repeat(2, axis=1)  # columns 0 = 1 and 2 = 3
    minima[5, 1] += 1  # differs in the last row of the last band
    keys = band_keys(minima, bands=2)
    assert keys.shape == (2, 4)
    assert (keys[0, 0] == keys[0, 1], keys[1, 0] == keys[1, 1]) == (True, False)
    assert keys[1, 2] == keys[1, 3] != keys[1, 0]


def test_the_order_of_rows_matters_to_a_band_key() -> None:
    keys = band_keys(np.array([[1, 2], [2, 1]], np.uint32), bands=1)
    assert keys[0, 0] != keys[0, 1]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_equal_digests_lead_to_their_first_document(digests: list[tuple[int, int]]) -> None:
    high, low = (np.array(column, np.uint64) for column in zip(*digests, strict=True))
    assert equal_groups(high, low).tolist() == [digests.index(digest) for digest in digests]


@given(st.lists(st.lists(st.integers(0, 4), min_size=8, max_size=8), min_size=1, max_size=4))
def test_candidates_share_a_band_and_connect_every_bucket(bands: list[list[int]]) -> None:
    documents = np.arange(10, 18)
    pairs = candidate_pairs((np.array(keys, np.uint64) for keys in bands), documents)
    assert len({tuple(pair) for pair in pairs.tolist()}) == len(pairs)
    for left, right in pairs.tolist():
        assert left < right
        assert any(keys[left - 10] == keys[right - 10] for keys in bands)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(18, 18))
    labels = connected_components(graph, directed=False)[1]
    for keys in bands:
        for key in set(keys):
            assert len({labels[10 + place] for place, other in enumerate(keys) if other == key}) == 1


def test_a_bucket_of_many_costs_a_number_of_pairs_linear_in_its_members() -> None:
    keys = np.zeros(2000, np.uint64)
    assert len(candidate_pairs([keys] * 14, np.arange(2000))) == 2 * 2000 - 3


@pytest.mark.parametrize(
    ("heldout", "lengths", "order"),
    [
        ([False, False, False], [5, 9, 9], [1, 2, 0]),  # the longest, then the earlier
        ([False, True, True], [99, 3, 4], [2, 1, 0]),  # held out before long
    ],
)
def test_who_would_rather_stay(heldout: list[bool], lengths: list[int], order: list[int]) -> None:
    assert ranking(np.array(heldout), np.array(lengths)).tolist() == order


@given(st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] < pair[1])))
def test_who_goes_is_similar_to_who_stays_and_those_that_stay_are_not(similar: set[tuple[int, int]]) -> None:
    stays = representatives(12, np.array(sorted(similar), np.int64).reshape(-1, 2)).tolist()
    for document, other in enumerate(stays):
        assert stays[other] == other
        assert document == other or (other, document) in similar
    assert not {pair for pair in similar if all(stays[one] == one for one in pair)}


def test_the_s_curve_is_that_of_the_published_setting() -> None:
    config = DeduplicateConfig()
    curve = [round(config.candidate_probability(similarity), 3) for similarity in (0.5, 0.7, 0.8, 0.9)]
    assert curve == [0.053, 0.565, 0.924, 1.0]  # FineWeb's 14 x 8


def test_signing_is_array_work() -> None:
    """500 documents of 2.8 kB take 6 Python loops of 100,000 turns; a loop over shingles takes ten times as long."""
    random = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in random.integers(0, 5000, 480)) for _ in range(500)]
    signatures(shingle(encode(texts[:1]), 5), 112, 1)

    def sign() -> None:
        for first in range(0, 500, 50):
            signatures(shingle(encode(texts[first : first + 50]), 5), 112, 1)

    assert cost_in_loops(sign) < 18


def test_a_copy_has_the_signature_and_digest_of_its_first() -> None:
    texts = ["one two three four five six", "short", "ONE  two three four five six", "é six", "short", "é six"]
    signer = Signer(shingle_words=5, count=16, seed=1)
    signer.add(pa.array(texts[:4]))
    signer.add(pa.array(texts[4:]))
    high, _ = signer.digests()
    assert [high.tolist().index(one) for one in high.tolist()] == [0, 1, 0, 3, 1, 3]
    assert signer.minima().tolist() == signatures(shingle(encode(texts), 5), 16, 1).tolist()
