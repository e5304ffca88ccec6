"""What the report shows of the filter: the rules that dropped documents, with examples, what all are like, and how many
of each language were kept.
"""

from collections import Counter
from collections.abc import Iterator

from storage.listing import and_more
from tasks.engine.about import DOCUMENTS, LEDGER, MadeRun
from tasks.engine.reported import Example, Group, Reason, Section
from tasks.filter.histograms import signal_histograms
from tasks.filter.languages import UNDETERMINED
from tasks.filter.wording import rule_text, value_text
from tasks.shards.examples import counts_of, documents_with, example_of, rows_by_reason

MOST_LANGUAGES = 20  # a row each
LANGUAGE_NAMES = {UNDETERMINED: "not known"}


def report(run: MadeRun, stage: str) -> Section:
    """Cost: two passes over the signals, two over the ledger, and the shards that hold an example."""
    signals, ledger = run.part(stage, "signals"), run.part(stage, LEDGER)
    histograms = signal_histograms(signals, run.config(stage), run.summary(stage)) if signals else ()
    languages = _languages(counts_of(signals, "language"), counts_of(ledger, "language"))
    groups = {"Languages that the filter read": languages} if languages else {}
    return Section(reasons=tuple(_reasons(run, stage)), histograms=histograms, groups=groups)


def _languages(read: Counter[str], dropped: Counter[str]) -> tuple[Group, ...]:
    """The languages read most, those whose language is not known among them, and the others together."""
    names = sorted(read, key=lambda name: (-read[name], name))
    groups = [(LANGUAGE_NAMES.get(name, name), [name]) for name in names[:MOST_LANGUAGES]]
    if rest := names[MOST_LANGUAGES:]:
        groups.append((and_more(len(rest)), rest))
    return tuple(
        Group(name=title, read=count, kept=count - lost, dropped=lost)
        for title, inside in groups
        for count, lost in [(sum(read[name] for name in inside), sum(dropped[name] for name in inside))]
    )


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
