"""Named references: set in one step, refused where they point to nothing."""

from pathlib import Path

import pytest

from storage.errors import StoreError
from storage.store.local import Store
from storage.store.refs import Ref, changing_refs, kept_by_refs, read_refs


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_names_point_to_artifacts_until_they_are_forgotten(store: Store) -> None:
    first, second = (store.publish_artifact(stage, {}).digest for stage in ("one", "two"))
    assert read_refs(store) == {} and kept_by_refs(store) == set()
    with changing_refs(store) as names:
        names["champion"] = Ref(second, (first,), {"run": "a"})
        names["before"] = Ref(first)
    assert read_refs(store) == {"champion": Ref(second, (first,), {"run": "a"}), "before": Ref(first)}
    assert kept_by_refs(store) == {first, second}
    with changing_refs(store) as names:
        del names["champion"]
    assert read_refs(store) == {"before": Ref(first)}


def test_a_change_that_fails_changes_no_name(store: Store) -> None:
    first, second = (store.publish_artifact(stage, {}).digest for stage in ("one", "two"))
    with changing_refs(store) as names:
        names["champion"] = Ref(first)
    with pytest.raises(StoreError, match="holds no artifact"), changing_refs(store) as names:
        names["champion"] = Ref(second)
        names["before"] = Ref("0" * 64)
    with pytest.raises(RuntimeError), changing_refs(store) as names:
        names.clear()
        raise RuntimeError
    assert read_refs(store) == {"champion": Ref(first)}


@pytest.mark.parametrize("name", ["", "../up", "a/b", "A", ".hidden", "x" * 65])
def test_a_name_is_not_a_path(store: Store, name: str) -> None:
    digest = store.publish_artifact("one", {}).digest
    with pytest.raises(StoreError, match="name"), changing_refs(store) as names:
        names[name] = Ref(digest)


@pytest.mark.parametrize("text", ["{", "[]", '{"champion": {"artifact": "0"}}', '{"champion": 3}'])
def test_a_damaged_file_says_so(store: Store, text: str) -> None:
    with changing_refs(store) as names:
        names["champion"] = Ref(store.publish_artifact("one", {}).digest)
    (store.root / "refs.json").write_text(text)
    with pytest.raises(StoreError, match="damaged"):
        read_refs(store)
