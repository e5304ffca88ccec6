"""One canonical form for everything that is hashed.

Canonical JSON: UTF-8, sorted keys, no spaces, no NaN. What has no deterministic form (a set, an arbitrary
object) raises: a permissive `str()` here would turn into silent cache misses or, worse, stale hits.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> bytes:
    """The one byte string of a JSON value; raises TypeError or ValueError for what has no deterministic form."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(value: Any) -> str:
    """SHA-256 (hexadecimal) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted names; an empty mapping has none."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    rows: dict[str, Any] = {}
    for name, inner in value.items():
        rows |= flat(inner, f"{prefix}.{name}" if prefix else str(name))
    return rows


def differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: dotted name, old and new value; None for what a side does not have.

    Members of lists of mappings, such as sources of text, are known by their `name`, else by their place; one that only
    a side has is given as a whole. 1 is not 1.0.
    """
    if type(old) is type(new) and isinstance(old, (str, int, float, type(None))):
        same = bool(old == new)
    else:
        same = canonical_json(old) == canonical_json(new)
    if same:
        return
    sides = [{} if side is None else side for side in (old, new)]
    listed = not all(isinstance(side, Mapping) for side in sides)
    if listed and not all(_holds_mappings(side) for side in (old, new)):
        yield name, old, new
        return
    if listed:
        named = all(_are_named(side) for side in sides)
        sides = [{one["name"] if named else str(place): one for place, one in enumerate(side)} for side in sides]
    before, after = sides
    kept, now = [one for one in before if one in after], [one for one in after if one in before]
    if listed and kept != now:
        yield name, kept, now
    for inner in [*before, *(one for one in after if one not in before)]:
        full = f"{name}.{inner}" if name else inner
        if listed and (inner not in before or inner not in after):
            yield full, before.get(inner), after.get(inner)
        else:
            yield from differences(before.get(inner), after.get(inner), full)


def _holds_mappings(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, Mapping) for one in value)


def _are_named(members: Sequence[Mapping[str, Any]]) -> bool:
    names = [one.get("name") for one in members]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def fraction_of(purpose: str, text: str) -> float:
    """A number from 0 to 1 that a text always has, as if drawn: for shares of a set that no order decides.

    Other purposes draw other numbers. Computed from the first 64 bits of SHA-256.
    """
    return int.from_bytes(hashlib.sha256(f"{purpose}\0{text}".encode()).digest()[:8], "big") / 2**64
