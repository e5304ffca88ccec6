"""The stage deduplicate: who stays, who goes and for whom, what is computed again, and how much is found."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from document_sets import rows_of, run, source, texts_of, training
from support import shared_data

from storage.documents import HELDOUT, SCHEMA, TRAIN, Document, document_row, write_rows
from storage.errors import DataError
from tasks.deduplicate import DeduplicateConfig, deduplicate
from tasks.deduplicate.shingles import shingle_sets
from tasks.deduplicate.similarity import ShingleSets, exact_jaccards, jaccard, write_sets

CONFIG = DeduplicateConfig()


def prose(seed: int, words: int = 120) -> str:
    return " ".join(f"w{word}" for word in np.random.default_rng(seed).integers(0, 10_000, words))


def edited(text: str, *places: int) -> str:
    words = text.split()
    for place in places:
        words[place] = "edited"
    return " ".join(words)


def test_exact_duplicates_are_equal_but_for_case_and_white_space(home: Path) -> None:
    artifact, summary = run(home, deduplicate, CONFIG, training("One two.", "one\n TWO.", "one two!"))
    assert texts_of(artifact) == ["One two.", "one two!"]
    (row,) = rows_of(artifact, "ledger")
    assert (row["reason"], row["jaccard"], row["estimated_jaccard"], row["shard"]) == ("exact", 1.0, 1.0, 0)
    assert (summary["read"], summary["kept"], summary["dropped"], summary["dropped_exact"]) == (3, 2, 1, 1)


def test_a_near_duplicate_is_dropped_with_its_true_similarities(home: Path) -> None:
    long = prose(1) + " and a longer end"
    artifact, summary = run(home, deduplicate, CONFIG, training(edited(prose(1), 60), prose(2)), training(long))
    assert texts_of(artifact) == [prose(2), long], "the longest stays, not the first"
    (row,) = rows_of(artifact, "ledger")
    left, right = shingle_sets([edited(prose(1), 60), long], 5)
    assert row["reason"] == "near"
    assert row["jaccard"] == jaccard(left, right)
    assert abs(row["estimated_jaccard"] - row["jaccard"]) < 0.15
    twin = next(document for document in rows_of(artifact, "documents") if document["text"] == long)
    assert row["twin"] == twin["id"]
    assert summary["dropped_near"] == 1


def test_similar_documents_below_the_threshold_stay(home: Path) -> None:
    texts = [prose(1), edited(prose(1), *range(5, 120, 15))]
    (similarity,) = [jaccard(*shingle_sets(texts, 5))]
    assert 0.4 < similarity < 0.7
    everything_compared = CONFIG.model_copy(update={"bands": 112, "rows": 1})
    artifact, summary = run(home, deduplicate, everything_compared, training(*texts))
    assert summary["candidate_pairs"] == 1
    assert texts_of(artifact) == texts


def test_a_cluster_across_the_split_keeps_its_heldout_member(home: Path) -> None:
    rows = [(prose(1), HELDOUT), (prose(1) + " longer by some words", TRAIN), (prose(2), TRAIN), (prose(2), TRAIN)]
    artifact, summary = run(home, deduplicate, CONFIG, rows)
    assert [(row["text"], row["split"]) for row in rows_of(artifact, "documents")] == [rows[0], rows[2]]
    assert summary["dropped_training_twins_of_heldout"] == 1


def test_a_chain_is_thinned_out_and_who_goes_is_like_the_one_that_stays(home: Path) -> None:
    """300 windows of 200 words, each ten words further: as one cluster they would shrink to one."""
    words = prose(1, 3190).split()
    windows = [" ".join(words[10 * start : 10 * start + 200]) for start in range(300)]
    artifact, summary = run(home, deduplicate, CONFIG, training(*np.random.default_rng(0).permutation(windows)))
    kept, ledger = texts_of(artifact), rows_of(artifact, "ledger")
    assert all(row["jaccard"] >= CONFIG.threshold for row in ledger)
    assert {row["twin"] for row in ledger} <= {row["id"] for row in rows_of(artifact, "documents")}
    sets = list(shingle_sets(kept, 5))
    close = [pair for pair in combinations(sets, 2) if jaccard(*pair) >= 0.8]
    assert 43 <= summary["kept"] <= 100, "a document is similar to three before it and three behind it"
    assert len(close) <= 5, "bands miss 8 % of the pairs at .8"


def test_one_that_lost_its_twin_to_a_third_comes_back(home: Path) -> None:
    """b is longer than c and goes for a; a and c are less alike than the threshold."""
    a, b, c = prose(1) + " and a longer tail", edited(prose(1), 30) + " tail", edited(prose(1), 30, 60)
    config = CONFIG.model_copy(update={"bands": 112, "rows": 1, "threshold": 0.85})
    artifact, _ = run(home, deduplicate, config, training(c, b, a))
    (row,) = rows_of(artifact, "ledger")
    assert texts_of(artifact) == [c, a]
    assert row["jaccard"] == jaccard(*shingle_sets([a, b], 5)) >= 0.85 > jaccard(*shingle_sets([a, c], 5))


def test_documents_without_five_words_or_any_are_compared_too(home: Path) -> None:
    artifact, _ = run(home, deduplicate, CONFIG, training("Hi there", "hi  there", "hi there!", "", "", "?!", "%%"))
    assert texts_of(artifact) == ["Hi there", "hi there!", "", "?!", "%%"]


def test_no_document_at_all_is_an_error_for_the_user(home: Path) -> None:
    with pytest.raises(DataError, match="no document"):
        run(home, deduplicate, CONFIG, [])


def test_the_result_does_not_depend_on_workers(tmp_path: Path) -> None:
    shards = [training(*(edited(prose(n % 7), n) for n in range(k, k + 9))) for k in (0, 5, 9)]
    digests = []
    for workers in (1, 2):
        home = tmp_path / str(workers)
        home.mkdir()
        artifact, _ = run(home, deduplicate, CONFIG, *shards, workers=workers)
        digests.append(artifact.digest)
    assert digests[0] == digests[1]


def test_a_shard_that_loses_nothing_is_the_same_file(home: Path) -> None:
    shards = [training(prose(1)), training(prose(1), prose(2)), training(prose(3))]
    artifact, _ = run(home, deduplicate, CONFIG, *shards)
    same = [
        after.digest == before.digest
        for before, after in zip(source(home, *shards)["documents"].files, artifact["documents"].files, strict=True)
    ]
    assert same == [True, False, True]


def test_new_documents_and_a_new_threshold_sign_no_old_shard_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = []
    original = deduplicate.function.__globals__["sign_shard"]

    def counting(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> dict[str, Any]:
        signed.append(inputs["documents"].name)
        return original(config, inputs, out)

    counting.__module__, counting.__qualname__ = original.__module__, original.__qualname__
    monkeypatch.setitem(deduplicate.function.__globals__, "sign_shard", counting)
    first, second = training(prose(1)), training(prose(2))
    run(home, deduplicate, CONFIG, first)
    assert len(signed) == 1
    run(home, deduplicate, CONFIG, first, second)
    assert len(signed) == 2
    run(home, deduplicate, CONFIG.model_copy(update={"threshold": 0.9}), first, second)
    assert len(signed) == 2
    run(home, deduplicate, CONFIG.model_copy(update={"seed": 2}), first, second)
    assert len(signed) == 4


def test_two_thousand_near_equal_documents_cost_linear_work(home: Path) -> None:
    texts = [f"{prose(1)} number{number} closing" for number in range(2000)]
    artifact, summary = run(home, deduplicate, CONFIG, training(*texts))
    assert (summary["kept"], summary["dropped_near"]) == (1, 1999)
    assert summary["candidate_pairs"] <= 2 * 14 * 2000
    ledger = rows_of(artifact, "ledger")
    assert {row["twin"] for row in ledger} == {rows_of(artifact, "documents")[0]["id"]}
    assert all(0.9 < row["jaccard"] < 1 for row in ledger), "also where the kept one was not met in a bucket"


def test_similarities_from_files_are_those_of_the_sets(tmp_path: Path) -> None:
    texts = [edited(prose(number % 3), number) for number in range(30)]
    wanted = np.array([0, 3, 4, 9, 12, 13, 19, 20, 25, 29])
    sets, sizes = [], []
    for shard in range(3):
        out = tmp_path / str(shard)
        out.mkdir()
        rows = texts[shard * 10 : shard * 10 + 10]
        documents = [Document(id=text, text=text, source="", group="", split=TRAIN) for text in rows]
        write_rows(out / "shard.parquet", map(document_row, documents), SCHEMA, rows_per_group=4)
        of_shard = (wanted[wanted // 10 == shard] - 10 * shard).tolist()
        write_sets({"rows": of_shard, "shingle_words": 5}, {"documents": out / "shard.parquet"}, out)
        sets.append(out / "sets.bin")
        sizes.append(out / "sizes.npy")
    pairs = np.array(list(combinations(wanted.tolist(), 2)))
    whole = list(shingle_sets(texts, 5))
    found = exact_jaccards(pairs, ShingleSets(wanted, sets, sizes))
    assert found.tolist() == [jaccard(whole[left], whole[right]) for left, right in pairs.tolist()]


def test_recall_and_precision_on_real_revisions(home: Path) -> None:
    """Gold: the exact similarity of every pair in groups of real document revisions."""
    pairs = _read(shared_data("dirty", "near_dup_pairs.jsonl.zst"))
    documents = _read(shared_data("dirty", "near_dup.jsonl.zst"))
    artifact, summary = run(home, deduplicate, CONFIG, training(*(document["text"] for document in documents)))
    kept = texts_of(artifact)
    survives = {document["id"]: document["text"] in kept for document in documents}
    gold = [pair for pair in pairs if pair["jaccard_5gram"] >= 0.8]
    missed = [pair for pair in gold if survives[pair["a"]] and survives[pair["b"]]]
    missed = [pair for pair in missed if not pair["identical"]]
    assert len(gold) > 300
    assert len(missed) <= 0.01 * len(gold), missed[:5]
    similar = {name for pair in pairs if pair["jaccard_5gram"] >= 0.65 for name in (pair["a"], pair["b"])}
    wrongly = [name for name, alive in survives.items() if not alive and name not in similar]
    assert not wrongly
    assert summary["dropped"] > 100


def _read(path: Path) -> list[dict[str, Any]]:
    data = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    return [json.loads(line) for line in data.decode().split("\n") if line]


INVISIBLE = {
    "soft hyphens": lambda text: text.replace("w", "w\u00ad"),
    "zero width spaces": lambda text: text.replace("w", "w\u200b"),
    "word joiners": lambda text: text.replace("w", "\u2060w"),
    "marks of direction": lambda text: text.replace(" ", " \u200f"),
    "a joiner of letters and marks": lambda text: text.replace("é", "e\u034f\u0301"),
    "tags": lambda text: text.replace("w", "w\U000e0061"),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "full width": lambda text: "".join(chr(ord(letter) + 0xFEE0) if letter.isdigit() else letter for letter in text),
    "ligatures": lambda text: text.replace("fi", "\ufb01"),
}


@pytest.mark.parametrize("name", INVISIBLE)
def test_a_copy_that_differs_in_what_cannot_be_seen_is_an_exact_one(name: str, home: Path) -> None:
    text = prose(1) + " fine café fish"
    copy = INVISIBLE[name](text)
    assert copy != text
    _, summary = run(home, deduplicate, CONFIG, training(text, copy))
    assert (summary["kept"], summary["dropped_exact"]) == (1, 1)


@pytest.mark.parametrize("letters", ["山水风云天地日月星光花草树木人心书城门路桥江海", "กขคงจชซดตถทนบปผพฟมยรลวสห"])
def test_near_copies_in_scripts_without_spaces_are_found(letters: str, home: Path) -> None:
    chance = np.random.default_rng(7)
    texts = ["".join(chance.choice(list(letters), 400)) for _ in range(20)]
    copies = ["".join("ー" if place % 60 == 30 else letter for place, letter in enumerate(text)) for text in texts]
    _, summary = run(home, deduplicate, CONFIG, training(*texts, *copies))
    assert summary["dropped_near"] >= 18
