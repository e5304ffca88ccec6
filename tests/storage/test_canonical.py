"""One form of a value, however it was made, and no form of what has none."""

import hashlib
from pathlib import Path

import pytest

from storage.canonical import canonical_json, differences, digest_file, digest_of, flat


def test_equal_values_have_one_form() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "ü"}) == '{"a":"ü","b":[1,2.5,null]}'.encode()
    assert digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_has_no_form_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical_json(value)


def test_a_file_s_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\r\n" * 100_000)
    assert digest_file(tmp_path / "a") == hashlib.sha256(b"\r\n" * 100_000).hexdigest()


def test_nested_settings_are_named_by_their_path() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2]}


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": 1, "b": {"c": [1, 2]}}, {"a": 1, "b": {"c": [1, 2]}}, []),
        ({"a": 1}, {"a": 1.0}, [("a", 1, 1.0)]),
        ({"a": 0, "b": ""}, {"a": None, "b": 0}, [("a", 0, None), ("b", "", 0)]),
        ({"a": {"b": 1}}, {"a": None}, [("a.b", 1, None)]),
        ({"a": None}, {"a": {"b": 1, "c": 2}}, [("a.b", None, 1), ("a.c", None, 2)]),
        ({"a": {"b": 1}}, {"a": 2}, [("a", {"b": 1}, 2)]),
        ({"a": [1]}, {"a": [1, 2]}, [("a", [1], [1, 2])]),
        # lists of mappings: by name, else by place
        ({"web": [{"name": "x", "pages": 1}]}, {"web": [{"name": "x", "pages": 2}]}, [("web.x.pages", 1, 2)]),
        ({"web": [{"name": "x", "pages": 1}]}, {"web": []}, [("web.x", {"name": "x", "pages": 1}, None)]),
        ({"web": [{"name": "x"}]}, {"web": [{"name": "y"}, {"name": "x"}]}, [("web.y", None, {"name": "y"})]),
        (
            {"web": [{"name": "x"}, {"name": "y"}]},
            {"web": [{"name": "y"}, {"name": "x"}]},
            [("web", ["x", "y"], ["y", "x"])],
        ),
        (
            {"phases": [{"share": 1}, {"share": 2}]},
            {"phases": [{"share": 1}, {"share": 3}]},
            [("phases.1.share", 2, 3)],
        ),
        (
            {"web": [{"name": "x", "n": 1}, {"name": "x", "n": 2}]},
            {"web": [{"name": "x", "n": 1}]},
            [("web.1", {"name": "x", "n": 2}, None)],
        ),
    ],
)
def test_differences_name_what_differs(old: object, new: object, found: list[object]) -> None:
    assert list(differences(old, new)) == found
