"""Packed batches: documents in rows of one context, each row seen once an epoch.

As a *stream* documents lie one after another and are cut where a row ends. By *best fit* they are put whole into rows
(model/packing.py), which are padded. Either way the target of a token is the one after it, and that of a document's
last token the mark of another. With `apart` the documents of a row do not see each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from model.batches import IGNORED, PADDING, Batch, Batches, IntArray, Order, named
from model.packing import best_fit
from model.shape import SHORT_ROWS, check_short_rows
from storage.documents import TRAIN
from storage.errors import DataError
from storage.token_order import read_order
from storage.tokens import TokenSequence, TokenSet

if TYPE_CHECKING:
    from model.job import Source, TrainingJob


@dataclass(frozen=True, slots=True)
class Packed:
    """What becomes of a sequence in one pass: its rows, the places in them that hold no token, the tokens that are in
    no row, and the documents that are not whole in one row."""

    rows: int
    padding_tokens: int
    lost_tokens: int
    cut_documents: int


class PackedBatches:
    """Rows of `context_length` inputs from a sequence of tokens as a stream, `rows` a step, in a new order each epoch.

    `mark` begins a document, where the documents of a row do not see each other.
    """

    def __init__(
        self, tokens: TokenSequence, context_length: int, rows: int, seed: int, mark: int | None = None
    ) -> None:
        self.tokens, self.context_length, self.rows, self.mark = tokens, context_length, rows, mark
        available = (tokens.tokens - 1) // context_length
        if available < 1:
            raise DataError(
                f"only {tokens.tokens} training tokens, fewer than one row of context_length + 1 = "
                f"{context_length + 1}: give more text, or lower pretrain.context_length"
            )
        self._order = Order(available, seed)

    @property
    def bytes_per_token(self) -> float:
        return self.tokens.bytes / self.tokens.tokens

    def batch(self, step: int) -> Batch:
        starts = self._starts(step)
        tokens = np.stack([self.tokens.read(start, start + self.context_length + 1) for start in starts])
        inputs = tokens[:, :-1]
        segments = None if self.mark is None else np.cumsum(inputs == self.mark, axis=1)
        return Batch(inputs, tokens[:, 1:], segments)

    def held(self, step: int) -> str:
        return _said(self.tokens, [(start, start + self.context_length + 1) for start in self._starts(step)])

    def _starts(self, step: int) -> list[int]:
        return [row * self.context_length for row in self._order.of_step(step, self.rows)]

    def times_seen(self, steps: int) -> IntArray:
        """How often the first `steps` steps take each row: (rows of a pass,)."""
        return self._order.times_seen(steps * self.rows)

    def places(self, first: int) -> Iterator[tuple[npt.NDArray[Any], int]]:
        """The documents with a number from `first` on: the tokens of each, and its place in the rows of a pass."""
        return self.tokens.places(first)

    def packed(self) -> Packed:
        """What becomes of all tokens in a pass."""
        read = self._order.length * self.context_length
        ends = self.tokens.ends()
        begins = np.concatenate([np.zeros(1, np.int64), ends])[: len(ends)]
        is_cut = (begins // self.context_length < (ends - 1) // self.context_length) & (begins < ends)
        return Packed(self._order.length, 0, self.tokens.tokens - read, int(is_cut.sum()))


class FittedBatches:
    """Rows of `context_length` inputs with whole documents by best fit, `rows` a step, in a new order each epoch.

    `mark` begins a document; with `apart` those of a row do not see each other.
    """

    def __init__(
        self, tokens: TokenSequence, context_length: int, rows: int, seed: int, mark: int, apart: bool
    ) -> None:
        self.tokens, self.context_length, self.rows = tokens, context_length, rows
        self.mark, self.apart = mark, apart
        self.packing = best_fit(tokens.ends(), context_length)
        if not self.packing.rows:
            raise DataError("no training token: give more text")
        self._order = Order(self.packing.rows, seed)

    @property
    def bytes_per_token(self) -> float:
        return self.tokens.bytes / self.tokens.tokens

    def batch(self, step: int) -> Batch:
        shape = (self.rows, self.context_length)
        inputs, targets = np.full(shape, self.mark, np.int64), np.full(shape, IGNORED, np.int64)
        segments = np.full(shape, PADDING, np.int64)
        for row, number in enumerate(self._order.of_step(step, self.rows)):
            place = 0
            for segment, (begin, size, is_last) in enumerate(self._pieces(number)):
                here = slice(place, place + size)
                after = self.tokens.read(begin, begin + size + (not is_last))
                inputs[row, here] = after[:size]
                targets[row, here] = np.append(after[1:], self.mark) if is_last else after[1:]
                segments[row, here] = segment
                place += size
        return Batch(inputs, targets, segments if self.apart else None)

    def held(self, step: int) -> str:
        rows = self._order.of_step(step, self.rows)
        return _said(self.tokens, [(begin, begin + size) for row in rows for begin, size, _ in self._pieces(row)])

    def _pieces(self, row: int) -> list[tuple[int, int, bool]]:
        """First token, size and whether its document ends with it, of each piece of a row."""
        here = slice(*self.packing.borders[row : row + 2].tolist())
        parts = (self.packing.begins[here], self.packing.sizes[here], self.packing.is_last[here])
        return list(zip(*(part.tolist() for part in parts), strict=True))

    def times_seen(self, steps: int) -> IntArray:
        """How often the first `steps` steps take each row: (rows of a pass,)."""
        return self._order.times_seen(steps * self.rows)

    def places(self, first: int) -> Iterator[tuple[npt.NDArray[Any], int]]:
        """The documents with a number from `first` on: the tokens of each, and its place in the rows of a pass."""
        by_begin = np.argsort(self.packing.begins)
        begins = self.packing.begins[by_begin]
        for ids, begin in self.tokens.places(first):
            piece = int(by_begin[np.searchsorted(begins, begin)])
            row = int(np.searchsorted(self.packing.borders, piece, side="right")) - 1
            before = int(self.packing.sizes[self.packing.borders[row] : piece].sum())
            yield ids, row * self.context_length + before

    def packed(self) -> Packed:
        """What becomes of all tokens in a pass."""
        padding = self.packing.rows * self.context_length - self.tokens.tokens
        is_cut = np.diff(self.tokens.ends(), prepend=0) > self.context_length
        return Packed(self.packing.rows, padding, 0, int(is_cut.sum()))


def _said(tokens: TokenSequence, spans: Sequence[tuple[int, int]]) -> str:
    """Of which documents the tokens of some spans are."""
    found = {name for start, stop in spans for name in tokens.documents_in(start, stop)}
    return f"documents {named(sorted(found))} of the stage tokenize"


RowBatches = PackedBatches | FittedBatches


class PhasedBatches:
    """Packed batches of one sequence after another, for a number of steps each: the phases of a curriculum."""

    def __init__(self, phases: Sequence[tuple[RowBatches, int]]) -> None:
        self.phases = phases

    @property
    def bytes_per_token(self) -> float:
        total = sum(steps for _, steps in self.phases)
        return sum(batches.bytes_per_token * (steps / total) for batches, steps in self.phases)

    def batch(self, step: int) -> Batch:
        batches, step = self._phase(step)
        return batches.batch(step)

    def held(self, step: int) -> str:
        batches, step = self._phase(step)
        return batches.held(step)

    def packed(self) -> Packed:
        """What becomes of all tokens in a pass over each phase."""
        found = [astuple(batches.packed()) for batches, _ in self.phases]
        return Packed(*map(sum, zip(*found, strict=True)))

    def _phase(self, step: int) -> tuple[RowBatches, int]:
        """The batches of the phase of a step, and how many steps of it are before."""
        for batches, steps in self.phases[:-1]:
            if step < steps:
                return batches, step
            step -= steps
        return self.phases[-1][0], step


class ShortRowsFirst:
    """Packed batches whose rows are cut in four at first and in two after that, for half of `steps` each.

    As many tokens a step, of which each sees less: what is near is learned first (Press et al. 2021, "Shortformer").
    """

    def __init__(self, batches: PhasedBatches, context_length: int, steps: int) -> None:
        check_short_rows(context_length)
        self.batches, self.steps = batches, steps

    @property
    def bytes_per_token(self) -> float:
        return self.batches.bytes_per_token

    def batch(self, step: int) -> Batch:
        whole = self.batches.batch(step)
        if step >= self.steps:
            return whole
        return whole.cut_in(SHORT_ROWS if 2 * step < self.steps else 2)

    def held(self, step: int) -> str:
        return self.batches.held(step)


def packed_phases(
    source: "Source",
    context_length: int,
    rows: int,
    seed: int,
    steps: int,
    packing: bool = False,
    apart: bool = False,
) -> PhasedBatches:
    """The batches of packed data: one phase of all documents, or those of an order.

    With `packing` documents are whole in rows, else a stream; with `apart` those of a row do not see each other.
    """
    tokens = TokenSet(Path(source.folder), TRAIN)
    mark = tokens.meta.end_of_text
    phases: list[tuple[float, TokenSequence]] = [(1.0, tokens)]
    if source.order:
        phases = [*read_order(Path(source.order), tokens)]

    def batches_of(sequence: TokenSequence) -> RowBatches:
        if packing:
            return FittedBatches(sequence, context_length, rows, seed, mark, apart)
        return PackedBatches(sequence, context_length, rows, seed, mark if apart else None)

    borders = np.rint(np.cumsum([0.0, *(share for share, _ in phases)]) * steps).astype(int).tolist()
    return PhasedBatches(
        [
            (batches_of(sequence), end - start)
            for (_, sequence), start, end in zip(phases, borders, borders[1:], strict=False)
        ]
    )


def batches_of_job(job: "TrainingJob") -> PhasedBatches:
    """The batches of a job on packed data."""
    shape = (job.shape.context_length, job.rows_per_step, job.seed, job.schedule.steps)
    return packed_phases(job.data, *shape, job.packing, job.apart)


def learned_of_job(job: "TrainingJob") -> Batches:
    """The same as a model learns them: short rows first, where it is told so."""
    batches = batches_of_job(job)
    return ShortRowsFirst(batches, job.shape.context_length, job.short_steps) if job.short_steps else batches
