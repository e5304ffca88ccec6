"""The `feedback` source: the records of what users have said -> pairs and preferences.

A correction is a pair, and a preference over the answer that it corrects; a vote is a preference; so are a liked and a
disliked answer to the same. Which records are left out: rules.py. What is made has the group of its user.

Two passes over the records: what each says, in digests, then the texts of those that are learned from. Cost: about
200 us a record, and 3 us a word where it is compared with benchmarks. Memory: about 1 kB a record.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from io import BufferedReader
from pathlib import Path

import numpy as np
from pydantic import Field

from storage.documents import FEEDBACK, HELDOUT, PAIRS, PREFERENCES, TRAIN
from tasks.collect.feedback.config import FeedbackSource
from tasks.collect.feedback.records import Said, digest_of_records, read_record, write_records
from tasks.collect.feedback.rules import Entry, Judged, judge
from tasks.collect.output import JobOutput
from tasks.collect.records import BadRecord
from tasks.engine.context import Summary
from tasks.overlap import Hashes, is_near

RECORDS, BENCHMARKS = "records", "benchmarks"  # the inputs of a job
VERDICTS = ("correction", "liked", "disliked", "vote", "undecided")  # figures: records by what they say
USERS, HELDOUT_USERS = "users", "users_heldout"  # figures
LEAST_HELDOUT = 8  # preferences, below which learning from preferences could not be measured


class FeedbackJob(FeedbackSource):
    """What the work on the records is told."""

    documents_per_shard: int = Field(description="Documents in a shard, at most.")
    max_document_bytes: int = Field(description="Longest text in bytes.")


def figure_of(part: str, split: str) -> str:
    """The figure that counts what is made for a part and a split."""
    return f"{part}_{split}"


def read_feedback(job: FeedbackJob, inputs: Mapping[str, Path], out: Path) -> Summary:
    """Make pairs and preferences of a file of records. What was asked in `benchmarks`, if given, is not learned."""
    others = np.load(inputs[BENCHMARKS], allow_pickle=False) if BENCHMARKS in inputs else np.empty(0, np.uint64)
    with JobOutput(out, FEEDBACK, job.documents_per_shard) as output, inputs[RECORDS].open("rb") as file:
        entries = list(_entries(job, file, others, output))
        judged = judge(entries, job)
        users = {entry.user for entry in entries}
        output.counts.update({USERS: len(users), HELDOUT_USERS: len(judged.heldout)})
        for entry in sorted(entries, key=lambda entry: entry.order):
            said = _said_at(job, file, entry.place)
            if rule := judged.rules.get(entry.place):
                output.drop(rule, said.name, 1, said.question)
                continue
            output.counts["kept"] += 1
            _write(job, file, entry, said, judged, output)
    return output.summary()


def foreseen_feedback(source: FeedbackSource, max_document_bytes: int) -> Summary:
    """The figures of what would be made now, before benchmarks are looked at; empty where nobody has said anything."""
    digest = digest_of_records()
    job = FeedbackJob(**source.model_dump(), documents_per_shard=1, max_document_bytes=max_document_bytes)
    return _foreseen(job.model_dump_json(), digest) if digest else {}


def learns_preferences(source: FeedbackSource, max_document_bytes: int) -> bool:
    """Whether there are as many preferences as it takes to learn from them where the recipe does not ask for it."""
    return learns_enough_preferences(source, foreseen_feedback(source, max_document_bytes))


def learns_enough_preferences(source: FeedbackSource, found: Mapping[str, int]) -> bool:
    """The same by the figures of the work on the records."""
    least = {TRAIN: source.least_preferences, HELDOUT: LEAST_HELDOUT}
    return all(found.get(figure_of(PREFERENCES, split), 0) >= count for split, count in least.items())


@lru_cache(maxsize=16)
def _foreseen(job: str, digest: str) -> Summary:
    with tempfile.TemporaryDirectory() as scratch:
        records = Path(scratch) / RECORDS
        write_records(records)
        return read_feedback(FeedbackJob.model_validate_json(job), {RECORDS: records}, Path(scratch))


def _entries(job: FeedbackJob, file: BufferedReader, others: Hashes, output: JobOutput) -> Iterator[Entry]:
    """What each record says; one that says nothing that can be used is set aside."""
    place = 0
    for line in file:
        output.counts["read"] += 1
        said = _read(job, line)
        if isinstance(said, BadRecord):
            output.bad(json.loads(line)["kind"], said)
        else:
            output.counts[said.verdict] += 1
            yield Entry.of(place, said, near=bool(len(others)) and any(is_near(text, others) for text in said.texts))
        place += len(line)


def _read(job: FeedbackJob, line: bytes) -> Said | BadRecord:
    return read_record(line.decode("ascii"), job.max_document_bytes, declarations=job.prompts == "declarations")


def _said_at(job: FeedbackJob, file: BufferedReader, place: int) -> Said:
    file.seek(place)
    said = _read(job, file.readline())
    assert isinstance(said, Said), place
    return said


def _write(job: FeedbackJob, file: BufferedReader, entry: Entry, said: Said, judged: Judged, output: JobOutput) -> None:
    """The pair and the preference of a record."""
    split = judged.split(entry)

    def write(part: str, chosen: str, rejected: str = "") -> None:
        output.pair(said.pair(chosen, split, FEEDBACK, rejected), part)
        output.counts[figure_of(part, split)] += 1

    if said.verdict == "correction" or (said.verdict == "liked" and job.liked):
        write(PAIRS, said.chosen)
    if said.verdict in ("correction", "vote") and said.chosen and said.rejected:
        write(PREFERENCES, said.chosen, said.rejected)
    if entry.place in judged.liked:
        write(PREFERENCES, _said_at(job, file, judged.liked[entry.place]).chosen, said.rejected)
