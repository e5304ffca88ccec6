"""Batches as a function of (data, seed, step): the step number alone resumes a run exactly.

Two kinds. *Packed*: documents one after another, cut into rows of context + 1 tokens, each row seen once an epoch.
*Examples*: a prompt and its answer a row, padded, where only the answer is scored; rows of similar length are put
together. Orders come from a hash of (seed, epoch, index), not from a library's random stream, which may change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from storage.documents import TRAIN
from storage.errors import DataError
from storage.token_order import read_order
from storage.tokens import TokenSequence, TokenSet

if TYPE_CHECKING:
    from model.job import Source

IntArray = npt.NDArray[np.int64]

IGNORED = -100  # a target that is not scored: a prompt token, padding
PADDED_TO = 8  # tokens; few different shapes, since oneDNN compiles and keeps a product for each that it meets
POOL_BATCHES = 32  # examples are sorted by length within so many batches: padding falls to a few percent


@dataclass(frozen=True, slots=True)
class Batch:
    """inputs and targets (rows, time), int64; a target of IGNORED is not scored.

    `together` rows in a row make one loss and are never parted; `reference` (rows,) is what a loss compares them with.
    """

    inputs: IntArray
    targets: IntArray
    together: int = 1
    reference: npt.NDArray[np.float64] | None = None

    @property
    def valid(self) -> int:
        """Number of targets that are scored."""
        return int((self.targets != IGNORED).sum())

    @property
    def losses(self) -> int:
        """By what a summed loss is divided: the targets that are scored, or the losses that rows make together."""
        return self.valid if self.together == 1 else len(self.inputs) // self.together

    def split(self, tokens: int) -> list["Batch"]:
        """Parts of whole rows of at most `tokens` inputs (one row at least)."""
        return self._cut(max(1, tokens // max(1, self.inputs.shape[1])))

    def share(self, workers: int) -> list["Batch"]:
        """The rows in equal shares, one a worker; fewer where there are fewer rows."""
        return self._cut(-(-len(self.inputs) // workers))

    def _cut(self, rows: int) -> list["Batch"]:
        rows = -(-rows // self.together) * self.together
        spans = [slice(start, start + rows) for start in range(0, len(self.inputs), rows)]
        return [self._rows(span) for span in spans]

    def _rows(self, span: slice) -> "Batch":
        reference = None if self.reference is None else self.reference[span]
        return Batch(self.inputs[span], self.targets[span], self.together, reference)


class Batches(Protocol):
    """Whatever gives a batch for a step."""

    def batch(self, step: int) -> Batch: ...

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text for each scored token, on average."""
        ...


def permutation(length: int, seed: int, epoch: int) -> IntArray:
    """A shuffled range(length): indices in order of their SplitMix64 hash (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        state = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(epoch)
        value = (np.arange(length, dtype=np.uint64) + _mix(state + np.uint64(1))) * np.uint64(0x9E3779B97F4A7C15)
        return np.argsort(_mix(value), kind="stable").astype(np.int64)


def _mix(value: Any) -> Any:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class _Order:
    """The endless sequence of shuffled epochs over `length` items; remembers the last epoch worked out."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed = length, seed
        self._epoch, self._indices = -1, np.empty(0, np.int64)

    def epoch(self, epoch: int) -> IntArray:
        if epoch != self._epoch:
            self._epoch, self._indices = epoch, permutation(self.length, self.seed, epoch)
        return self._indices

    def __getitem__(self, position: int) -> int:
        epoch, offset = divmod(position, self.length)
        return int(self.epoch(epoch)[offset])


class PackedBatches:
    """Rows of `context_length` inputs from a sequence of tokens, `rows` a step, in a new order each epoch."""

    def __init__(self, tokens: TokenSequence, context_length: int, rows: int, seed: int) -> None:
        self.tokens, self.context_length, self.rows = tokens, context_length, rows
        available = (tokens.tokens - 1) // context_length
        if available < 1:
            raise DataError(
                f"only {tokens.tokens} training tokens, fewer than one row of context_length + 1 = "
                f"{context_length + 1}: give more text, or lower pretrain.context_length"
            )
        self._order = _Order(available, seed)

    @property
    def bytes_per_token(self) -> float:
        return self.tokens.bytes / self.tokens.tokens

    def batch(self, step: int) -> Batch:
        first = step * self.rows
        starts = [self._order[first + row] * self.context_length for row in range(self.rows)]
        tokens = np.stack([self.tokens.read(start, start + self.context_length + 1) for start in starts])
        return Batch(tokens[:, :-1], tokens[:, 1:])

    def times_seen(self, steps: int) -> IntArray:
        """How often the first `steps` steps take each row: (rows of the sequence,)."""
        epochs, rest = divmod(steps * self.rows, self._order.length)
        times = np.full(self._order.length, epochs, np.int64)
        times[self._order.epoch(epochs)[:rest]] += 1
        return times


class PhasedBatches:
    """Packed batches of one sequence after another, for a number of steps each: the phases of a curriculum."""

    def __init__(self, phases: Sequence[tuple[PackedBatches, int]]) -> None:
        self.phases = phases

    @property
    def bytes_per_token(self) -> float:
        total = sum(steps for _, steps in self.phases)
        return sum(batches.bytes_per_token * (steps / total) for batches, steps in self.phases)

    def batch(self, step: int) -> Batch:
        for batches, steps in self.phases[:-1]:
            if step < steps:
                return batches.batch(step)
            step -= steps
        return self.phases[-1][0].batch(step)


