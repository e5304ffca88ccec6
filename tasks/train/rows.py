"""What a pretraining reads of the tokens: which canaries it met, and what its rows leave out."""

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.engine.context import Summary
from tasks.tokenize.canaries import Planted, count_seen, first_canary

if TYPE_CHECKING:
    from model.job import TrainingJob
    from model.packed import PhasedBatches


def rows_of(job: "TrainingJob") -> "PhasedBatches":
    """The rows that a job trains on."""
    from model.packed import batches_of_job

    return batches_of_job(job)


def canaries_seen(job: "TrainingJob", rows: "PhasedBatches", planted: Planted) -> Planted:
    """The canaries with how often the rows that a job trains on hold each."""
    from storage.documents import TRAIN
    from storage.tokens import TokenSet

    phases = [(phase, phase.times_seen(steps)) for phase, steps in rows.phases]
    first = first_canary(TokenSet(Path(job.data.folder), TRAIN), planted)
    return count_seen(planted, phases, first, job.shape.context_length)


def figures_of_rows(rows: "PhasedBatches") -> Summary:
    """Of a pass over the training tokens: the rows, the documents that are not whole in one, the tokens that are in
    none, and the places of rows that hold no token."""
    packed = rows.packed()
    return {
        "rows": packed.rows,
        "cut_documents": packed.cut_documents,
        "lost_tokens": packed.lost_tokens,
        "padding_tokens": packed.padding_tokens,
    }
