"""The text that continued pretraining reads: documents that the champion has not learned, and a replay of the others.

A document is old if the champion's token set holds the very same tokens: by the digest of its shard, else by its own.
So a shard that grew by ten documents brings ten new ones, and a new rule of the filter those that it lets in. Where the
recipe has a mix, both are drawn as often as the mix has them. Canaries are left out: how often a model has met each
stays true. Memory: 8 bytes a document of the shards that differ, and 24 a piece.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storage.documents import TRAIN
from storage.files import remove_tree
from storage.store.artifacts import Part
from storage.token_order import Phase, Pieces, read_order, write_order
from storage.tokens import TokenSet, TokenShard
from tasks.mix.pool import Pool, shuffled, whole_documents
from tasks.tokenize.canaries import CANARY_SHARD


class Mixture:
    """The training text of a token set, parted into what another set holds too and what it does not."""

    def __init__(self, tokens: Part, learned: Part, order: Part | None, seed: int) -> None:
        self.digests = [part.digest for part in (tokens, learned, order) if part is not None]
        known_files = {digest for digest, _ in _shards(learned)}
        shared = {digest for digest, _ in _shards(tokens)} & known_files
        known = _identities(shard for digest, shard in _shards(learned) if digest not in shared)
        parts = [
            np.ones(len(shard.documents), bool) if digest in shared else np.isin(_identities([shard]), known)
            for digest, shard in _shards(tokens)
        ]
        is_old = np.concatenate([np.empty(0, bool), *parts])  # of each document; canaries are behind the last
        pieces = _pieces(TokenSet(tokens.path, TRAIN), order, len(is_old))
        chosen = is_old[pieces[0]]
        self.old, self.new = Pool(pieces[:, chosen], seed), Pool(pieces[:, ~chosen], seed)
        self._seed = seed

    def write(self, folder: Path, new_tokens: int, old_tokens: int) -> None:
        """Write the order that training reads. Equal arguments, equal bytes: a killed training resumes on it."""
        remove_tree(folder)
        folder.mkdir(parents=True)
        drawn = np.concatenate([self.new.draw(new_tokens), self.old.draw(old_tokens)], axis=1)
        write_order(folder, [Phase(1.0, shuffled(drawn, self._seed))])


def _pieces(tokens: TokenSet, order: Part | None, documents: int) -> Pieces:
    """What the first documents are drawn from: each once, or as often as a mix has it."""
    if order is None:
        return whole_documents(np.arange(documents), tokens.sizes()[:, 0])
    pieces = np.concatenate([phase.pieces() for _, phase in read_order(order.path, tokens)], axis=1)
    return pieces[:, pieces[0] < documents]


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
