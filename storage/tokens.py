"""Token shards at rest: what the tokenizer leaves and the trainer reads through a memory map.

A token set is a folder:

| file | contents |
|---|---|
| `train-00000.tokens.npy`, `heldout-00000.tokens.npy` | 1-D uint16 (uint32 where the vocabulary needs it) |
| `train-00000.documents.npy`, ... | int64, shape (documents, 2): token end offset in the shard, UTF-8 bytes of text |
| `meta.json` | `{"vocabulary_size", "dtype", "end_of_text"}`, and `"mask_token"` where the tokenizer has one |

Each document is `<|endoftext|>` followed by its tokens, so that a model always sees where a document starts. The
bytes are kept beside the tokens because bits per byte, unlike loss per token, compares across tokenizers.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from storage.canonical import canonical_json
from storage.documents import HELDOUT, TRAIN
from storage.errors import DataError

END_OF_TEXT = 0  # of the tokenizers that are trained here; an open model's has another

TokenIds = Sequence[int] | npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class TokenMeta:
    """What a reader must know of a token set before it reads one."""

    vocabulary_size: int
    dtype: str
    end_of_text: int = END_OF_TEXT
    mask_token: int | None = None  # what stands where a token is hidden; None: the tokenizer has none


@dataclass(frozen=True, slots=True)
class TokenShard:
    """One shard, memory mapped: tokens (1-D) and documents (documents, 2) of [end offset, UTF-8 bytes]."""

    tokens: npt.NDArray[Any]
    documents: npt.NDArray[np.int64]


def token_dtype(vocabulary_size: int) -> str:
    """The smallest unsigned type that holds every id."""
    return "uint16" if vocabulary_size <= 1 << 16 else "uint32"


def write_token_meta(
    folder: Path, vocabulary_size: int, end_of_text: int = END_OF_TEXT, mask_token: int | None = None
) -> None:
    """Write `meta.json` of a token set, whose documents begin with the id `end_of_text`."""
    meta: dict[str, Any] = {
        "vocabulary_size": vocabulary_size,
        "dtype": token_dtype(vocabulary_size),
        "end_of_text": end_of_text,
        **({} if mask_token is None else {"mask_token": mask_token}),
    }
    (folder / "meta.json").write_bytes(canonical_json(meta) + b"\n")


def write_token_shard(
    folder: Path,
    split: str,
    index: int,
    documents: Iterable[tuple[TokenIds, int]],
    vocabulary_size: int,
    end_of_text: int = END_OF_TEXT,
) -> dict[str, int]:
    """Write shard `index` of a split from (ids without `<|endoftext|>`, UTF-8 bytes of the text) of each document.

    `<|endoftext|>` (the id `end_of_text`) is put before each document here, so that no caller can forget it. Returns
    the counts `documents`, `tokens` (with the document marks) and `bytes`.
    """
    dtype = np.dtype(token_dtype(vocabulary_size))
    mark = np.full(1, end_of_text, dtype)
    pieces: list[npt.NDArray[Any]] = []
    rows: list[tuple[int, int]] = []
    end = total_bytes = 0
    for ids, text_bytes in documents:
        array = np.asarray(ids, np.int64)
        if array.size and not 0 <= int(array.min()) <= int(array.max()) < vocabulary_size:
            raise ValueError(f"token id outside the vocabulary of {vocabulary_size}")
        pieces += [mark, array.astype(dtype)]
        end += 1 + array.size
        total_bytes += text_bytes
        rows.append((end, text_bytes))
    tokens = np.concatenate(pieces) if pieces else np.empty(0, dtype)
    np.save(_tokens_path(folder, split, index), tokens, allow_pickle=False)
    np.save(_documents_path(folder, split, index), np.asarray(rows, np.int64).reshape(-1, 2), allow_pickle=False)
    return {"documents": len(rows), "tokens": end, "bytes": total_bytes}


class TokenSequence(Protocol):
    """Tokens of documents one after another, as training reads them."""

    @property
    def tokens(self) -> int:
        """Number of tokens, document marks included."""
        ...

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the texts."""
        ...

    def read(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Tokens [start, stop) of the sequence, as int64."""
        ...

    def ends(self) -> npt.NDArray[np.int64]:
        """Where each document, or piece of one, ends in the sequence: (documents,)."""
        ...

    def places(self, first: int) -> Iterator[tuple[npt.NDArray[Any], int]]:
        """The whole documents with a number from `first` on: the tokens of each, and where it begins."""
        ...

    def documents_in(self, start: int, stop: int) -> list[str]:
        """Which documents tokens [start, stop) are of, each as `SHARD:ROW`."""
        ...


class TokenSet:
    """The shards of one split, read as one long sequence of tokens. Nothing is loaded before it is read.

    `numbers[i]` is the number in the name of shard i.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.meta = read_token_meta(folder)
        self.split = split
        paths = sorted(folder.glob(f"{split}-*.tokens.npy"))
        self.shards = [_open_shard(folder, path, self.meta) for path in paths]
        self.numbers = [_shard_number(path) for path in paths]
        self._starts = np.cumsum([0, *(len(shard.tokens) for shard in self.shards)])
        self._first_documents = np.cumsum([0, *(len(shard.documents) for shard in self.shards)])

    @property
    def tokens(self) -> int:
        """Number of tokens, document marks included."""
        return int(self._starts[-1])

    @property
    def documents(self) -> int:
        return int(self._first_documents[-1])

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of all the texts."""
        return sum(int(shard.documents[:, 1].sum()) for shard in self.shards)

    def read(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Tokens [start, stop) of the whole sequence, across shard borders, as int64."""
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"tokens {start} to {stop} of {self.tokens}")
        out = np.empty(stop - start, np.int64)
        shard = int(np.searchsorted(self._starts, start, side="right")) - 1
        position = start
        while position < stop:
            begin = position - int(self._starts[shard])
            end = min(stop - int(self._starts[shard]), len(self.shards[shard].tokens))
            out[position - start : position - start + end - begin] = self.shards[shard].tokens[begin:end]
            position += end - begin
            shard += 1
        return out

    def document(self, number: int) -> npt.NDArray[Any]:
        """Tokens of a document by its number in the set, `<|endoftext|>` first: a view of the memory map."""
        shard = int(np.searchsorted(self._first_documents, number, side="right")) - 1
        row = number - int(self._first_documents[shard])
        ends = self.shards[shard].documents[:, 0]
        tokens: npt.NDArray[Any] = self.shards[shard].tokens[int(ends[row - 1]) if row else 0 : int(ends[row])]
        return tokens

    def documents_in(self, start: int, stop: int) -> list[str]:
        """Which documents tokens [start, stop) are of, each as `SHARD:ROW`."""
        found = []
        for shard, number, begin in zip(self.shards, self.numbers, self._starts.tolist(), strict=False):
            ends = shard.documents[:, 0] + begin
            rows = range(*np.searchsorted(ends, [start, stop - 1], side="right").tolist())
            inside = start < begin + len(shard.tokens) and stop > begin
            found += [f"{self.split}-{number:05d}:{row}" for row in (*rows, rows.stop) if inside and row < len(ends)]
        return found

    def name_of(self, document: int) -> str:
        """A document by its number in the set, as `SHARD:ROW`."""
        shard = int(np.searchsorted(self._first_documents, document, side="right")) - 1
        return f"{self.split}-{self.numbers[shard]:05d}:{document - int(self._first_documents[shard])}"

    def number_of(self, shard: int, row: int) -> int:
        """The number in the set of a document by the number of its shard and its row there."""
        return int(self._first_documents[self.numbers.index(shard)]) + row

    def sizes(self) -> npt.NDArray[np.int64]:
        """Tokens and UTF-8 bytes of all documents: (documents, 2)."""
        parts = [np.diff(shard.documents[:, 0], prepend=0) for shard in self.shards]
        tokens = np.concatenate(parts) if parts else np.empty(0, np.int64)
        text_bytes = np.concatenate([shard.documents[:, 1] for shard in self.shards]) if parts else tokens
        return np.stack([tokens, text_bytes], axis=1)

    def ends(self) -> npt.NDArray[np.int64]:
        """Where each document ends in the whole sequence: (documents,)."""
        return np.cumsum(self.sizes()[:, 0])

    def places(self, first: int) -> Iterator[tuple[npt.NDArray[Any], int]]:
        """Document `first` and those after it: the tokens of each, and where it begins in the whole sequence."""
        begin = self.tokens - int(self.sizes()[first:, 0].sum())
        for number in range(first, self.documents):
            tokens = self.document(number)
            yield tokens, begin
            begin += len(tokens)

    def iterate_documents(self) -> Iterator[tuple[npt.NDArray[np.int64], int]]:
        """Each document in order: its tokens, `<|endoftext|>` first, and the UTF-8 bytes of its text."""
        for shard in self.shards:
            yield from _documents_of(shard)


