"""The text that continued pretraining reads: documents that the champion has not learned, and a replay of the others.

A document is old if the champion's token set holds the very same tokens: by the digest of its shard, else by its own.
So a shard that grew by ten documents brings ten new ones, and a new rule of the filter those that it lets in. Canaries
are left out: how often a model has met each stays true. Memory: 8 bytes a document of the shards that differ.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storage.documents import TRAIN
from storage.files import remove_tree
from storage.store.artifacts import Part
from storage.tokens import TokenSet, TokenShard, read_token_meta, write_token_meta, write_token_shard
from tasks.tokenize.canaries import CANARY_SHARD

SHARD_TOKENS = 1 << 22
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pool:
    """Documents to draw from: (documents, 3) of shard, first token with the document mark, end."""

    places: Index

    @property
    def tokens(self) -> int:
        return int((self.places[:, 2] - self.places[:, 1]).sum())

    def draw(self, tokens: int, seed: int) -> Index:
        """Whole passes, then documents in a shuffled order, until `tokens` are reached; nothing of an empty pool."""
        from model.batches import permutation

        drawn: list[Index] = []
        missing, epoch = tokens, 0
        while missing > 0 and self.tokens:
            order = self.places[permutation(len(self.places), seed, epoch)]
            sizes = np.cumsum(order[:, 2] - order[:, 1])
            count = int(np.searchsorted(sizes, missing)) + 1
            drawn.append(order[:count])
            missing -= int(sizes[min(count, len(sizes)) - 1])
            epoch += 1
        return np.concatenate(drawn) if drawn else np.empty((0, 3), np.int64)


class Mixture:
    """The training documents of a token set, parted into those that another set holds too and those it does not."""

    def __init__(self, tokens: Part, learned: Part) -> None:
        self.vocabulary_size = read_token_meta(tokens.path).vocabulary_size
        self._shards = [shard for _, shard in _shards(tokens)]
        known_files = {digest for digest, _ in _shards(learned)}
        shared = {digest for digest, _ in _shards(tokens)} & known_files
        known = _identities(shard for digest, shard in _shards(learned) if digest not in shared)
        old, new = [np.empty((0, 3), np.int64)], [np.empty((0, 3), np.int64)]
        for number, (digest, shard) in enumerate(_shards(tokens)):
            ends = shard.documents[:, 0]
            places = np.stack([np.full(len(ends), number), np.concatenate([[0], ends[:-1]]), ends], axis=1)
            is_old = np.ones(len(ends), bool) if digest in shared else np.isin(_identities([shard]), known)
            old.append(places[is_old])
            new.append(places[~is_old])
        self.old, self.new = Pool(np.concatenate(old)), Pool(np.concatenate(new))

    def write(self, folder: Path, new_tokens: int, old_tokens: int, seed: int) -> None:
        """Write the token set that training reads. Equal arguments, equal bytes: a killed training resumes on it."""
        remove_tree(folder)
        folder.mkdir(parents=True)
        write_token_meta(folder, self.vocabulary_size)
        chosen = np.concatenate([self.new.draw(new_tokens, seed), self.old.draw(old_tokens, seed)])
        cuts = np.cumsum(chosen[:, 2] - chosen[:, 1]) // SHARD_TOKENS
        for number, cut in enumerate(np.unique(cuts)):
            documents = (self._document(*row) for row in chosen[cuts == cut].tolist())
            write_token_shard(folder, TRAIN, number, documents, self.vocabulary_size)

    def _document(self, number: int, begin: int, end: int) -> tuple[npt.NDArray[np.int64], int]:
        """Tokens of a document without its mark, and the bytes of its text."""
        shard = self._shards[number]
        row = int(np.searchsorted(shard.documents[:, 0], end))
        return np.asarray(shard.tokens[begin + 1 : end]), int(shard.documents[row, 1])


def _shards(part: Part) -> list[tuple[str, TokenShard]]:
    """The training shards of a token set with the digests of their tokens; without that of the canaries."""
    canaries = f"{TRAIN}-{CANARY_SHARD:05d}.tokens.npy"
    files = [file for file in part.files if file.name.startswith(f"{TRAIN}-") and file.name.endswith(".tokens.npy")]
    files.sort(key=lambda file: file.name)
    pairs = zip(files, TokenSet(part.path, TRAIN).shards, strict=True)
    return [(file.digest, shard) for file, shard in pairs if file.name != canaries]


def _identities(shards: Iterator[TokenShard] | list[TokenShard]) -> npt.NDArray[np.uint64]:
    """A number for each document, equal for equal tokens: the first 8 bytes of a hash."""
    found = []
    for shard in shards:
        begin = 0
        for end in shard.documents[:, 0].tolist():
            digest = hashlib.blake2b(np.ascontiguousarray(shard.tokens[begin:end]).tobytes(), digest_size=8).digest()
            found.append(int.from_bytes(digest, "little"))
            begin = end
    return np.array(found, np.uint64)
