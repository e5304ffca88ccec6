"""Passages that occurred before: what goes, what stays, and what is said of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from document_sets import Rows, job_result, rows_of, run, texts_of, training
from hypothesis import given, settings
from hypothesis import strategies as st
from support import cost_in_loops, shared_data

from storage.documents import HELDOUT, TRAIN, Document, write_documents
from tasks.deduplicate import DeduplicateConfig, deduplicate, passages
from tasks.deduplicate.about import DEDUPLICATE
from tasks.deduplicate.passages import find_anchors, find_passages, hash_windows, without_passages
from tasks.deduplicate.repeated import find_repeated
from tasks.engine.context import JobResult

NOTICE = "This copy was made for readers of the library by its friends."


def config(min_characters: int = 40, **options: Any) -> DeduplicateConfig:
    return DeduplicateConfig.model_validate({"repeated_passages": {"min_characters": min_characters}, **options})


def prose(seed: int, words: int = 40) -> str:
    return " ".join(f"w{word}" for word in np.random.default_rng(seed).integers(0, 10_000, words))


def test_a_passage_goes_wherever_it_comes_again(home: Path) -> None:
    texts = [f"{prose(1)} {NOTICE} {prose(2)}", f"{prose(3)}: {NOTICE}", f"{NOTICE}\n{prose(4)}"]
    artifact, summary = run(home, deduplicate, config(), training(*texts[:2]), training(*texts[2:]))
    assert texts_of(artifact) == [texts[0], prose(3) + ":", "\n" + prose(4)]
    rows, length = rows_of(artifact, "passages"), len(NOTICE)
    assert [(row["begin"], row["characters"]) for row in rows] == [(len(prose(3)) + 1, length + 1), (0, length)]
    assert [row["passage"].strip() for row in rows] == [NOTICE] * 2
    assert [row["id"] for row in rows] == [row["id"] for row in rows_of(artifact, "documents")][1:]
    assert (summary["passages_removed"], summary["documents_cut"]) == (2, 2)
    assert summary["passages_removed_bytes"] == 2 * length + 1
    assert (summary["read"], summary["kept"], summary["dropped"]) == (3, 3, 0)


def test_nothing_goes_unless_it_is_asked_for(home: Path) -> None:
    texts = [f"{prose(1)} {NOTICE}", f"{prose(2)} {NOTICE}"]
    artifact, summary = run(home, deduplicate, DeduplicateConfig(), training(*texts))
    assert texts_of(artifact) == texts and rows_of(artifact, "passages") == [] and "passages_removed" not in summary


def test_what_is_held_out_keeps_its_text(home: Path) -> None:
    rows = [(f"{prose(1)} {NOTICE}", TRAIN), (f"{prose(2)} {NOTICE}", HELDOUT), (f"{prose(3)} {NOTICE}", HELDOUT)]
    artifact, _ = run(home, deduplicate, config(), rows)
    assert texts_of(artifact) == [prose(1), rows[1][0], prose(3)]


def test_a_document_of_nothing_else_is_dropped_and_told(home: Path) -> None:
    artifact, summary = run(home, deduplicate, config(), training(f"{prose(1)} {NOTICE} {prose(2)}", f"{NOTICE}!"))
    (row,) = rows_of(artifact, "ledger")
    assert (row["reason"], row["twin"], row["shard"]) == ("passages", "", 0)
    assert (summary["kept"], summary["dropped"], summary["dropped_passages"], summary["documents_cut"]) == (1, 1, 1, 0)
    assert (
        "passages"
        in DEDUPLICATE.words(
            {"verdict": "dropped", "jaccard": 0.0, "estimated_jaccard": 0.0, **row} | {"twin_label": ""}
        )[0]
    )


def test_dropped_documents_and_lines_have_gone_before(home: Path) -> None:
    """A passage that is first in a duplicate, which goes, stays where it comes next."""
    long = f"{prose(1, 200)} {NOTICE}"
    texts = [
        long,
        f"{long} more",
        *(f"{prose(seed)}\n{'A line of many documents, a long one.' * 2}" for seed in (5, 6, 7)),
    ]
    artifact, summary = run(
        home, deduplicate, config(repeated_lines={"documents": 3, "unit": "line"}), training(*texts)
    )
    assert texts_of(artifact) == [f"{long} more", prose(5), prose(6), prose(7)]
    assert (summary["dropped_near"], summary["lines_removed"], summary["passages_removed"]) == (1, 3, 0)


@pytest.mark.parametrize(
    ("text", "spans", "rest"),
    [
        ("one two three", [(4, 8)], "one three"),
        ("one two three", [(5, 10)], "one t\nree"),
        ("one two", [(0, 4)], "two"),
        ("one two", [(3, 7)], "one"),
        ("one", [(0, 3)], ""),
        ("a-b-c", [(1, 2), (3, 4)], "a\nb\nc"),
    ],
)
def test_what_is_left_on_both_sides_stays_apart(text: str, spans: list[tuple[int, int]], rest: str) -> None:
    assert without_passages(text, spans) == rest


def found_in(folder: Path, shards: Sequence[Rows], size: int, range_entries: int = 1 << 22) -> list[list[list[int]]]:
    """The spans that the steps of the stage find."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.parquet" for number in range(len(shards))]
    for path, rows in zip(paths, shards, strict=True):
        write_documents(path, [Document(str(n), text, "s", "g", split) for n, (text, split) in enumerate(rows)])

    def results(step: Any, configs: Sequence[dict[str, Any]]) -> list[JobResult]:
        made = []
        for path, options in zip(paths, configs, strict=True):
            out = folder / f"{path.stem}-{step.__name__}"
            out.mkdir(exist_ok=True)
            summary = step({"min_characters": size, **options}, {"documents": path}, out)
            made.append(job_result(path.name, out, summary))
        return made

    anchors = results(find_anchors, [{}] * len(paths))
    twice = find_repeated(anchors, 2)
    windows = results(hash_windows, [{"repeated": twice.of_shard(n, one)["repeated"]} for n, one in enumerate(anchors)])
    return [spans.tolist() for spans in find_passages(windows, size, range_entries)]


