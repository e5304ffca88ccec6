"""From the pairs of all sources to the parts `pairs`, `preferences` and `labels`, and what is said of them.

In each part no row occurs twice within a split, and none of the held-out ones in training. A held-out row whose
question a user has corrected makes room for that: what people ask for is learned, and what is learned is not measured.
Prompts that have several answers stay as they are, since a question may have several, but are reported: often a field
is missing that tells them apart. An answer that was not liked (kto) becomes the rejected side of a preference where one
of its source with the same prompt was liked; another teaches nothing by itself and is left out, counted.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from storage.documents import (
    FEEDBACK,
    HELDOUT,
    LABELS,
    PAIRS,
    PAIRS_SCHEMA,
    PREFERENCES,
    SUPERVISED,
    TRAIN,
    Pair,
    pair_row,
    row_pair,
    write_rows,
)
from storage.listing import first_few
from storage.store.artifacts import StoredFile
from tasks.collect.feedback.sentences import feedback_sentences
from tasks.collect.forms import DISLIKED
from tasks.collect.gather import Collected, files_of, rows_in
from tasks.collect.supervised import FILES_OF, ROWS_OF, UNANSWERED, UNREAD
from tasks.engine.context import Context
from tasks.wording import clipped
from tasks.words import folded

PAIRS_PER_SHARD = 16_384
FIELDS_SHOWN = 5
EXAMPLE_COLUMNS = 63


@dataclass(slots=True)
class Contradictions:
    """Of one source, the prompts with several answers: how many there are, and the first."""

    prompts: set[bytes] = field(default_factory=set)
    example: str = ""


@dataclass(slots=True)
class Supervised:
    """What was counted of all parts; by source the prompts with several answers, and the answers that were not liked
    and stand alone. `taught` are the questions that are learned from users."""

    taught: frozenset[bytes] = frozenset()
    counts: dict[str, int] = field(default_factory=dict)
    contradictions: dict[str, Contradictions] = field(default_factory=lambda: defaultdict(Contradictions))
    alone: Counter[str] = field(default_factory=Counter)


def write_supervised(sources: Sequence[Collected], context: Context) -> Supervised:
    """Write the three parts, each without exact repeats; a training row that is also held out goes.

    Memory: 16 bytes and a set entry a distinct row of a part, and as much again a distinct prompt; of answers that were
    not liked, the liked ones that have their prompts.
    """
    made = Supervised(taught=_taught(sources))
    for part in SUPERVISED:
        files = list(files_of(sources, f"{part}."))
        judged = [pair_row(pair) for pair in _judged(sources, made)] if part == PREFERENCES else []
        counts = _write_part(part, files, judged, context, made)
        made.counts |= counts if files or judged or part == PAIRS else {}
    if made.alone:
        made.counts["preferences_alone"] = made.alone.total()
    return made


def _write_part(
    part: str, files: Sequence[StoredFile], judged: Sequence[dict[str, Any]], context: Context, made: Supervised
) -> dict[str, int]:
    """Write one part, at least one file, and note contradictions; returns its counts."""

    def rows() -> Iterator[dict[str, Any]]:
        return chain(rows_in(files), judged)

    def makes_room(row: Mapping[str, Any]) -> bool:
        return bool(made.taught) and part != LABELS and row["split"] == HELDOUT and _opening(row) in made.taught

    heldout = {_key(row) for row in rows() if row["split"] == HELDOUT and not makes_room(row)}
    names = ("read", "train", "heldout", "repeated", "leaking", *(("made_room",) if made.taught else ()))
    counts = {f"{part}_{name}": 0 for name in names}
    seen: set[bytes] = set()
    prompts: set[bytes] = set()

    def kept() -> Iterator[dict[str, Any]]:
        for row in rows():
            counts[f"{part}_read"] += 1
            key = _key(row)
            if makes_room(row):
                counts[f"{part}_made_room"] += 1
            elif row["split"] == TRAIN and key in heldout:
                counts[f"{part}_leaking"] += 1
            elif key in seen:
                counts[f"{part}_repeated"] += 1
            else:
                seen.add(key)
                counts[f"{part}_{row['split']}"] += 1
                prompt = _digest(row["source"], *_asked(row))
                if prompt in prompts and part != PREFERENCES:
                    found = made.contradictions[row["source"]]
                    found.prompts.add(prompt)
                    found.example = found.example or row["prompt"]
                prompts.add(prompt)
                yield row

    left = kept()
    shard = 0
    path = context.part(part)
    while write_rows(path / f"{shard:05d}.parquet", islice(left, PAIRS_PER_SHARD), PAIRS_SCHEMA) == PAIRS_PER_SHARD:
        shard += 1
    assert counts[f"{part}_read"] == sum(counts.values()) - counts[f"{part}_read"]
    return counts


def _taught(sources: Sequence[Collected]) -> frozenset[bytes]:
    """The questions of what users have said that is learned from."""
    own = [source for source in sources if source.name == FEEDBACK]
    rows = chain.from_iterable(rows_in(files_of(own, f"{part}.")) for part in (PAIRS, PREFERENCES))
    return frozenset(_opening(row) for row in rows if row["split"] == TRAIN)


def _opening(row: Mapping[str, Any]) -> bytes:
    """The first question of a row, without regard to case and spacing."""
    return _digest(folded(row_pair(row).opening))


def _judged(sources: Sequence[Collected], made: Supervised) -> Iterator[Pair]:
    """Preferences of answers that were not liked and the first that was, of the same source and prompt."""
    for source in sources:
        disliked = list(files_of([source], f"{DISLIKED}."))
        wanted = {_digest(*_asked(row)) for row in rows_in(disliked)}
        liked: dict[bytes, str] = {}
        for row in rows_in(files_of([source], f"{PAIRS}.")) if wanted else ():
            digest = _digest(*_asked(row))
            if digest in wanted:
                liked.setdefault(digest, row["answer"])
        for row in rows_in(disliked):
            pair, chosen = row_pair(row), liked.get(_digest(*_asked(row)))
            if chosen is None or chosen == pair.answer:
                made.alone[source.name] += 1
            else:
                yield Pair.of(pair.prompt, chosen, pair.group, pair.split, pair.source, pair.earlier, pair.answer)


def supervised_notices(sources: Sequence[Collected], made: Supervised) -> Iterator[str]:
    """What the user should know of instruction data of his own: its forms, and what of it is not learned."""
    for source in sources:
        if source.makes_documents:
            continue
        figures = figures_of(source)
        if source.name == FEEDBACK:
            yield from feedback_sentences(figures)
            if room := sum(made.counts.get(f"{part}_made_room", 0) for part in SUPERVISED):
                yield f"source {FEEDBACK}: {room:,} held-out rows made room, as a user has corrected their question"
            continue
        forms = [
            f"{form} ({count:,} records of {(files := figures[f'{FILES_OF} {form}']):,} file{'s' * (files != 1)})"
            for form, count in named(figures, ROWS_OF)
        ]
        if forms:
            yield f"source {source.name}: read as {', '.join(forms)}"
        if figures[UNANSWERED]:
            yield (
                f"source {source.name}: {figures[UNANSWERED]:,} conversations end with a question, which is left out, "
                "as nothing answers it"
            )
        if made.alone[source.name]:
            yield (
                f"source {source.name}: {made.alone[source.name]:,} answers were not liked, and none with the same "
                "prompt was: left out, as they show no preference"
            )
        fields = [f"{name} ({count:,})" for name, count in named(figures, UNREAD)]
        if fields:
            yield (
                f"source {source.name}: fields that records fill and that are not learned: "
                f"{', '.join(first_few(fields, FIELDS_SHOWN))} (what belongs to the prompt: {source.place}.input_field)"
            )
        if source.name in made.contradictions:
            found = made.contradictions[source.name]
            example = clipped(found.example, EXAMPLE_COLUMNS)
            plural = "prompts have" if len(found.prompts) > 1 else "prompt has"
            yield (
                f"source {source.name}: {len(found.prompts):,} {plural} several answers, all of them learned, such as "
                f"{example!r} (a field that tells them apart: {source.place}.input_field)"
            )


def figures_of(source: Collected) -> Counter[str]:
    """The counts of all jobs of a source."""
    figures: Counter[str] = Counter()
    for result in source.results:
        figures.update({name: count for name, count in result.summary.items() if isinstance(count, int)})
    return figures


def named(figures: Mapping[str, int], prefix: str) -> list[tuple[str, int]]:
    """The figures with a prefix, without it: the largest first."""
    found = [
        (name.removeprefix(f"{prefix} "), count) for name, count in figures.items() if name.startswith(f"{prefix} ")
    ]
    return sorted(found, key=lambda one: (-one[1], one[0]))


def _asked(row: Mapping[str, Any]) -> list[str]:
    """The texts that an answer follows, with their roles."""
    return [*(text for message in row["earlier"] for text in (message["role"], message["content"])), row["prompt"]]


def _key(row: Mapping[str, Any]) -> bytes:
    """What tells rows apart."""
    more = [row["rejected"]] if row["rejected"] else []
    return _digest(*_asked(row), row["answer"], *more)


def _digest(*texts: str) -> bytes:
    return hashlib.sha256("\0".join(texts).encode()).digest()[:16]
