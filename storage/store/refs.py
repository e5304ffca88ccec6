"""Named references: names for artifacts, and what `gc` must keep because of them, in one file `store/refs.json`.

All names are in one file so that several are set in one step: a champion and the one before it never both get lost.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from storage.canonical import canonical_json
from storage.errors import StoreError
from storage.store.local import Store

LEASE_SECONDS = 10.0  # a change takes moments
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Ref:
    """What a name points to; `keep` are the other artifacts that stay as long as the name does, `note` is JSON."""

    artifact: str
    keep: tuple[str, ...] = ()
    note: Mapping[str, Any] = field(default_factory=dict)


def read_refs(store: Store) -> dict[str, Ref]:
    """All names; raises StoreError where the file is damaged: what it kept is not known then."""
    data = store.read_names()
    if data is None:
        return {}
    try:
        value: Any = json.loads(data)
        return {name: Ref(row["artifact"], tuple(row["keep"]), dict(row["note"])) for name, row in value.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        path = store.names_path
        raise StoreError(f"{path}: is damaged; delete it and set the names again (llmill promote)") from None


@contextmanager
def changing_refs(store: Store) -> Iterator[dict[str, Ref]]:
    """The names, to be changed in the block; written in one step at its end. Nobody else changes any meanwhile.

    Raises StoreError, and changes none, for a malformed new name or one that points to what the store does not hold.
    """
    with store.unswept(), store.lock("refs", LEASE_SECONDS):
        names = read_refs(store)
        before = dict(names)
        yield names
        if names != before:
            _check(store, {name: ref for name, ref in names.items() if before.get(name) != ref})
            _write(store, names)


def _check(store: Store, names: Mapping[str, Ref]) -> None:
    for name, ref in names.items():
        if not _NAME.fullmatch(name):
            raise StoreError(f"ref {name!r}: a name is of a-z, 0-9, '.', '_', '-', at most 64 characters")
        if store.artifact(ref.artifact) is None:
            raise StoreError(f"ref {name}: the store holds no artifact {ref.artifact}")


def _write(store: Store, names: Mapping[str, Ref]) -> None:
    rows = {name: {"artifact": ref.artifact, "keep": list(ref.keep), "note": ref.note} for name, ref in names.items()}
    store.write_names(canonical_json(rows) + b"\n")


def kept_by_refs(store: Store) -> set[str]:
    """The digests of all artifacts that a name keeps."""
    return {digest for ref in read_refs(store).values() for digest in (ref.artifact, *ref.keep)}
