"""An order of documents at rest: what of a token set is trained on, how often, and when.

A folder of one or more phases, each a part of the training:

| file | contents |
|---|---|
| `phases.json` | `[share, ...]`: what share of the training's steps each phase has; together 1 |
| `phase-00.npy`, ... | int64, shape (3, pieces): number of the document in its split, first token of it, end |

A piece is a document, or a part of one where a budget ends within it; `end` is the end of the piece in the phase's own
sequence of tokens. The files are read through a memory map.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.canonical import canonical_json
from storage.errors import DataError
from storage.tokens import TokenSet

Pieces = npt.NDArray[np.int64]  # (3, pieces): document, first token, number of tokens
CHUNK = 1 << 20  # pieces looked at together


@dataclass(frozen=True, slots=True)
class Phase:
    """A share of the steps, and the pieces that they read."""

    share: float
    pieces: Pieces


def write_order(folder: Path, phases: Sequence[Phase]) -> None:
    """Write an order. Equal phases, equal bytes."""
    for number, phase in enumerate(phases):
        documents, firsts, sizes = phase.pieces
        np.save(_path(folder, number), np.stack([documents, firsts, np.cumsum(sizes)]), allow_pickle=False)
    (folder / "phases.json").write_bytes(canonical_json([phase.share for phase in phases]) + b"\n")


class OrderedTokens:
    """The tokens of one phase as one long sequence. Nothing is loaded before it is read."""

    def __init__(self, tokens: TokenSet, path: Path) -> None:
        self._set = tokens
        try:
            self._documents, self._firsts, self._ends = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: not an order of documents ({error}); run the stage mix again") from error

    @property
    def tokens(self) -> int:
        """Number of tokens, document marks included."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the texts; of a piece its share by tokens."""
        sizes, total = self._set.sizes(), 0.0
        for start in range(0, len(self._ends), CHUNK):
            chunk = slice(start, start + CHUNK)
            whole, text_bytes = sizes[self._documents[chunk]].T
            lengths = np.diff(self._ends[chunk], prepend=self._ends[start - 1] if start else 0)
            total += float((text_bytes * (lengths / whole)).sum())
        return round(total)

    def pieces(self) -> Pieces:
        """All pieces, in memory."""
        return np.stack([self._documents, self._firsts, np.diff(self._ends, prepend=0)])

    def ends(self) -> npt.NDArray[np.int64]:
        """Where each piece ends in the sequence: (pieces,)."""
        return np.asarray(self._ends)

    def read(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Tokens [start, stop) of the sequence, across pieces, as int64."""
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"tokens {start} to {stop} of {self.tokens}")
        out = np.empty(stop - start, np.int64)
        piece, position = int(np.searchsorted(self._ends, start, side="right")), start
        while position < stop:
            begin, tokens = self._piece(piece)
            part = tokens[position - begin : stop - begin]
            out[position - start : position - start + len(part)] = part
            position += len(part)
            piece += 1
        return out

    def places(self, first: int) -> Iterator[tuple[npt.NDArray[Any], int]]:
        """The pieces of documents with a number from `first` on: the tokens of each, and where it begins."""
        for piece in np.flatnonzero(self._documents >= first).tolist():
            begin, tokens = self._piece(piece)
            yield tokens, begin

    def documents_in(self, start: int, stop: int) -> list[str]:
        """Which documents tokens [start, stop) are of, each as `SHARD:ROW`."""
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right").tolist()
        return [self._set.name_of(int(number)) for number in self._documents[first : last + 1]]

    def _piece(self, number: int) -> tuple[int, npt.NDArray[Any]]:
        """Where a piece begins in the sequence, and its tokens."""
        begin = int(self._ends[number - 1]) if number else 0
        first = int(self._firsts[number])
        return begin, self._set.document(int(self._documents[number]))[first : first + int(self._ends[number]) - begin]


def read_order(folder: Path, tokens: TokenSet) -> list[tuple[float, OrderedTokens]]:
    """Each phase's share of the steps and its tokens; DataError where the folder holds no order."""
    try:
        shares = json.loads((folder / "phases.json").read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: not an order of documents ({error}); run the stage mix again") from error
    return [(share, OrderedTokens(tokens, _path(folder, number))) for number, share in enumerate(shares)]


def _path(folder: Path, number: int) -> Path:
    return folder / f"phase-{number:02d}.npy"
