"""The stage filter: documents in, those that pass every rule out, edited; a ledger and all signals beside them.

1. Each shard by itself (cached): the text is edited (edit.py), its signals are computed (signals.py) and stored. Of a
   shard that has changed only the new texts are (tasks/shards/reuse.py).
2. What learns from texts of the user's has learned (cached), and judges each shard (cached): judges.py.
3. All shards: thresholds are applied to the columns (rules.py). A changed threshold computes no signal again.
4. Each shard by itself (cached by the rows that it loses): the kept documents, edited. A shard that loses and
   changes nothing is not copied but linked.
5. Pairs, preferences and labels are redacted (pairs.py), since everything that is learned from is redacted.

What a source or a language lost is counted, and said where it is much (`tasks/notices.py`), as is what a rule could
not judge for want of knowledge of a language (unjudged.py).

Cost: about .2 ms for the language and .45 ms for all else of a document of 2.6 kB.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.documents import SUPERVISED, UNDETERMINED, read_rows, write_table
from storage.errors import DataError
from storage.store.artifacts import Artifact, StoredFile
from tasks.engine.context import Context, Job, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.filter.by_group import explained
from tasks.filter.config import FilterConfig
from tasks.filter.edit import LINE_RULES
from tasks.filter.judges import learn_judges, observe_texts, with_scores
from tasks.filter.pairs import redact_supervised
from tasks.filter.rules import LANGUAGE_RULES, RULES, Verdicts, judge
from tasks.filter.signals import ADDRESSES, EDIT_SETTINGS, EDITS, measure_shard
from tasks.filter.unjudged import Unjudged
from tasks.filter.urls import UrlRules, observe_url_lists
from tasks.notices import NOTICES, Tally, check_nothing_lost, loss_notices
from tasks.shards.drop_rows import drop_rows
from tasks.shards.reuse import nearness

FIELDS = {rule: f"filter.{rule}" for rule in (*RULES, *LINE_RULES)}
FIELDS |= {"min_language_score": "filter.languages", "max_blocked_url": "filter.blocked_urls"}
FIELDS |= {"max_url_words": "filter.url_words"}
LEAST_SHARE = 0.02  # of all documents: what is found of a rarer language is often a mistake of the identifier

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),  # the first that failed, or a line rule: rules.judge
        pa.field("value", pa.float64(), nullable=False),
        pa.field("threshold", pa.float64(), nullable=False),
        pa.field("language", pa.string(), nullable=False),  # as in the signals
        pa.field("shard", pa.int32(), nullable=False),
    ]
)


def observe_files(config: FilterConfig) -> dict[str, str]:
    """SHA-256 of each file that the settings name: lists of addresses, and texts that judges learn from."""
    return observe_url_lists(config) | observe_texts(config)


@stage(
    "filter",
    parts=("documents", "ledger", "signals", "redactions", *SUPERVISED),
    reads={"unique": ("documents",), "collected": SUPERVISED},
    observe=observe_files,
    libraries=(
        *("py3langid", "python-iso639", "phonenumbers", "publicsuffixlist", "pyarrow", UNICODE),
        *("numpy", "scikit-learn", "scipy", "safetensors"),  # of the judges
    ),
    about="tasks.filter.about.FILTER",
)
def filter_documents(config: FilterConfig, unique: Artifact, collected: Artifact, *, context: Context) -> Summary:
    """Drop documents by rule and edit the others. Summary: counts, also by rule (`dropped_RULE`) and of edits."""
    files = unique["documents"].files
    settings = job_settings(config)
    jobs = [Job(file.name, settings, {"documents": file}, nearness(file)) for file in files]
    measured = context.map(measure_shard, jobs)
    judges = learn_judges(config, context)
    scored = judges.scores(files, measured, context)

    kept_jobs, ledger, edits = [], [], Counter[str]()
    losses, unjudged = _Losses(), Unjudged(config)
    kept_bytes, rules = 0, UrlRules(config)
    for number, (file, result, scores) in enumerate(zip(files, measured, scored, strict=True)):
        context.link("redactions", file.name, result.files["redactions.parquet"])
        signals = _all_signals(file, result.files["signals.parquet"], scores, rules, context)
        verdicts = judge(config, signals)
        losses.count("source", pq.read_table(file.path, columns=["source"])["source"].to_pylist(), verdicts)
        losses.count("language", signals["language"].to_pylist(), verdicts)
        ledger.append(_ledger(number, signals, verdicts))
        stays = signals.filter(_others(len(signals), verdicts.rows.tolist()))
        unjudged.count(stays)
        kept_bytes += sum(stays["bytes"].to_pylist())
        edits.update({name: sum(stays[name].to_pylist()) for name in EDITS})
        inputs = {"documents": file}
        if result.summary["edited"]:
            inputs["edited"] = result.files["edited.parquet"]
        kept_jobs.append(Job(file.name, {"dropped": verdicts.rows.tolist()}, inputs))

    dropped = pa.concat_tables(ledger) if ledger else LEDGER_SCHEMA.empty_table()
    reasons = Counter(dropped["rule"].to_pylist())
    groups = losses.groups()
    read = sum(tally.read for tally in groups["source"].values())
    try:
        _check_something_left(read, reasons)
        check_nothing_lost("filter", groups["source"], FIELDS)
    except DataError as error:
        raise DataError(f"{error}\n{explained(config, files, context.part('signals'))}".strip()) from None
    write_table(context.part("ledger") / "ledger.parquet", dropped)

    changed = [job for job in kept_jobs if job.config["dropped"] or "edited" in job.inputs]
    written = {result.name: result for result in context.map(write_kept, changed)}
    for job in kept_jobs:
        shard = written[job.name].files["documents.parquet"] if job.name in written else job.inputs["documents"]
        context.link("documents", job.name, shard)
    return {
        "read": read,
        "kept": read - len(dropped),
        "dropped": len(dropped),
        "quarantined": 0,
        "kept_bytes": kept_bytes,
        **{f"dropped_{rule}": count for rule, count in sorted(reasons.items())},
        **edits,
        **judges.summary,
        **redact_supervised(settings, collected, context),
        NOTICES: [*loss_notices("filter", groups, FIELDS), *unjudged.notices(), *judges.notices()],
    }


def _all_signals(
    file: StoredFile, measured: StoredFile, scores: StoredFile | None, rules: UrlRules, context: Context
) -> pa.Table:
    """The signals of a shard, those of web addresses and of judges among them where the recipe asks for these."""
    signals = with_scores(pq.read_table(measured.path), scores)
    if not rules.given and scores is None:
        context.link("signals", file.name, measured)
        return signals
    if rules.given:
        found = rules.signals(pq.read_table(file.path, columns=["url"])["url"].to_pylist())
        for name, values in zip(ADDRESSES, found, strict=True):
            place = signals.schema.get_field_index(name)
            signals = signals.set_column(place, signals.schema.field(name), pa.array(values, pa.int64()))
    write_table(context.part("signals") / file.name, signals)
    return signals


def _ledger(shard: int, signals: pa.Table, verdicts: Verdicts) -> pa.Table:
    """A row for each document of a shard that is dropped."""
    columns = {
        "id": signals["id"].take(verdicts.rows),
        "rule": pa.array(verdicts.rules, pa.string()),
        "value": verdicts.values,
        "threshold": verdicts.thresholds,
        "language": signals["language"].take(verdicts.rows),
        "shard": pa.array([shard] * len(verdicts.rows), pa.int32()),
    }
    return pa.table(columns, schema=LEDGER_SCHEMA)


def job_settings(config: FilterConfig) -> dict[str, Any]:
    """What measures a shard needs to know of the configuration: no threshold."""
    settings = config.model_dump(mode="json", include={*EDIT_SETTINGS, "languages"})
    ruled = any(getattr(config, rule) is not None for rule in LANGUAGE_RULES)
    return settings | {"identify": bool(config.languages) or config.limits_by_language or ruled}


class _Losses:
    """Documents read and dropped by rule, of each source and each language."""

    def __init__(self) -> None:
        self.read: dict[str, Counter[str]] = defaultdict(Counter)
        self.dropped: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))

    def count(self, kind: str, names: list[str], verdicts: Verdicts) -> None:
        """Add a shard: the name of each row's group, and which rows are dropped by which rule."""
        self.read[kind].update(names)
        for row, rule in zip(verdicts.rows.tolist(), verdicts.rules, strict=True):
            self.dropped[kind][names[row]][rule] += 1

    def groups(self) -> Mapping[str, Mapping[str, Tally]]:
        """The tallies by source, and by language without what is rare or unknown."""
        tallies = {
            kind: {
                name: Tally(count, count - self.dropped[kind][name].total(), dict(self.dropped[kind][name]))
                for name, count in sorted(self.read[kind].items())
            }
            for kind in ("source", "language")
        }
        least = LEAST_SHARE * self.read["source"].total()
        common = {name: one for name, one in tallies["language"].items() if name != UNDETERMINED and one.read >= least}
        return tallies | {"language": common}


def write_kept(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write a shard's documents without the rows listed in `config["dropped"]`, with their edited texts."""
    edited = {row["row"]: row["text"] for row in read_rows(inputs["edited"])} if "edited" in inputs else {}
    return {"documents": drop_rows(inputs["documents"], out / "documents.parquet", config["dropped"], edited)}


def _others(count: int, rows: list[int]) -> pa.Array:
    mask = [True] * count
    for row in rows:
        mask[row] = False
    return pa.array(mask, pa.bool_())


def _check_something_left(read: int, rules: Counter[str]) -> None:
    if rules.total() < read:
        return
    if not read:
        raise DataError("filter: there is no document to filter; name a source that holds text")
    rule, count = rules.most_common(1)[0]
    field = FIELDS.get(rule, "filter.preset")
    raise DataError(
        f"filter: no document is left of {read}; the rule {rule} dropped {count} of them. "
        f"Loosen it (--set {field}=...), switch it off (null), or choose another filter.preset"
    )
