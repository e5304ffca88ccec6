"""Ids distinguish equal texts and stay the same; text files of many documents are read as many."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from collecting import documents_of, run_collect
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import DataError
from tasks.collect.text_parts import split_parts

MARK = "<|endoftext|>"
STORY = "Tom went to the park {n}.\nHe had a ball.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def lines(path: Path, *rows: str) -> None:
    path.write_text("".join(f'{{"text": "{row}", "site": "s"}}\n' for row in rows))


def ids(home: Path, folder: Path, **source: Any) -> list[tuple[str, str]]:
    artifact, _ = run_collect(home, files=[{"path": str(folder), **source}], heldout_fraction=0.0)
    return [(document.id, document.text) for document in documents_of(artifact)]


def test_equal_lines_have_ids_of_their_own_that_other_lines_do_not_change(home: Path, folder: Path) -> None:
    lines(folder / "a.jsonl", "one", "two", "one", "one")
    before = ids(home, folder)
    assert len({identity for identity, _ in before}) == 4
    lines(folder / "a.jsonl", "new", "one", "two", "one", "newer", "one")
    assert [row for row in ids(home, folder) if "new" not in row[1]] == before


def test_equal_texts_of_one_group_in_two_files_have_ids_of_their_own(home: Path, folder: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        lines(folder / name, "one", "one")
    assert len({identity for identity, _ in ids(home, folder, group_field="site")}) == 4


def stories(count: int, end: str = "\n") -> str:
    return "".join(STORY.format(n=n) + MARK + end for n in range(count))


@pytest.mark.parametrize("packed", [False, True])
def test_texts_between_separators_are_documents_with_splits_of_their_own(
    home: Path, folder: Path, packed: bool
) -> None:
    data = stories(40).encode()
    path = folder / ("stories.txt.gz" if packed else "stories.txt")
    path.write_bytes(gzip.compress(data) if packed else data)
    artifact, summary = run_collect(home, files=[{"path": str(path), "separator": MARK}], heldout_fraction=0.3)
    documents = documents_of(artifact)
    assert [document.text for document in documents] == [STORY.format(n=n).strip() for n in range(40)]
    assert documents[2].metadata == {"file": path.name, "line": 7}
    assert summary["documents_train"] and summary["documents_heldout"]
    assert not summary.get("notices")


def test_the_name_of_a_file_holds_out_all_its_documents(home: Path, folder: Path) -> None:
    for name, count in (("train", 9), ("valid", 3)):
        (folder / f"{name}.txt").write_text(stories(count))
    source = {"path": str(folder), "separator": MARK}
    _, summary = run_collect(home, files=[source], heldout_fraction=0.0, heldout_groups=["valid.txt"])
    assert (summary["documents_train"], summary["documents_heldout"]) == (9, 3)


def test_a_mark_between_documents_is_proposed_as_the_separator(home: Path, folder: Path) -> None:
    (folder / "a.txt").write_text(stories(30))
    source = {"path": str(folder)}
    with pytest.raises(DataError, match=r"occurs 30 times.*set collect\.files\.0\.separator='<\|endoftext\|>'"):
        run_collect(home, files=[source])
    (folder / "b.txt").write_text(stories(2))
    (folder / "c.txt").write_text(f"A page that names {MARK} once.")
    _, summary = run_collect(home, files=[source], heldout_groups=["b.txt"])
    (notice,) = summary["notices"]
    assert "occurs 32 times" in notice and f"collect.files.0.separator='{MARK}'" in notice


TEXTS = st.lists(st.text(st.sampled_from("ab<|>\n")), max_size=6)


@given(TEXTS, st.sampled_from(["<|>", "\n\n", "|", "<<"]), st.integers(1, 7))
def test_no_cut_of_the_stream_changes_what_is_between_separators(texts: list[str], mark: str, size: int) -> None:
    data = mark.join(texts).encode()
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    expected = [part.strip(b"\r\n") for part in data.split(mark.encode()) if part.strip()]
    found = list(split_parts(blocks, mark, 10**6))
    assert [raw for _, raw in found] == expected
    lines_of_data = data.split(b"\n")
    assert all(raw is not None and raw.split(b"\n")[0] in lines_of_data[line - 1] for line, raw in found)


def test_a_text_that_is_too_long_costs_itself() -> None:
    blocks = [b"short\n--", b"x" * 60, b"y\n\n" * 30, b"--\nlast\n"]
    assert list(split_parts(blocks, "--", 50)) == [(1, b"short"), (2, None), (63, b"last")]
