"""From the pairs of all sources to the part `pairs`, and what is said of them.

No pair occurs twice within a split, and none of the held-out ones in training. Prompts that have several answers stay
as they are, since a question may have several, but are reported: often a field is missing that tells them apart.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.documents import HELDOUT, PAIRS_SCHEMA, TRAIN, write_rows
from storage.listing import first_few
from tasks.collect.files import GOES_ON, LEFT_OUT, UNREAD
from tasks.collect.gather import Collected, files_of, rows_in
from tasks.wording import clipped

PAIRS_PER_SHARD = 16_384
FIELDS_SHOWN = 5
EXAMPLE_COLUMNS = 63


@dataclass(slots=True)
class Contradictions:
    """Of one source, the prompts with several answers: how many there are, and the first."""

    prompts: set[bytes] = field(default_factory=set)
    example: str = ""


def write_pairs(sources: Sequence[Collected], folder: Path) -> tuple[dict[str, int], dict[str, Contradictions]]:
    """Write the pairs except exact repeats; a training pair that is also held out goes. Returns counts, and by
    source the prompts with several answers.

    Memory: 16 bytes and a set entry a distinct pair, and as much again a distinct prompt.
    """
    files = list(files_of(sources, "pairs."))
    heldout = {_digest(row["prompt"], row["answer"]) for row in rows_in(files) if row["split"] == HELDOUT}
    counts = {"pairs_read": 0, "pairs_train": 0, "pairs_heldout": 0, "pairs_repeated": 0, "pairs_leaking": 0}
    seen: set[bytes] = set()
    prompts: set[bytes] = set()
    contradictions: dict[str, Contradictions] = defaultdict(Contradictions)

    def kept() -> Iterator[dict[str, Any]]:
        for row in rows_in(files):
            counts["pairs_read"] += 1
            digest = _digest(row["prompt"], row["answer"])
            if row["split"] == TRAIN and digest in heldout:
                counts["pairs_leaking"] += 1
            elif digest in seen:
                counts["pairs_repeated"] += 1
            else:
                seen.add(digest)
                counts[f"pairs_{row['split']}"] += 1
                prompt = _digest(row["source"], row["prompt"])
                if prompt in prompts:
                    found = contradictions[row["source"]]
                    found.prompts.add(prompt)
                    found.example = found.example or row["prompt"]
                prompts.add(prompt)
                yield row

    rows = kept()
    shard = 0
    while write_rows(folder / f"{shard:05d}.parquet", _take(rows, PAIRS_PER_SHARD), PAIRS_SCHEMA) == PAIRS_PER_SHARD:
        shard += 1
    assert counts["pairs_read"] == sum(counts.values()) - counts["pairs_read"]
    return counts, contradictions


def pair_notices(sources: Sequence[Collected], contradictions: dict[str, Contradictions]) -> Iterator[str]:
    """What the user should know of the pairs of his own: what of the records was not learned, and what cannot be."""
    for source in sources:
        if source.makes_documents:
            continue
        figures: Counter[str] = Counter()
        for result in source.results:
            figures.update({name: count for name, count in result.summary.items() if isinstance(count, int)})
        if figures[GOES_ON]:
            yield (
                f"source {source.name}: {figures[GOES_ON]:,} conversations have several turns, of which the first "
                f"question and its answer are learned ({source.place}.leave_out=[several_turns] leaves them out)"
            )
        for name, count in _named(figures, LEFT_OUT):
            yield f"source {source.name}: {count:,} records left out ({source.place}.leave_out): {name}"
        fields = [f"{name} ({count:,})" for name, count in _named(figures, UNREAD)]
        if fields:
            yield (
                f"source {source.name}: fields that records fill and that are not learned: "
                f"{', '.join(first_few(fields, FIELDS_SHOWN))} (what belongs to the prompt: {source.place}.input_field)"
            )
        if source.name in contradictions:
            found = contradictions[source.name]
            example = clipped(found.example, EXAMPLE_COLUMNS)
            plural = "prompts have" if len(found.prompts) > 1 else "prompt has"
            yield (
                f"source {source.name}: {len(found.prompts):,} {plural} several answers, all of them learned, such as "
                f"{example!r} (a field that tells them apart: {source.place}.input_field)"
            )


def _named(figures: Counter[str], prefix: str) -> list[tuple[str, int]]:
    """The figures with a prefix, without it: the largest first."""
    named = [
        (name.removeprefix(f"{prefix} "), count) for name, count in figures.items() if name.startswith(f"{prefix} ")
    ]
    return sorted(named, key=lambda one: (-one[1], one[0]))


def _take(rows: Iterator[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    for _, row in zip(range(count), rows, strict=False):
        yield row


def _digest(*texts: str) -> bytes:
    return hashlib.sha256("\0".join(texts).encode()).digest()[:16]
