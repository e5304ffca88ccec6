"""Lines and paragraphs that many documents have: what goes, what stays, and what is said of it."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from document_sets import job_result, rows_of, run, source, texts_of, training
from hypothesis import given, settings
from hypothesis import strategies as st
from support import cost_in_loops, shared_data

from storage.documents import HELDOUT, TRAIN
from tasks.deduplicate import DeduplicateConfig, deduplicate
from tasks.deduplicate.about import DEDUPLICATE
from tasks.deduplicate.lines import count_lines, find_units, without_lines
from tasks.deduplicate.repeated import find_repeated

NOTICE = "All rights reserved by the owner of this site."


def config(**options: Any) -> DeduplicateConfig:
    return DeduplicateConfig.model_validate({"repeated_lines": {"documents": 3, "unit": "line", **options}})


def prose(seed: int, words: int = 40) -> str:
    return " ".join(f"w{word}" for word in np.random.default_rng(seed).integers(0, 10_000, words))


def test_a_line_that_many_documents_have_goes_from_all_held_out_or_not(home: Path) -> None:
    rows = [(f"{prose(seed)}\n{NOTICE}\n{prose(seed + 9)}", HELDOUT if seed == 1 else TRAIN) for seed in range(3)]
    artifact, summary = run(home, deduplicate, config(), rows[:2], [*rows[2:], (f"{prose(7)}\nrare", TRAIN)])
    assert texts_of(artifact) == [*(f"{prose(seed)}\n{prose(seed + 9)}" for seed in range(3)), f"{prose(7)}\nrare"]
    (line,) = rows_of(artifact, "lines")
    assert (line["line"], line["documents"], line["removed"]) == (NOTICE, 3, 3)
    assert (summary["repeated_lines"], summary["lines_removed"], summary["documents_edited"]) == (1, 3, 3)
    assert summary["lines_removed_bytes"] == 3 * len(NOTICE + "\n")
    assert summary["read"] == summary["kept"] == 4


def test_nothing_goes_unless_it_is_asked_for(home: Path) -> None:
    texts = [f"{prose(seed)}\n{NOTICE}" for seed in range(9)]
    artifact, summary = run(home, deduplicate, DeduplicateConfig(), training(*texts))
    assert texts_of(artifact) == texts and rows_of(artifact, "lines") == [] and "lines_removed" not in summary


def test_duplicates_do_not_make_a_line_frequent(home: Path) -> None:
    texts = [prose(1) + f"\n{NOTICE}", prose(1) + f"\n{NOTICE} ", prose(1) + f"\n{NOTICE.upper()}", prose(2)]
    artifact, summary = run(home, deduplicate, config(), training(*texts))
    assert texts_of(artifact)[-1] == prose(2) and summary["dropped_exact"] == 2 and summary["lines_removed"] == 0


def test_a_line_many_times_in_one_document_is_in_one_document(home: Path) -> None:
    artifact, _ = run(home, deduplicate, config(), training("\n".join([NOTICE] * 50), f"{prose(1)}\n{NOTICE}"))
    assert rows_of(artifact, "lines") == []


def test_the_first_occurrence_stays_where_that_is_wanted(home: Path) -> None:
    texts = [f"{prose(seed)}\n{NOTICE}\n{prose(seed + 9)}\n{NOTICE}" for seed in range(4)]
    artifact, _ = run(home, deduplicate, config(keep_first=True), training(*texts[:2]), training(*texts[2:]))
    assert texts_of(artifact)[0] == f"{prose(0)}\n{NOTICE}\n{prose(9)}"
    assert all(NOTICE not in text for text in texts_of(artifact)[1:])


@pytest.mark.parametrize(
    "copy", ["# " + NOTICE, " * " + NOTICE.upper(), "//" + NOTICE.replace(" ", "  "), NOTICE[:-1] + "!"]
)
def test_case_space_and_comment_signs_do_not_matter(copy: str, home: Path) -> None:
    texts = [f"{prose(1)}\n{NOTICE}", f"{prose(2)}\n{NOTICE}", f"{prose(3)}\n{copy}"]
    artifact, _ = run(home, deduplicate, config(), training(*texts))
    assert texts_of(artifact) == [prose(1), prose(2), prose(3)]


def test_short_lines_stay(home: Path) -> None:
    texts = [f"{prose(seed)}\nreturn None\n}}\n\n--------\n{prose(seed + 9)}" for seed in range(5)]
    artifact, _ = run(home, deduplicate, config(), training(*texts))
    assert texts_of(artifact) == texts


def test_a_document_of_nothing_else_is_dropped_and_told(home: Path) -> None:
    texts = [NOTICE + "\n--", *(f"{prose(seed)}\n{NOTICE}" for seed in range(3))]
    artifact, summary = run(home, deduplicate, config(), training(prose(9)), training(*texts))
    (row,) = rows_of(artifact, "ledger")
    assert (row["reason"], row["twin"], row["shard"]) == ("lines", "", 1)
    assert texts_of(artifact) == [prose(9), prose(0), prose(1), prose(2)]
    assert (summary["read"], summary["kept"], summary["dropped"], summary["dropped_lines"]) == (5, 4, 1, 1)
    step = {"verdict": "dropped", **row, "twin_label": ""}
    assert DEDUPLICATE.words(step)[0] == "nothing but lines that many documents have"


def test_a_paragraph_is_a_run_of_lines_with_words(home: Path) -> None:
    header = "# Licensed to whom\n# it may concern today\n#\n# Under a licence of some kind"
    texts = [f"{header}\n\n# A comment by itself {seed}\n{prose(seed)}" for seed in range(3)]
    artifact, _ = run(home, deduplicate, config(unit="paragraph"), training(*texts))
    assert texts_of(artifact) == [f"#\n\n# A comment by itself {seed}\n{prose(seed)}" for seed in range(3)]
    assert sorted(row["line"] for row in rows_of(artifact, "lines")) == [
        "# Licensed to whom\n# it may concern today",
        "# Under a licence of some kind",
    ]


@pytest.mark.parametrize(
    ("lines", "spans", "expected"),
    [
        (["a", "", "X", "", "b"], [(2, 3)], ["a", "", "b"]),  # one blank line between paragraphs
        (["X", "", "b"], [(0, 1)], ["b"]),
        (["#", "X", "#", "Y", "#", "b"], [(1, 2), (3, 4)], ["#", "b"]),
        (["/*", " * X", " */", "code"], [(1, 2)], ["/*", " */", "code"]),  # a comment stays closed
        (["a", "X", "a", "b"], [(1, 2)], ["a", "a", "b"]),  # words are never taken along
        (["a", "X"], [(1, 2)], ["a"]),
    ],
)
def test_a_gap_leaves_one_of_the_blank_lines_around_it(
    lines: list[str], spans: list[tuple[int, int]], expected: list[str]
) -> None:
    assert without_lines(lines, spans) == "\n".join(expected)


LINES = st.lists(
    st.sampled_from(["a b", "A  b!", "b a", "# a b", "", "--", "山水", "a", "x y z", "日本語 a"]), max_size=8
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES.map("\n".join), max_size=5), st.sampled_from(["line", "paragraph"]), st.integers(1, 3))
def test_units_are_the_lines_and_paragraphs_of_enough_words(texts: list[str], unit: str, min_words: int) -> None:
    expected = []
    for number, text in enumerate(texts):
        lines = [tuple(re.findall("[a-z]+|[^\x00-\x7f]", line.lower())) for line in text.split("\n")]
        begin = 0
        while begin < len(lines):
            end = begin + 1
            while unit == "paragraph" and lines[begin] and end < len(lines) and lines[end]:
                end += 1
            words = tuple(word for line in lines[begin:end] for word in line)
            if len(words) >= min_words:
                expected.append((number, begin, end, words))
            begin = end
    found = find_units(pa.array(texts, pa.string()), unit, min_words)
    places = list(zip(found.texts.tolist(), found.begins.tolist(), found.ends.tolist(), strict=True))
    assert places == [one[:3] for one in expected]
    by_words = dict(zip((one[3] for one in expected), found.hashes.tolist(), strict=True))
    assert found.hashes.tolist() == [by_words[one[3]] for one in expected]
    assert len(set(by_words.values())) == len(by_words)


@pytest.mark.parametrize("range_entries", [1, 7, 1 << 20])
def test_counting_in_ranges_is_counting(range_entries: int, home: Path, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    shards = [["\n".join(f"the line of {chance.integers(30)}" for _ in range(8)) for _ in range(20)] for _ in range(3)]
    results, every = [], Counter[str]()
    for number, file in enumerate(source(home, *(training(*texts) for texts in shards))["documents"].files):
        out = tmp_path / str(number)
        out.mkdir()
        summary = count_lines({"unit": "line", "min_words": 4, "dropped": [3]}, {"documents": file.path}, out)
        results.append(job_result(file.name, out, summary))
        for row, text in enumerate(shards[number]):
            every.update(set(text.split("\n")) if row != 3 else ())
    repeated = find_repeated(results, 15, range_entries)
    wanted = {line: count for line, count in every.items() if count >= 15}
    hashes = find_units(pa.array(list(wanted)), "line", 1).hashes.tolist()
    assert 5 < len(wanted) < 30
    assert dict(zip(repeated.hashes.tolist(), repeated.documents.tolist(), strict=True)) == dict(
        zip(hashes, wanted.values(), strict=True)
    )
    assert repeated.hashes.tolist() == sorted(hashes)


def test_the_result_does_not_depend_on_workers(tmp_path: Path) -> None:
    shards = [training(*(f"{prose(10 * shard + n)}\n{NOTICE}" for n in range(5))) for shard in range(3)]
    digests = []
    for workers in (1, 2):
        home = tmp_path / str(workers)
        home.mkdir()
        artifact, _ = run(home, deduplicate, config(), *shards, workers=workers)
        digests.append(artifact.digest)
    assert digests[0] == digests[1]


def test_a_hundred_thousand_equal_lines_cost_no_more_than_their_bytes(home: Path) -> None:
    """Two documents of five megabytes; a loop over pairs of lines would take hours."""
    many = "\n".join([NOTICE] * 100_000)
    texts = [many, f"{prose(1)}\n{many}", f"{prose(2)}\n{NOTICE}"]
    artifact, summary = run(home, deduplicate, config(documents=2), training(*texts))
    assert texts_of(artifact)[-1] == prose(2)
    assert summary["lines_removed"] + summary["dropped_near"] * 100_000 >= 100_001
    array = pa.array(texts[:1])
    assert cost_in_loops(lambda: find_units(array, "line", 1)) < 60


def test_licence_headers_go_and_comments_stay(home: Path) -> None:
    """386 files of code of three projects, each under a licence header."""
    data = zstandard.ZstdDecompressor().stream_reader(shared_data("dirty", "licence_headers.jsonl.zst").read_bytes())
    texts = [json.loads(line)["text"] for line in data.read().decode().split("\n") if line]
    artifact, _ = run(home, deduplicate, config(unit="paragraph", documents=20), training(*texts))
    kept = texts_of(artifact)
    assert sum("Unless required by applicable law" in text for text in texts) > 350
    assert sum("Unless required by applicable law" in text for text in kept) <= 5

    def comments(of: list[str]) -> int:
        return sum(line.lstrip().startswith(("#", "//", "*")) for text in of for line in text.split("\n")[20:])

    assert comments(kept) > 0.8 * comments(texts)
    assert len(rows_of(artifact, "lines")) < 20
