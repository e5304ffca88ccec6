"""Judges of documents that learn from texts of the user's: goodness.py, perplexity.py. Each makes a signal.

What they learn is a job of the engine's, cached by the files that it reads, and so is what they say of a shard: changed
good rows, or a changed reference, compute the signals of this one judge again, and no other. They read a document as
it is after editing. The columns are there where the recipe names texts to learn from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.documents import read_rows, write_table
from storage.store.artifacts import StoredFile
from tasks.engine.context import Context, Job, JobResult, ShardFunction, Summary
from tasks.filter import goodness, perplexity
from tasks.filter.config import FilterConfig
from tasks.filter.given_texts import given_files
from tasks.linear import FILE as CLASSIFIER
from tasks.linear import Classifier

SCORES = "scores.parquet"


@dataclass(frozen=True)
class Judges:
    """What has been learned: the model of each signal, and the figures."""

    models: dict[str, StoredFile]
    summary: Summary

    def scores(
        self, files: Sequence[StoredFile], measured: Sequence[JobResult], context: Context
    ) -> list[StoredFile | None]:
        """Of each shard the file with a column for each signal, aligned with its rows; None where nothing judges."""
        if not self.models:
            return [None] * len(files)
        jobs = []
        for file, result in zip(files, measured, strict=True):
            edited = {"edited": result.files["edited.parquet"]} if result.summary["edited"] else {}
            jobs.append(Job(file.name, {}, {"documents": file, **edited, **self.models}))
        return [result.files[SCORES] for result in context.map(score_shard, jobs)]

    def notices(self) -> list[str]:
        """What the user should know of what was learned."""
        if "quality" not in self.models or self.summary["quality_heldout_rows"]:
            return []
        return [
            "filter: how well the classifier of quality tells good from bad is not known: filter.quality names too few "
            "texts to hold some of both kinds out"
        ]


def observe_texts(config: FilterConfig) -> dict[str, str]:
    """`JUDGE/KIND/NUMBER/FILE` -> SHA-256 of each file that a judge learns from."""
    return {f"{judge}/{name}": file.digest for judge, files in _given(config).items() for name, file in files.items()}


def learn_judges(config: FilterConfig, context: Context) -> Judges:
    """Learn what the recipe asks for, or find it learned."""
    models: dict[str, StoredFile] = {}
    summary: Summary = {}
    for judge, files in _given(config).items():
        function, signal, written = _JUDGES[judge]
        (learned,) = context.map(function, [Job(judge, getattr(config, judge).identity(), files)], "models")
        models[signal] = learned.files[written]
        summary |= learned.summary
    return Judges(models, summary)


def score_shard(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write SCORES: for each document of a shard, edited, what each model among the inputs says; null: nothing."""
    edited = {row["row"]: row["text"] for row in read_rows(inputs["edited"])} if "edited" in inputs else {}
    classifier = Classifier.read(inputs["quality"], goodness.GOOD) if "quality" in inputs else None
    reference = perplexity.Reference.open(inputs["bits_per_byte"]) if "bits_per_byte" in inputs else None
    columns: dict[str, list[float | None]] = {name: [] for name in inputs if name in SIGNALS}
    for number, row in enumerate(read_rows(inputs["documents"], columns=["text"])):
        text = edited.get(number, row["text"])
        if classifier:
            columns["quality"].append(goodness.goodness(classifier, text))
        if reference:
            columns["bits_per_byte"].append(reference.bits_per_byte(text))
    write_table(out / SCORES, pa.table({name: pa.array(columns[name], pa.float64()) for name in sorted(columns)}))
    return {"documents": len(next(iter(columns.values())))}


def with_scores(signals: pa.Table, scores: StoredFile | None) -> pa.Table:
    """The signals of a shard with the columns that judges have made."""
    if scores is None:
        return signals
    made = pq.read_table(scores.path)
    for name in made.column_names:
        signals = signals.append_column(pa.field(name, pa.float64()), made[name].combine_chunks())
    return signals


_JUDGES: dict[str, tuple[ShardFunction, str, str]] = {  # how it learns, the signal that it makes, the model's file
    "quality": (goodness.learn_goodness, "quality", CLASSIFIER),
    "reference": (perplexity.learn_reference, "bits_per_byte", perplexity.FILE),
}
SIGNALS = tuple(signal for _, signal, _ in _JUDGES.values())


def _given(config: FilterConfig) -> dict[str, dict[str, StoredFile]]:
    """The files of each judge that the recipe asks for, by the roles of its job."""
    found: dict[str, dict[str, StoredFile]] = {}
    if config.quality:
        found["quality"] = {
            f"{kind}/{name}": file
            for kind in goodness.KINDS
            for name, file in given_files(getattr(config.quality, kind), f"filter.quality.{kind}").items()
        }
    if config.reference:
        found["reference"] = given_files(config.reference.paths, perplexity.OPTION)
    return found
