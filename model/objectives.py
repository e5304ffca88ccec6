"""What a training run learns: an objective says how batches are made of the data, and what is to become small.

- `next_token`: every token of a text is predicted from those before it, in packed rows;
- `answers`: the tokens of answers alone, a row a pair of prompt and answer.

Both lose the nats of the targets that a batch names. Another objective is another entry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from model.batches import Batches, ExampleBatches, ExampleSet, PackedBatches
from model.job import Objective, TrainingJob
from model.loss import summed_nats
from model.transformer import Transformer
from storage.documents import TRAIN
from storage.errors import ConfigError
from storage.tokens import TokenSet

Loss = Callable[[Transformer, Tensor, Tensor], Tensor]  # of inputs and targets (rows, time): a sum over the targets


@dataclass(frozen=True, slots=True)
class Learning:
    """How an objective is carried out, and the kind of data that it takes."""

    data: str
    batches: Callable[[TrainingJob], Batches]
    loss: Loss


def target_nats(model: Transformer, inputs: Tensor, targets: Tensor) -> Tensor:
    """The summed loss in nats over the targets that are scored."""
    return summed_nats(model(inputs), model.head, targets, model.compiled)


def _packed(job: TrainingJob) -> Batches:
    tokens = TokenSet(Path(job.data.folder), TRAIN)
    return PackedBatches(tokens, job.shape.context_length, job.rows_per_step, job.seed)


def _examples(job: TrainingJob) -> Batches:
    return ExampleBatches(ExampleSet(Path(job.data.folder)), job.rows_per_step, job.seed)


LEARNING: dict[Objective, Learning] = {
    "next_token": Learning("packed", _packed, target_nats),
    "answers": Learning("examples", _examples, target_nats),
}


def learning_of(job: TrainingJob) -> Learning:
    """How a job's objective is carried out; ConfigError where its data are of another kind."""
    learning = LEARNING[job.objective]
    if job.data.kind != learning.data:
        raise ConfigError(f"objective {job.objective} trains on {learning.data} data, these are {job.data.kind}")
    return learning
