"""The stage moderate: documents and pairs that the judge flags are dropped, or only reported.

In: what filter leaves, the judge of the stage moderator. Out: the same parts without what was dropped; `ledger` (id,
part, rule: the category, its score and threshold, the share of passages flagged, shard), `verdicts` (a row for each
document: its scores, the share of its passages that are flagged). `signals` are filter's, passed on.

A document is dropped where the share of its passages (passages.py) that are flagged is more than `max_flagged`. Of a
pair what the model would learn to say is judged: the answer, in a preference the chosen one. A question may be about
anything and an answer that was rejected may be bad; labels are for classifiers, and pass.

Cost: 0.3 to 0.5 ms of CPU a passage.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.documents import (
    LABELS,
    PAIRS,
    PAIRS_SCHEMA,
    PREFERENCES,
    SUPERVISED,
    RowWriter,
    pair_row,
    read_pairs,
    read_rows,
    write_rows,
)
from storage.store.artifacts import Artifact, StoredFile
from tasks.engine.context import Context, Job, JobResult, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.moderate.moderator import Moderator, read_moderator
from tasks.moderate.passages import passages_of
from tasks.moderate.section import ModerateConfig
from tasks.notices import NOTICES, Tally, check_nothing_lost, loss_notices
from tasks.shards.drop_rows import drop_rows

DOCUMENTS = "documents"
JUDGED = (DOCUMENTS, PAIRS, PREFERENCES)
VERDICTS, KEPT = "verdicts.parquet", "kept.parquet"
LEDGER_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("id", "part", "rule")),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("value", "threshold", "share")),
        pa.field("shard", pa.int32(), nullable=False),
    ]
)
SCORE = "score_"  # before the name of a category: a column of the verdicts


def verdicts_schema(categories: Iterable[str]) -> pa.Schema:
    """The columns of the verdicts; `rule` is the category flagged with the highest score, or empty."""
    numbers = ("value", "threshold", "share", *(SCORE + category for category in categories))
    return pa.schema(
        [
            *(pa.field(name, pa.string(), nullable=False) for name in ("id", "source", "rule")),
            *(pa.field(name, pa.float64(), nullable=False) for name in numbers),
        ]
    )


@stage(
    "moderate",
    parts=(DOCUMENTS, "ledger", "verdicts", "signals", *SUPERVISED),
    reads={"clean": (DOCUMENTS, "signals", *SUPERVISED), "moderator": ("moderator",)},
    libraries=("numpy", "safetensors", "pyarrow", "py3langid", "phonenumbers", "publicsuffixlist", UNICODE),
    about="tasks.moderate.about.MODERATE",
)
def moderate(config: ModerateConfig, clean: Artifact, moderator: Artifact, *, context: Context) -> Summary:
    """Drop or report the documents and pairs that the judge flags. Summary: counts, also by category."""
    judge = {file.name: file for file in moderator["moderator"].files}
    ledger: list[dict[str, Any]] = []
    flagged: Counter[str] = Counter()
    tallies: dict[str, dict[str, Tally]] = {}
    counts: dict[str, int] = {}
    for part in JUDGED:
        files = clean[part].files
        jobs = [Job(f"{part}/{file.name}", {"part": part}, {"rows": file, **judge}) for file in files]
        measured = context.map(judge_shard, jobs)
        lost = [_dropped(config, part, number, result, ledger) for number, result in enumerate(measured)]
        tallies[part] = _tallies(measured, lost)
        flagged.update(row["rule"] for result in measured for row in _verdicts(result) if row["rule"])
        _write_part(context, part, files, lost)
        if part == DOCUMENTS:
            for file, result in zip(files, measured, strict=True):
                context.link("verdicts", file.name, result.files[VERDICTS])
        elif files:
            counts[f"{part}_dropped"] = sum(map(len, lost))
    for part in ("signals", LABELS):
        context.part(part)
        for file in clean[part].files:
            context.link(part, file.name, file)
    context.part("verdicts")
    write_rows(context.part("ledger") / "ledger.parquet", ledger, LEDGER_SCHEMA)
    fields = dict.fromkeys(flagged, "moderate.max_flagged, or the category's threshold")
    check_nothing_lost("moderate", tallies[DOCUMENTS], fields)
    read = sum(tally.read for tally in tallies[DOCUMENTS].values())
    kept = sum(tally.kept for tally in tallies[DOCUMENTS].values())
    return {
        "read": read,
        "kept": kept,
        "dropped": read - kept,
        "quarantined": 0,
        **{f"flagged_{category}": count for category, count in sorted(flagged.items())},
        **counts,
        NOTICES: loss_notices("moderate", {"source": tallies[DOCUMENTS]}, fields),
    }


def judge_shard(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> Summary:
    """Write VERDICTS, a row for each document or pair of a shard."""
    judge = read_moderator({name: path for name, path in inputs.items() if name != "rows"})
    schema = verdicts_schema(category.name for category in judge.config.categories)
    write_rows(out / VERDICTS, _judged(judge, config["part"], inputs["rows"]), schema)
    return {}


def _judged(judge: Moderator, part: str, path: Path) -> Iterator[dict[str, Any]]:
    text, stated = ("text", "lang") if part == DOCUMENTS else ("answer", "")
    thresholds = {category.name: category.threshold for category in judge.config.categories}
    for row in read_rows(path, columns=["id", "source", text, *([stated] if stated else [])]):
        language = row[stated] if stated else ""
        verdict = judge.judge(row[text], language)
        worst = max(verdict.flagged, key=lambda name: verdict.scores[name], default="")
        yield {
            "id": row["id"],
            "source": row["source"],
            **{SCORE + name: score for name, score in verdict.scores.items()},
            "rule": worst,
            "value": verdict.scores.get(worst, 0.0),
            "threshold": thresholds.get(worst, 0.0),
            "share": _share(judge, row[text], language) if worst else 0.0,
        }


def _share(judge: Moderator, text: str, language: str) -> float:
    """The share of a flagged text's passages that are flagged: one at least, though it be found in none alone."""
    verdicts = [bool(judge.judge(passage, language).flagged) for passage in passages_of(text)]
    return round(max(1, sum(verdicts)) / len(verdicts), 6)


