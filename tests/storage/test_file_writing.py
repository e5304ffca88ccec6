"""Files change in one step, vanish in one step, and locks are held by one or by all who share."""

import json
import os
from pathlib import Path

import pytest

from storage import files
from storage.files import clone_or_copy, is_utf8, link_or_copy, locked, read_json, remove_tree, write_atomic, write_json


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.json"
    write_json(path, {"b": [1, "ü"], "a": None})
    assert path.read_text() == '{"a":null,"b":[1,"ü"]}\n' and read_json(path) == {"b": [1, "ü"], "a": None}
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two" and list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_contents_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"old")

    def full(path: Path) -> None:
        raise OSError("no space")

    monkeypatch.setattr(files, "fsync_path", full)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["{", "", "\x00"])
def test_json_that_is_cut_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    assert read_json(path) is None
    path.write_text(text)
    assert read_json(path) is None and read_json(path / "below") is None
    with pytest.raises(IsADirectoryError):
        read_json(tmp_path)


def test_a_link_is_the_file_itself_and_a_copy_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_text("text")
    link_or_copy(source, tmp_path / "link")
    clone_or_copy(source, tmp_path / "clone")

    def no_links(self: Path, target: Path) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    link_or_copy(source, tmp_path / "copy")
    same = {name: source.samefile(tmp_path / name) for name in ("link", "clone", "copy")}
    assert same == {"link": True, "clone": False, "copy": False}
    assert (tmp_path / "clone").read_text() == (tmp_path / "copy").read_text() == "text"
    with pytest.raises(FileExistsError):
        clone_or_copy(source, tmp_path / "clone")


def test_a_folder_a_file_and_nothing_are_removed(tmp_path: Path) -> None:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "file").touch()
    (tmp_path / "file").touch()
    for name in ("folder", "file", "nothing"):
        remove_tree(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_text_are_known() -> None:
    assert is_utf8("größe") and not is_utf8(os.fsdecode(b"gr\xf6\xdfe"))


@pytest.mark.parametrize(
    ("first", "second", "got"), [(False, False, False), (True, False, False), (False, True, False), (True, True, True)]
)
def test_a_lock_is_exclusive_unless_both_share_it(tmp_path: Path, first: bool, second: bool, got: bool) -> None:
    path = tmp_path / "below" / "lock"
    with locked(path, shared=first) as held:
        assert held
        with locked(path, shared=second, blocking=False) as also:
            assert also is got
    with locked(path, blocking=False) as free:
        assert free


def test_canonical_json_is_one_form_of_equal_values(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"b": 1, "a": {"d": 2.5, "c": True}})
    write_json(tmp_path / "b", json.loads('{"a": {"c": true, "d": 2.50}, "b": 1}'))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
