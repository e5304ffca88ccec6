"""What the report shows of the filter: the rules that dropped documents, with examples, what all are like, and how many
of each language were kept.
"""

from collections import Counter
from collections.abc import Iterator

from storage.documents import UNDETERMINED
from storage.listing import and_more
from tasks.engine.about import DOCUMENTS, LEDGER, MadeRun
from tasks.engine.reported import Example, Reason, Section, Table
from tasks.filter.by_group import by_group
from tasks.filter.histograms import signal_histograms
from tasks.filter.wording import rule_text, value_text
from tasks.shards.examples import counts_of, documents_with, example_of, rows_by_reason
from tasks.wording import as_per_cent, figure

MOST_LANGUAGES = 20  # a row each
LANGUAGES = "Languages that the filter read"
LEARNED = "What the filter learned from texts of yours"
JUDGES = {  # figures of the summary
    "quality_rows": "Pieces of good and bad texts that the classifier learned from",
    "quality_heldout_rows": "Pieces held out, to score it",
    "quality_accuracy": "Share of these that it puts right",
    "quality_auc": "Chance that a good one of these scores higher than a bad one",
    "reference_bytes": "Bytes of the reference whose n-grams foretell documents",
}
COLUMNS = ("language", "read", "kept", "dropped", "share dropped")


def report(run: MadeRun, stage: str) -> Section:
    """Cost: two passes over the signals, two over the ledger, and the shards that hold an example."""
    signals, ledger = run.part(stage, "signals"), run.part(stage, LEDGER)
    histograms = signal_histograms(signals, run.config(stage), run.summary(stage)) if signals else ()
    languages = tuple(_languages(counts_of(signals, "language"), counts_of(ledger, "language")))
    tables = (Table(heading=LANGUAGES, columns=COLUMNS, rows=languages),) if languages else ()
    figures = run.summary(stage)
    if judges := tuple((text, figure(figures[name])) for name, text in JUDGES.items() if name in figures):
        tables = (*tables, Table(heading=LEARNED, columns=("what", "figure"), rows=judges))
    return Section(reasons=tuple(_reasons(run, stage)), histograms=histograms, tables=(*tables, *by_group(run, stage)))


def _languages(read: Counter[str], dropped: Counter[str]) -> Iterator[tuple[str, ...]]:
    """The languages read most, what is in no known language among them, and the others together."""
    names = sorted(read, key=lambda name: (-read[name], name))
    groups = [("not known" if name == UNDETERMINED else name, [name]) for name in names[:MOST_LANGUAGES]]
    if rest := names[MOST_LANGUAGES:]:
        groups.append((and_more(len(rest)), rest))
    for title, inside in groups:
        count, lost = (sum(counts[name] for name in inside) for counts in (read, dropped))
        yield title, figure(count), figure(count - lost), figure(lost), as_per_cent(lost / count)


def _reasons(run: MadeRun, stage: str) -> Iterator[Reason]:
    ledger, documents = run.part(stage, LEDGER), run.read(stage, DOCUMENTS)
    counts, picked = rows_by_reason(ledger, "rule")
    files = documents.files if documents else ()
    for rule, count in counts.items():
        shards = {row["shard"] for row in picked[rule] if row["shard"] < len(files)}
        texts = documents_with([files[shard] for shard in sorted(shards)], {row["id"] for row in picked[rule]})
        examples: list[Example] = []
        for row in picked[rule]:
            examples += example_of(texts.get(row["id"]), value_text(rule, row["value"]))
        what = rule_text(rule, picked[rule][0]["threshold"])
        yield Reason(name=rule, what=what, count=count, examples=tuple(examples))