def packed_phases(source: "Source", context_length: int, rows: int, seed: int, steps: int) -> PhasedBatches:
    """The batches of packed data: one phase of all documents, or those of an order."""
    tokens = TokenSet(Path(source.folder), TRAIN)
    phases: list[tuple[float, TokenSequence]] = [(1.0, tokens)]
    if source.order:
        phases = [*read_order(Path(source.order), tokens)]
    borders = np.rint(np.cumsum([0.0, *(share for share, _ in phases)]) * steps).astype(int).tolist()
    return PhasedBatches(
        [
            (PackedBatches(sequence, context_length, rows, seed), end - start)
            for (_, sequence), start, end in zip(phases, borders, borders[1:], strict=False)
        ]
    )


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of a prompt and of its answer in full form (marks included), and the answer's UTF-8 bytes."""

    prompt: Sequence[int]
    answer: Sequence[int]
    answer_bytes: int


class ExampleSet:
    """Examples in two files of a folder: `tokens.npy` and `index.npy` (examples, 4) of
    [start, answer start, end, UTF-8 bytes of the answer]."""

    def __init__(self, folder: Path) -> None:
        try:
            self.tokens: IntArray = np.load(folder / "tokens.npy", allow_pickle=False).astype(np.int64)
            self.index: IntArray = np.load(folder / "index.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{folder}: not a set of examples ({error})") from error

    def __len__(self) -> int:
        return len(self.index)

    @staticmethod
    def write(folder: Path, examples: Sequence[Example]) -> None:
        """Write a set of examples; equal bytes for equal examples."""
        folder.mkdir(parents=True, exist_ok=True)
        tokens: list[int] = []
        rows = []
        for example in examples:
            start = len(tokens)
            tokens += example.prompt
            middle = len(tokens)
            tokens += example.answer
            rows.append((start, middle, len(tokens), example.answer_bytes))
        np.save(folder / "tokens.npy", np.asarray(tokens, np.uint32), allow_pickle=False)
        np.save(folder / "index.npy", np.asarray(rows, np.int64).reshape(-1, 4), allow_pickle=False)

    @property
    def lengths(self) -> IntArray:
        """Tokens of each example."""
        return self.index[:, 2] - self.index[:, 0]

    def requests(self) -> list[tuple[list[int], list[int]]]:
        """(prompt, answer) of each example, as `score_continuations` takes them."""
        return [
            (self.tokens[start:middle].tolist(), self.tokens[middle:end].tolist())
            for start, middle, end, _ in self.index.tolist()
        ]

    def batch(self, chosen: IntArray) -> Batch:
        """The chosen examples as rows, padded on the right; only answers are scored."""
        starts, middles, ends = self.index[chosen, 0], self.index[chosen, 1], self.index[chosen, 2]
        time = -(-(int((ends - starts).max()) - 1) // PADDED_TO) * PADDED_TO
        inputs = np.zeros((len(chosen), time), np.int64)
        targets = np.full((len(chosen), time), IGNORED, np.int64)
        for row, (start, middle, end) in enumerate(zip(starts, middles, ends, strict=True)):
            inputs[row, : end - start - 1] = self.tokens[start : end - 1]
            targets[row, middle - start - 1 : end - start - 1] = self.tokens[middle:end]
        return Batch(inputs, targets)


class ExampleBatches:
    """`rows` examples a step, those of like length together."""

    def __init__(self, examples: ExampleSet, rows: int, seed: int) -> None:
        if not len(examples):
            raise DataError("no example to train on")
        self.examples = examples
        self._pools = LengthPools(examples.lengths, rows, seed)

    @property
    def bytes_per_token(self) -> float:
        index = self.examples.index
        return int(index[:, 3].sum()) / max(1, int((index[:, 2] - index[:, 1]).sum()))

    def batch(self, step: int) -> Batch:
        return self.examples.batch(self._pools.batch(step))


class LengthPools:
    """Which items a step takes: an epoch is shuffled, sorted by length within pools, cut, and the batches shuffled."""

    def __init__(self, lengths: IntArray, rows: int, seed: int) -> None:
        self.lengths, self.rows, self.seed = lengths, rows, seed
        self.steps_per_epoch = -(-len(lengths) // rows)
        self._order = _Order(len(lengths), seed)
        self._epoch, self._batches = -1, [np.empty(0, np.int64)]

    def batch(self, step: int) -> IntArray:
        """The numbers of the items."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._cut(epoch)
        return self._batches[position]

    def _cut(self, epoch: int) -> list[IntArray]:
        shuffled = self._order.epoch(epoch)
        pool = self.rows * POOL_BATCHES
        batches: list[IntArray] = []
        for start in range(0, len(shuffled), pool):
            members = shuffled[start : start + pool]
            members = members[np.argsort(self.lengths[members], kind="stable")]
            batches += [members[at : at + self.rows] for at in range(0, len(members), self.rows)]
        return [batches[index] for index in permutation(len(batches), self.seed + 1, epoch)]
