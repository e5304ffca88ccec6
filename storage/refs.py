"""Named references: `store/refs/<name>.json` points to an artifact, and `gc` keeps what it points to.

Such a name is the champion: the released model that a retraining has to beat.
"""

import re
from pathlib import Path

from storage.errors import StoreError
from storage.files import read_json, write_json
from storage.store import Store

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def write_ref(store: Store, name: str, digest: str) -> None:
    """Point a name to an artifact, in one step; raises StoreError where the store does not hold the artifact."""
    if store.artifact(digest) is None:
        raise StoreError(f"ref {name}: the store holds no artifact {digest}")
    write_json(_path(store, name), {"artifact": digest})


def read_ref(store: Store, name: str) -> str | None:
    """The digest of the artifact that a name points to, or None where there is no such name."""
    path = _path(store, name)
    return _digest(path) if path.exists() else None


def refs(store: Store) -> dict[str, str]:
    """All names and the digests of the artifacts that they point to."""
    return {path.stem: _digest(path) for path in sorted((store.root / "refs").glob("[a-z0-9]*.json"))}


def delete_ref(store: Store, name: str) -> None:
    """Forget a name; what it pointed to stays until `gc`."""
    _path(store, name).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("artifact"), str):
        raise StoreError(f"{path}: is damaged; delete it and set the name again")
    return value["artifact"]


def _path(store: Store, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise StoreError(f"ref {name!r}: a name is of a-z, 0-9, '.', '_', '-', at most 64 characters")
    return store.root / "refs" / f"{name}.json"
