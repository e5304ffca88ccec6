"""Sentences about many things of a few kinds: the most frequent kinds with their counts, and an example of each."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from storage.listing import and_more
from tasks.collect.discover import counted

KINDS_SHOWN = 5
MOST_KINDS = 200  # that a job counts one by one; a reader may word its reasons freely
OTHER = "other"
_NUMBER = re.compile(r"\d[\d,.]*")
FOUND_AS = "read as "  # before an encoding, in what was found out of files
_FOUND = {  # by the second word of what was found out: what it is of several, and what says otherwise
    "as": ("read in an encoding that was found out", " (`encoding` of the source says otherwise)"),
    "with": ("read in a form that was found out", " (`delimiter` and `quote` of the source say otherwise)"),
    "packed": ("not packed as the name says", ", and read as it is"),
    "XML": ("damaged", ", and read as far as that goes"),
}
_ONE = {  # the same of one kind alone
    "as": " (found out: `encoding` of the source says otherwise)",
    "with": " (found out: `delimiter` and `quote` of the source say otherwise)",
    "packed": ", though the name says so, and read as it is",
    "XML": ", and read as far as that goes: `damaged` in the metadata of the document says where",
}


@dataclass(slots=True)
class BadKind:
    """Bad records with one reason: how many, the first one, and whether the reasons of others differ in numbers."""

    count: int
    where: str
    reason: str
    varies: bool = False

    def sentence(self) -> str:
        """The reason with its count and example."""
        if self.count == 1:
            return f"{self.where}: {self.reason}"
        return f"{self.count:,} records: {self.reason}{', and like it' if self.varies else ''} ({self.where})"


class BadKinds:
    """Bad records by the kind of their reason: its words, whatever the numbers in it."""

    def __init__(self) -> None:
        self._kinds: dict[str, BadKind] = {}

    def add(self, where: str, reason: str) -> None:
        """Count one."""
        self._add(BadKind(1, where, reason))

    def merge(self, listed: Iterable[Mapping[str, Any]]) -> None:
        """Add what another has listed."""
        for kind in listed:
            self._add(BadKind(**kind))

    def listed(self) -> list[dict[str, Any]]:
        """The kinds as they go into a summary."""
        return [{name: getattr(kind, name) for name in BadKind.__slots__} for kind in self._kinds.values()]

    def first(self) -> str:
        """The first one that was met, with its place; empty where there is none."""
        return next((f"{kind.where}: {kind.reason}" for kind in self._kinds.values()), "")

    def sentences(self) -> list[str]:
        """The most frequent kinds, the first met of equals first, and how many records there are of others."""
        ordered = sorted(self._kinds.values(), key=lambda kind: -kind.count)
        more = sum(kind.count for kind in ordered[KINDS_SHOWN:])
        said = [kind.sentence() for kind in ordered[:KINDS_SHOWN]]
        return [*said, and_more(more, "of other kinds")] if more else said

    def _add(self, new: BadKind) -> None:
        kind = _NUMBER.sub("#", new.reason)
        if kind not in self._kinds and len(self._kinds) >= MOST_KINDS:
            kind = OTHER
        known = self._kinds.setdefault(kind, new)
        if known is not new:
            known.varies = known.varies or new.varies or known.reason != new.reason
            known.count += new.count


def found_sentences(source: str, found: Mapping[str, int]) -> Iterator[str]:
    """What was found out of the files of a source, a sentence for each sort: encodings, separators, packings."""
    for sort, (what, otherwise) in _FOUND.items():
        kinds = Counter({kind: count for kind, count in sorted(found.items()) if kind.split(" ")[1] == sort})
        if len(kinds) == 1:
            ((kind, count),) = kinds.items()
            yield f"source {source}: {counted(count, 'file')} {kind}{_ONE[sort]}"
        elif kinds:
            common = kinds.most_common(KINDS_SHOWN)
            said = [f"{count:,} {_short(kind)}" for kind, count in common]
            rest = kinds.total() - sum(count for _, count in common)
            said += [f"{rest:,} in others"] if rest else []
            yield f"source {source}: {counted(kinds.total(), 'file')} {what}: {', '.join(said)}{otherwise}"


def _short(kind: str) -> str:
    """`cp1252 by a guess` of `read as cp1252 by a guess`."""
    return kind.removeprefix(FOUND_AS).removeprefix("not packed as ").removeprefix("read with fields ")
