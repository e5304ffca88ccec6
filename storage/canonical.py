"""One canonical form for everything that is hashed.

Canonical JSON: UTF-8, sorted keys, no spaces, no NaN. What has no deterministic form (a set, an arbitrary
object) raises: a permissive `str()` here would turn into silent cache misses or, worse, stale hits.
"""

import hashlib
import json
from collections.abc import Mapping
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


def fraction_of(purpose: str, text: str) -> float:
    """A number from 0 to 1 that a text always has, as if drawn: for shares of a set that no order decides.

    Other purposes draw other numbers. Computed from the first 64 bits of SHA-256.
    """
    return int.from_bytes(hashlib.sha256(f"{purpose}\0{text}".encode()).digest()[:8], "big") / 2**64
