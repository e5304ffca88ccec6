"""What the report shows of collect: modules without prose by source, bad records, languages, the fate of pairs."""

from collections import Counter
from collections.abc import Iterable, Iterator

from storage.documents import LABELS, PREFERENCES, read_rows
from storage.listing import and_more
from tasks.collect.discover import where_in
from tasks.collect.output import DROPPED, ENCODING
from tasks.engine.about import DOCUMENTS, Figures, MadeRun
from tasks.engine.reported import Count, Example, Reason, Section
from tasks.shards.examples import EXAMPLES, beginning, counts_of

LANGUAGES = "Languages that the sources state"
ENCODINGS = "Files by the encoding that was found out"
MOST_LANGUAGES = 20  # a row each
PAIRS = "Pairs for fine-tuning"  # a heading that fine-tuning shares
MOST_REASONS = 200  # counted one by one; a reader may word its reasons freely
_SAID = {
    "read": "read",
    "repeated": "repeated, dropped",
    "leaking": "in training and held out, dropped from training",
    "made_room": "held out, made room for the question of a user",
    "alone": "not liked and without a liked one, left out",
    "train": "for training",
    "heldout": "held out",
}
PREFERENCES_HEADING = "Preferences"  # a heading that alignment shares
_HEADINGS = {
    PREFERENCES: PREFERENCES_HEADING,
    LABELS: "Texts with labels",
}  # of pairs fine-tuning says what became of them


def report(run: MadeRun, stage: str) -> Section:
    """Reasons add up to what was dropped and quarantined."""
    summary = run.summary(stage)
    pairs = _counts(summary, "pairs", ("read", "repeated", "leaking", "made_room"))
    reasons = (*_dropped(run, stage), *_bad_records(run, stage))
    languages = _languages(counts_of(run.part(stage, DOCUMENTS), "lang"))
    tables = {PAIRS: pairs} | {heading: _counts(summary, part, _SAID) for part, heading in _HEADINGS.items()}
    tables[LANGUAGES] = languages
    tables[ENCODINGS] = tuple(_encodings(summary))
    return Section(reasons=reasons, counts={heading: rows for heading, rows in tables.items() if rows})


def _counts(summary: Figures, part: str, names: Iterable[str]) -> tuple[Count, ...]:
    """What was counted of a part of supervised data."""
    found = ((_SAID[name], summary.get(f"{part}_{name}")) for name in names)
    return tuple(Count(what=what, count=count) for what, count in found if count)


def _languages(documents: Counter[str]) -> tuple[Count, ...]:
    """The languages that sources state of most documents, the others together; none where no source states any."""
    stated = sorted(((count, name) for name, count in documents.items() if name), key=lambda one: (-one[0], one[1]))
    rows = [Count(what=name, count=count) for count, name in stated[:MOST_LANGUAGES]]
    if rest := stated[MOST_LANGUAGES:]:
        rows.append(Count(what=and_more(len(rest)), count=sum(count for count, _ in rest)))
    if rows and documents[""]:
        rows.append(Count(what="none stated", count=documents[""]))
    return tuple(rows)


def _encodings(summary: Figures) -> Iterator[Count]:
    """Each encoding that was found out, of each source, the most frequent first."""
    found = [(count, *name.partition(f".{ENCODING}")) for name, count in summary.items() if f".{ENCODING}" in name]
    for count, source, _, encoding in sorted(found, key=lambda one: (-one[0], one[1:])):
        yield Count(what=f"{encoding.replace('_guessed', ', by a guess')} ({source})", count=count)


def _dropped(run: MadeRun, stage: str) -> Iterator[Reason]:
    summary = run.summary(stage)
    by_rule: Counter[str] = Counter()
    for name, count in summary.items():
        source, separator, figure = name.rpartition(".")
        if separator and figure.startswith(DROPPED):
            by_rule[source] += count
            rule = figure.removeprefix(DROPPED).replace("_", " ")
            yield Reason(name=source, what=f"Dropped as {rule}, in the source {source}", count=count)
    for name, count in summary.items():
        source, separator, figure = name.rpartition(".")
        if separator and figure == "dropped" and count > by_rule[source]:
            rest = count - by_rule[source]
            yield Reason(name=source, what=f"Too little prose, in the source {source}", count=rest)


def _bad_records(run: MadeRun, stage: str) -> Iterator[Reason]:
    part = run.part(stage, "quarantine")
    counts: Counter[str] = Counter()
    examples: dict[str, list[Example]] = {}
    for row in read_rows(part / "quarantine.parquet") if part else ():
        reason = row["reason"] if row["reason"] in counts or len(counts) < MOST_REASONS else "other"
        counts[reason] += 1
        if len(examples.setdefault(reason, [])) < EXAMPLES:
            title, note = where_in(row["file"], row["line"]), "put aside, not read"
            text = beginning(row["excerpt"])
            examples[reason].append(Example(title=title, source=row["source"], text=text, note=note))
    for reason, count in counts.items():
        yield Reason(name="bad record", what=reason, count=count, examples=tuple(examples[reason]))