def expected(shards: Sequence[Rows], size: int) -> list[list[list[int]]]:
    """The same letter by letter."""
    order = [
        (split != HELDOUT, n, row, text) for n, rows in enumerate(shards) for row, (text, split) in enumerate(rows)
    ]
    first: dict[str, tuple[int, int, int]] = {}
    gone: set[tuple[int, int, int]] = set()
    for _, shard, row, text in sorted(order):
        for start in range(len(text) - size + 1):
            here = (shard, row, start)
            there = first.setdefault(text[start : start + size], here)
            if there[:2] != here[:2] or start - there[2] >= size:
                gone.update((shard, row, place) for place in range(start, start + size))
    spans: list[list[list[int]]] = [[] for _ in shards]
    for shard, row, place in sorted(gone):
        if spans[shard] and spans[shard][-1][0] == row and spans[shard][-1][2] == place:
            spans[shard][-1][2] += 1
        else:
            spans[shard].append([row, place, place + 1])
    return spans


TEXTS = st.lists(st.sampled_from(["a", "b", "ab", "aab", "é山", "👍🏽", "abcdefgh", "xyz"]), max_size=14).map("".join)
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from([TRAIN, HELDOUT])), max_size=4)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(ROWS, min_size=1, max_size=3),
    st.integers(2, 12),
    st.sampled_from([5, 16, 1 << 17]),
    st.sampled_from([3, 1 << 22]),
)
def test_what_is_found_is_what_occurred_before(
    tmp_path_factory: pytest.TempPathFactory, shards: list[Rows], size: int, block: int, range_entries: int
) -> None:
    """Small blocks too: each window is in one, wherever they end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passages, "_BLOCK", max(block, size))
        for powers in (passages._powers, passages._prime_powers):
            powers.cache_clear()
        assert found_in(tmp_path_factory.mktemp("p"), shards, size, range_entries) == expected(shards, size)
    for powers in (passages._powers, passages._prime_powers):
        powers.cache_clear()


def test_the_result_does_not_depend_on_workers(tmp_path: Path) -> None:
    shards = [training(*(f"{prose(10 * shard + n)}\n{NOTICE}" for n in range(5))) for shard in range(3)]
    digests = []
    for workers in (1, 2):
        home = tmp_path / str(workers)
        home.mkdir()
        artifact, _ = run(home, deduplicate, config(), *shards, workers=workers)
        digests.append(artifact.digest)
    assert digests[0] == digests[1]


def test_a_million_equal_characters_cost_no_more_than_others(tmp_path: Path) -> None:
    """One document, all of whose windows are the same; a loop over pairs would take hours."""
    text = "a" * 1_000_000
    assert found_in(tmp_path / "a", [training(text)], 100) == [[[0, 100, 1_000_000]]]
    assert cost_in_loops(lambda: found_in(tmp_path / "b", [training(text)], 100)) < 120


def test_licence_headers_go_and_code_stays(home: Path) -> None:
    """386 files of code of three projects, each under a licence header."""
    data = zstandard.ZstdDecompressor().stream_reader(shared_data("dirty", "licence_headers.jsonl.zst").read_bytes())
    texts = [json.loads(line)["text"] for line in data.read().decode().splitlines()]
    artifact, summary = run(home, deduplicate, config(200), training(*texts))
    kept = texts_of(artifact)
    assert sum("licensed under the Apache License" in " ".join(text.split()) for text in kept) < 20
    assert summary["passages_removed"] > 300