def _dropped(
    config: ModerateConfig, part: str, shard: int, result: JobResult, ledger: list[dict[str, Any]]
) -> dict[int, str]:
    """The rows of a shard that are dropped, each with the category, which the ledger gets too."""
    if config.documents == "report":
        return {}
    lost = {}
    for place, row in enumerate(_verdicts(result)):
        if row["rule"] and row["share"] > config.max_flagged:
            lost[place] = row["rule"]
            figures = {name: row[name] for name in ("id", "rule", "value", "threshold", "share")}
            ledger.append({**figures, "part": part, "shard": shard})
    return lost


def _verdicts(result: JobResult) -> Iterator[dict[str, Any]]:
    yield from read_rows(result.files[VERDICTS].path, columns=["id", "source", "rule", "value", "threshold", "share"])


def _tallies(measured: Sequence[JobResult], lost: Sequence[Mapping[int, str]]) -> dict[str, Tally]:
    """Rows read and dropped by category, of each source."""
    read: Counter[str] = Counter()
    dropped: dict[str, Counter[str]] = {}
    for result, gone in zip(measured, lost, strict=True):
        for place, row in enumerate(_verdicts(result)):
            read[row["source"]] += 1
            if place in gone:
                dropped.setdefault(row["source"], Counter())[gone[place]] += 1
    none: Counter[str] = Counter()
    return {
        source: Tally(count, count - dropped.get(source, none).total(), dict(dropped.get(source, none)))
        for source, count in sorted(read.items())
    }


def _write_part(context: Context, part: str, files: Sequence[StoredFile], lost: Sequence[Mapping[int, str]]) -> None:
    """A part without the rows that are lost; shards that lose nothing are not copied but linked."""
    context.part(part)
    jobs = [
        Job(f"{part}/{file.name}", {"part": part, "dropped": sorted(gone)}, {"rows": file})
        for file, gone in zip(files, lost, strict=True)
        if gone
    ]
    written = {result.name: result.files[KEPT] for result in context.map(write_kept, jobs)} if jobs else {}
    for file in files:
        context.link(part, file.name, written.get(f"{part}/{file.name}", file))


def write_kept(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> Summary:
    """Write KEPT: a shard without the rows listed in `config["dropped"]`."""
    if config["part"] == DOCUMENTS:
        drop_rows(inputs["rows"], out / KEPT, config["dropped"])
        return {}
    gone = set(config["dropped"])
    with RowWriter(out / KEPT, PAIRS_SCHEMA) as writer:
        for place, pair in enumerate(read_pairs(inputs["rows"])):
            if place not in gone:
                writer.add(pair_row(pair))
    return {}
