"""Named references: one step to set, refused where they point to nothing."""

from pathlib import Path

import pytest

from storage.errors import StoreError
from storage.refs import delete_ref, read_ref, refs, write_ref
from storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_name_points_to_an_artifact_until_it_is_forgotten(store: Store) -> None:
    first, second = (store.publish_artifact(stage, {}).digest for stage in ("one", "two"))
    assert read_ref(store, "champion") is None and refs(store) == {}
    write_ref(store, "champion", first)
    write_ref(store, "champion", second)
    write_ref(store, "before", first)
    assert read_ref(store, "champion") == second and refs(store) == {"before": first, "champion": second}
    delete_ref(store, "champion")
    delete_ref(store, "champion")
    assert refs(store) == {"before": first}


def test_what_the_store_does_not_hold_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="holds no artifact"):
        write_ref(store, "champion", "0" * 64)


@pytest.mark.parametrize("name", ["", "../up", "a/b", "A", ".hidden", "x" * 65])
def test_a_name_is_no_path(store: Store, name: str) -> None:
    digest = store.publish_artifact("one", {}).digest
    with pytest.raises(StoreError, match="name"):
        write_ref(store, name, digest)


def test_a_damaged_reference_says_so(store: Store) -> None:
    write_ref(store, "champion", store.publish_artifact("one", {}).digest)
    (store.root / "refs" / "champion.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        refs(store)
