"""What a stage lost, in sentences: so that nobody finds out after the training that a source is gone.

A stage counts what it read and kept of each source and each language, and which rule dropped the rest. A sentence is
due, by the shares of what was read, for

- a stage that keeps less than a fifth (`LEAST_KEPT`),
- a source or language that loses more than half (`MOST_LOST`),
- a source or language that loses everything.

Each sentence names the most frequent rule, how much it dropped and the field that loosens it:
`filter kept 3 of 60 documents of source zh: 57 dropped by min_words (filter.min_words)`. A stage returns them in its
summary as `"notices"`; the console, the plan, the report and `--json` show them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from storage.errors import DataError
from storage.listing import first_few

NOTICES = "notices"  # the name in a summary
LEAST_KEPT = 1 / 5  # of what a stage reads
MOST_LOST = 1 / 2  # of what it reads of one source or language
MOST_SENTENCES = 20  # of one stage; the rest are counted


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of a source or language: `dropped` counts by rule, `read` = kept + dropped."""

    read: int
    kept: int
    dropped: Mapping[str, int]

    @property
    def lost(self) -> int:
        return self.read - self.kept


Groups = Mapping[str, Mapping[str, Tally]]  # what groups are of ("source", "language") -> name -> tally


def loss_notices(stage: str, groups: Groups, fields: Mapping[str, str], unit: str = "documents") -> list[str]:
    """The sentences that are due, the heaviest loss first.

    The tallies of every kind of group add up to the stage's own, so the first kind counts it. `fields` names the
    field of the recipe that loosens a rule. What one group alone says for the whole stage is not said of the stage,
    and a language that comes out exactly as a source has is not said beside it.
    """
    said: list[Tally] = []  # of the kinds before
    sentences: list[tuple[float, str]] = []
    for kind, named in groups.items():
        heavy = {name: one for name, one in named.items() if one.lost > MOST_LOST * one.read and one not in said}
        said += heavy.values()
        sentences += [
            (one.kept / one.read, _sentence(stage, f"{unit} of {kind} {name}", one, fields))
            for name, one in heavy.items()
        ]
    whole = _added(next(iter(groups.values()), {}))
    if whole.kept < LEAST_KEPT * whole.read and whole not in said:
        sentences.append((-1.0, _sentence(stage, unit, whole, fields)))
    shown = [sentence for _, sentence in sorted(sentences)]
    return first_few(shown, MOST_SENTENCES, "sources or languages that lost over half")


def check_nothing_lost(
    stage: str, sources: Mapping[str, Tally], fields: Mapping[str, str], unit: str = "documents"
) -> None:
    """Raise DataError for the sources of which nothing is left, although something was read of them."""
    lost = [
        _sentence(stage, f"{unit} of source {name}", tally, fields)
        for name, tally in sorted(sources.items())
        if tally.read and not tally.kept
    ]
    if lost:
        raise DataError("\n".join(lost))


def notices_of(summary: Mapping[str, Any]) -> list[str]:
    """The sentences in a summary; none where a stage has nothing to say."""
    return list(summary.get(NOTICES, ()))


def without_notices(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a summary alone."""
    return {name: value for name, value in summary.items() if name != NOTICES}


def _added(named: Mapping[str, Tally]) -> Tally:
    dropped: Counter[str] = Counter()
    for tally in named.values():
        dropped.update(tally.dropped)
    return Tally(sum(one.read for one in named.values()), sum(one.kept for one in named.values()), dict(dropped))


def _sentence(stage: str, what: str, tally: Tally, fields: Mapping[str, str]) -> str:
    kept = f"{tally.kept:,}" if tally.kept else "none"
    return f"{stage} kept {kept} of {tally.read:,} {what}" + "".join(_reason(tally, fields))


def _reason(tally: Tally, fields: Mapping[str, str]) -> Iterator[str]:
    if not tally.dropped:
        return
    rule, count = min(tally.dropped.items(), key=lambda one: (-one[1], one[0]))
    yield f": {count:,} dropped by {rule}" + (f" ({fields[rule]})" if rule in fields else "")
    if tally.lost > count:
        yield f", {tally.lost - count:,} by other rules"
