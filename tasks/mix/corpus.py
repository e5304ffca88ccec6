"""Whose each training document is: the source, language or group of the documents in a token set.

The languages are those that the filter has found; where it looked for none, those that sources state.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.documents import TRAIN, UNDETERMINED
from storage.errors import DataError
from storage.store.artifacts import Part, StoredFile
from storage.tokens import TokenSet
from tasks.mix.config import OTHERS, MixConfig
from tasks.tokenize.canaries import CANARY_SHARD

MOST_NAMES = 1000  # that no setting names, and that are still told apart

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Corpus:
    """`owners[i]` is the place among `names` of training document i, `sizes[i]` its tokens."""

    names: tuple[str, ...]
    owners: npt.NDArray[np.int32]
    sizes: Ints

    @property
    def tokens(self) -> Ints:
        """Of one pass over each name."""
        return np.bincount(self.owners, self.sizes[: len(self.owners)], len(self.names)).astype(np.int64)

    def documents_of(self, number: int) -> Ints:
        return np.flatnonzero(self.owners == number).astype(np.int64)


def corpus_of(config: MixConfig, documents: Part, signals: Part, tokens: TokenSet) -> Corpus:
    """Read one column of the documents. Memory: 20 bytes a document.

    Names that no setting has are told apart up to `MOST_NAMES`; of more, all are `*`. Raises DataError where the
    recipe names what is not there, or says nothing of what is.
    """
    own = sum(len(shard.documents) for n, shard in zip(tokens.numbers, tokens.shards, strict=True) if n != CANARY_SHARD)
    register = _Register(config)
    shards = (register.numbers(owners) for owners in _owners(config.by, documents, signals))
    found = np.concatenate([np.empty(0, np.int32), *shards])
    if len(found) != own:
        raise DataError(f"mix: {len(found):,} training documents, and tokens of {own:,}: give it those of the tokens")
    owners = register.finished(found)
    used = np.flatnonzero(np.bincount(owners, minlength=len(register.names)))
    names = [register.names[number] for number in used.tolist()]
    _check_names(config, names)
    return Corpus(tuple(names), np.searchsorted(used, owners).astype(np.int32), tokens.sizes()[:, 0])


class _Register:
    """Numbers for names as they come: 0 for `*`, then those of the settings, then the others."""

    def __init__(self, config: MixConfig) -> None:
        self._config = config
        self.names = [OTHERS, *sorted(config.named)]
        self._settled = len(self.names)
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def numbers(self, owners: pa.DictionaryArray) -> npt.NDArray[np.int32]:
        own = np.array([self._number(name) for name in owners.dictionary.to_pylist()], np.int32)
        return own[owners.indices.to_numpy()] if len(own) else own

    def finished(self, found: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """The numbers once all names are known: others are told apart, or none of them is."""
        if len(self.names) - self._settled <= MOST_NAMES:
            return found
        if self._config.temperature != 1:
            raise DataError(
                f"mix: there are more than {MOST_NAMES:,} names of a {self._config.by}, too many to even out: set "
                "collect.mix.temperature to 1, mix by source, or give the sources a group_field"
            )
        return np.where(found < self._settled, found, 0).astype(np.int32)

    def _number(self, name: str) -> int:
        if name not in self._numbers and len(self.names) - self._settled <= MOST_NAMES:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers.get(name, 0)


def _owners(by: Literal["source", "language", "group"], documents: Part, signals: Part) -> Iterator[pa.DictionaryArray]:
    """The names of the training documents of each shard."""
    measured = {file.name: file for file in signals.files}
    for file in documents.files:
        table = pq.read_table(file.path, columns=["id", "split", "lang" if by == "language" else by], use_threads=False)
        names = table.column(2)
        if by == "language":
            names = _languages(table, measured[file.name])
        yield pc.dictionary_encode(names.filter(pc.equal(table["split"], TRAIN)).combine_chunks())


def _languages(documents: pa.Table, signals: StoredFile) -> pa.ChunkedArray:
    """The language of each document: signals are measured of every document that the filter read."""
    measured = pq.read_table(signals.path, columns=["id", "language"], use_threads=False)
    rows = pc.index_in(documents["id"], measured["id"].combine_chunks())
    found = measured["language"].take(rows)
    return pc.if_else(pc.equal(found, ""), UNDETERMINED, found)


def _check_names(config: MixConfig, names: list[str]) -> None:
    try:
        config.check_names([name for name in names if name != OTHERS])
    except ValueError as error:
        raise DataError(f"mix: collect.mix.{error}") from None
