"""What the report shows of the filter: the rules that dropped documents, with examples, and what all are like."""

from collections.abc import Iterator

from tasks.engine.about import DOCUMENTS, LEDGER, MadeRun
from tasks.engine.reported import Example, Reason, Section
from tasks.filter.histograms import signal_histograms
from tasks.filter.wording import rule_text, value_text
from tasks.shards.examples import documents_with, example_of, rows_by_reason


def report(run: MadeRun, stage: str) -> Section:
    """Cost: one pass over the signals, one over the ledger, and the shards that hold an example."""
    signals = run.part(stage, "signals")
    histograms = signal_histograms(signals, run.config(stage), run.summary(stage)) if signals else ()
    return Section(reasons=tuple(_reasons(run, stage)), histograms=histograms)


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
