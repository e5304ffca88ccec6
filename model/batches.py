"""Batches as a function of (data, seed, step): the step number alone resumes a run exactly.

Two kinds. *Packed*: documents in rows of one context, each row seen once an epoch (model/packed.py). *Examples*: a
prompt and its answer a row, padded, where only answers are scored; rows of similar length are put together. The
examples of a step can share rows, each seeing itself alone: `segments` says which are whose.
Orders come from a hash of (seed, epoch, index), not from a library's random stream, which may change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from storage.errors import DataError
from storage.listing import first_few

if TYPE_CHECKING:
    from model.dropout import Noise

IntArray = npt.NDArray[np.int64]

PADDING = -1  # in place of an example's number
IGNORED = -100  # a target that is not scored: a prompt token, padding
PADDED_TO = 8  # tokens; few different shapes, since oneDNN compiles and keeps a product for each that it meets
NAMED = 12  # of what a batch held, in a message
POOL_BATCHES = 32  # examples are sorted by length within so many batches: padding falls to a few percent


@dataclass(frozen=True, slots=True)
class Batch:
    """inputs and targets (rows, time), int64; a target of IGNORED is not scored.

    `segments` (rows, time), where rows hold several examples: the number of each input's example within its row, and
    PADDING for none. `together` rows in a row make one loss and are never parted; `reference` (rows,) is what a loss
    compares them with; `noise` is what a model in training leaves out of them.
    """

    inputs: IntArray
    targets: IntArray
    segments: IntArray | None = None
    together: int = 1
    reference: npt.NDArray[np.float64] | None = None
    noise: "Noise | None" = None

    @property
    def valid(self) -> int:
        """Number of targets that are scored."""
        return int((self.targets != IGNORED).sum())

    @property
    def losses(self) -> int:
        """By what a summed loss is divided: the targets that are scored, or the losses that rows make together."""
        return self.valid if self.together == 1 else len(self.inputs) // self.together

    def within(self, context_length: int) -> "Batch":
        """The same without what fills rows up beyond a context that is no multiple of PADDED_TO."""
        if self.inputs.shape[1] <= context_length:
            return self
        segments = None if self.segments is None else self.segments[:, :context_length]
        inputs, targets = self.inputs[:, :context_length], self.targets[:, :context_length]
        return replace(self, inputs=inputs, targets=targets, segments=segments)

    def cut_in(self, parts: int) -> "Batch":
        """The same tokens in so many times as many rows, each a part of one; each row's length divides by `parts`."""
        shape = (len(self.inputs) * parts, self.inputs.shape[1] // parts)
        segments = None if self.segments is None else self.segments.reshape(shape)
        return replace(self, inputs=self.inputs.reshape(shape), targets=self.targets.reshape(shape), segments=segments)

    def split(self, tokens: int) -> list["Batch"]:
        """Parts of whole rows of at most `tokens` inputs (one row at least)."""
        return self._cut(max(1, tokens // max(1, self.inputs.shape[1])))

    def share(self, workers: int) -> list["Batch"]:
        """The rows in equal shares, one a worker; fewer where there are fewer rows."""
        return self._cut(-(-len(self.inputs) // workers))

    def _cut(self, rows: int) -> list["Batch"]:
        rows = -(-rows // self.together) * self.together
        return [self._rows(slice(start, start + rows)) for start in range(0, len(self.inputs), rows)]

    def _rows(self, span: slice) -> "Batch":
        segments = None if self.segments is None else self.segments[span]
        reference = None if self.reference is None else self.reference[span]
        noise = None if self.noise is None else self.noise.of_rows(span)
        return Batch(self.inputs[span], self.targets[span], segments, self.together, reference, noise)


class Batches(Protocol):
    """Whatever gives a batch for a step."""

    def batch(self, step: int) -> Batch: ...

    def held(self, step: int) -> str:
        """What the batch of a step is made of, for a person who looks for what is wrong with it."""
        ...

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text for each scored token, on average."""
        ...


def permutation(length: int, seed: int, epoch: int) -> IntArray:
    """A shuffled range(length): indices in order of their SplitMix64 hash (Steele et al. 2014)."""
    return np.argsort(hashes(length, seed, epoch), kind="stable").astype(np.int64)


def hashes(length: int, seed: int, number: int) -> npt.NDArray[np.uint64]:
    """`length` numbers that look random, of a seed and the number of an epoch, a step or a row."""
    with np.errstate(over="ignore"):
        state = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(number)
        value = (np.arange(length, dtype=np.uint64) + _mix(state + np.uint64(1))) * np.uint64(0x9E3779B97F4A7C15)
        return np.asarray(_mix(value), np.uint64)


def _mix(value: Any) -> Any:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class Order:
    """The endless sequence of shuffled epochs over `length` items; remembers the last epoch worked out."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed = length, seed
        self._epoch, self._indices = -1, np.empty(0, np.int64)

    def epoch(self, epoch: int) -> IntArray:
        if epoch != self._epoch:
            self._epoch, self._indices = epoch, permutation(self.length, self.seed, epoch)
        return self._indices

    def of_step(self, step: int, count: int) -> list[int]:
        """The items of a step that takes `count`."""
        return [self[step * count + place] for place in range(count)]

    def times_seen(self, positions: int) -> IntArray:
        """How often each item is among the first so many: (length,)."""
        epochs, rest = divmod(positions, self.length)
        times = np.full(self.length, epochs, np.int64)
        times[self.epoch(epochs)[:rest]] += 1
        return times

    def __getitem__(self, position: int) -> int:
        epoch, offset = divmod(position, self.length)
        return int(self.epoch(epoch)[offset])


def named(names: Sequence[str]) -> str:
    """The first few of what a batch holds, for a message."""
    return ", ".join(first_few(names, NAMED))


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of a prompt and of its answer in full form (marks included), and the UTF-8 bytes of what is learned.

    Beside the answer, `learned` stretches of the prompt, as (start, end), are learned: earlier answers of a
    conversation.
    """

    prompt: Sequence[int]
    answer: Sequence[int]
    answer_bytes: int
    learned: Sequence[tuple[int, int]] = ()


class ExampleSet:
    """Examples in three files of a folder: `tokens.npy`, `learned.npy` (whether a token is one to learn) and
    `index.npy` (examples, 4) of [start, start of the last answer, end, UTF-8 bytes of what is learned]."""

    def __init__(self, folder: Path) -> None:
        try:
            self.tokens: IntArray = np.load(folder / "tokens.npy", allow_pickle=False).astype(np.int64)
            self.learned: npt.NDArray[np.bool_] = np.load(folder / "learned.npy", allow_pickle=False)
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
        spans: list[tuple[int, int]] = []
        for example in examples:
            start = len(tokens)
            tokens += example.prompt
            middle = len(tokens)
            tokens += example.answer
            rows.append((start, middle, len(tokens), example.answer_bytes))
            spans += [*((start + first, start + end) for first, end in example.learned), (middle, len(tokens))]
        learned = np.zeros(len(tokens), np.bool_)
        for first, end in spans:
            learned[first:end] = True
        np.save(folder / "learned.npy", learned, allow_pickle=False)
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
        """The chosen examples as rows, padded on the right; only what is learned is scored."""
        return self._rows([[int(number)] for number in chosen])

    def packed(self, chosen: IntArray, context_length: int) -> Batch:
        """The chosen examples in as few rows of at most `context_length` inputs as first fit, longest first, finds."""
        rows: list[list[int]] = []
        room: list[int] = []
        sizes = self.index[chosen, 2] - self.index[chosen, 0] - 1
        for place in np.argsort(-sizes, kind="stable").tolist():
            size = int(sizes[place])
            row = next((number for number, left in enumerate(room) if left >= size), len(rows))
            if row == len(rows):
                rows.append([])
                room.append(max(context_length, size))
            rows[row].append(int(chosen[place]))
            room[row] -= size
        return self._rows(rows, segmented=True)

    def _rows(self, rows: Sequence[Sequence[int]], segmented: bool = False) -> Batch:
        """A batch with these examples in its rows, one behind the other."""
        longest = max(sum(int(self.index[one, 2] - self.index[one, 0]) - 1 for one in row) for row in rows)
        time = -(-longest // PADDED_TO) * PADDED_TO
        inputs = np.zeros((len(rows), time), np.int64)
        targets = np.full((len(rows), time), IGNORED, np.int64)
        segments = np.full((len(rows), time), PADDING, np.int64)
        for row, members in enumerate(rows):
            place = 0
            for number, one in enumerate(members):
                start, end = int(self.index[one, 0]), int(self.index[one, 2])
                here = slice(place, place + end - start - 1)
                inputs[row, here] = self.tokens[start : end - 1]
                targets[row, here] = np.where(self.learned[start + 1 : end], self.tokens[start + 1 : end], IGNORED)
                segments[row, here] = number
                place = here.stop
        return Batch(inputs, targets, segments if segmented else None)


class ExampleBatches:
    """`rows` examples a step, those of like length together; with `shortest_first` the first epoch goes from short to
    long.

    With `pack_to` the examples of a step share rows of at most so many inputs: the same steps, in fewer rows.
    """

    def __init__(
        self,
        examples: ExampleSet,
        rows: int,
        seed: int,
        pack_to: int | None = None,
        shortest_first: bool = False,
    ) -> None:
        if not len(examples):
            raise DataError("no example to train on")
        self.examples, self.pack_to = examples, pack_to
        self._pools = LengthPools(examples.lengths, rows, seed, shortest_first)

    @property
    def bytes_per_token(self) -> float:
        return int(self.examples.index[:, 3].sum()) / max(1, int(self.examples.learned.sum()))

    def batch(self, step: int) -> Batch:
        chosen = self._pools.batch(step)
        return self.examples.batch(chosen) if self.pack_to is None else self.examples.packed(chosen, self.pack_to)

    def held(self, step: int) -> str:
        return self._pools.held(step)


class LengthPools:
    """Which items a step takes: an epoch is shuffled, sorted by length within pools, cut, and the batches shuffled.

    With `shortest_first` the first epoch is one pool, and its batches stay in order: a curriculum by length.
    """

    def __init__(self, lengths: IntArray, rows: int, seed: int, shortest_first: bool = False) -> None:
        self.lengths, self.rows, self.seed, self.shortest_first = lengths, rows, seed, shortest_first
        self.steps_per_epoch = -(-len(lengths) // rows)
        self._order = Order(len(lengths), seed)
        self._epoch, self._batches = -1, [np.empty(0, np.int64)]

    def batch(self, step: int) -> IntArray:
        """The numbers of the items."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._cut(epoch)
        return self._batches[position]

    def held(self, step: int) -> str:
        """The numbers for a person, counted from 1."""
        return f"examples {named([str(number + 1) for number in sorted(self.batch(step).tolist())])}"

    def _cut(self, epoch: int) -> list[IntArray]:
        shuffled = self._order.epoch(epoch)
        ascending = self.shortest_first and epoch == 0
        pool = len(shuffled) if ascending else self.rows * POOL_BATCHES
        batches: list[IntArray] = []
        for start in range(0, len(shuffled), pool):
            members = shuffled[start : start + pool]
            members = members[np.argsort(self.lengths[members], kind="stable")]
            batches += [members[at : at + self.rows] for at in range(0, len(members), self.rows)]
        if ascending:
            return batches
        return [batches[index] for index in permutation(len(batches), self.seed + 1, epoch)]