def read_token_shard(tokens: Path, documents: Path) -> Iterator[tuple[npt.NDArray[np.int64], int]]:
    """The documents of one shard, given by its two files, as `TokenSet.iterate_documents` has them."""
    yield from _documents_of(
        TokenShard(np.load(tokens, mmap_mode="r", allow_pickle=False), np.load(documents, allow_pickle=False))
    )


def _documents_of(shard: TokenShard) -> Iterator[tuple[npt.NDArray[np.int64], int]]:
    begin = 0
    for end, text_bytes in shard.documents.tolist():
        yield np.asarray(shard.tokens[begin:end], np.int64), text_bytes
        begin = end


def read_token_meta(folder: Path) -> TokenMeta:
    """`meta.json` of a token set; DataError where it is missing or not one."""
    path = folder / "meta.json"
    try:
        return TokenMeta(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not the meta file of a token set ({error}); run the stage tokenize again") from error


def _open_shard(folder: Path, tokens_path: Path, meta: TokenMeta) -> TokenShard:
    split = tokens_path.name.rpartition("-")[0]
    documents_path = _documents_path(folder, split, _shard_number(tokens_path))
    try:
        tokens = np.load(tokens_path, mmap_mode="r", allow_pickle=False)
        documents = np.load(documents_path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{tokens_path}: cannot be read ({error}); run the stage tokenize again") from error
    ends = documents[-1, 0] if len(documents) else 0
    if str(tokens.dtype) != meta.dtype or tokens.ndim != 1 or ends != len(tokens):
        raise DataError(f"{tokens_path}: does not agree with meta.json and its document index; run tokenize again")
    return TokenShard(tokens, documents)


def _shard_number(tokens_path: Path) -> int:
    return int(tokens_path.name.removesuffix(".tokens.npy").rpartition("-")[2])


def _tokens_path(folder: Path, split: str, index: int) -> Path:
    if split not in (TRAIN, HELDOUT):
        raise ValueError(f"unknown split {split!r}")
    return folder / f"{split}-{index:05d}.tokens.npy"


def _documents_path(folder: Path, split: str, index: int) -> Path:
    return folder / f"{split}-{index:05d}.documents.npy"
