"""The corpus by source (documents, bytes, tokens, licences) and the vocabulary. Streams; no text is read."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from flows.report.run_data import RunData
from storage.documents import HELDOUT, TRAIN, UNDETERMINED
from storage.tokens import TokenSet
from tasks.engine.about import DOCUMENTS
from tasks.engine.reported import Fact

LONGEST_TOKENS = 24
STRETCH_TOKENS = 1 << 20  # read at once
MAX_TOKENIZER_BYTES = 256 << 20


class Source(Fact):
    """What is left of one source in the end. `bytes` and `tokens` are 0 where nothing was tokenized."""

    name: str
    train_documents: int
    heldout_documents: int
    bytes: int
    tokens: int
    licenses: tuple[tuple[str, int], ...]  # documents by licence as stated by the source, most first

    @property
    def ratio(self) -> float:
        """Bytes per token."""
        return self.bytes / self.tokens if self.tokens else 0.0


class Language(Fact):
    """The text that was tokenized in one language, as documents state it."""

    name: str
    bytes: int
    tokens: int

    @property
    def ratio(self) -> float:
        """Bytes per token."""
        return self.bytes / self.tokens


class Sources(Fact):
    """All sources and all languages, by name."""

    sources: tuple[Source, ...]
    languages: tuple[Language, ...] = ()


class Vocabulary(Fact):
    """The longest tokens as text, spaces shown as middle dots; how many tokens no training text has, if known."""

    size: int
    longest: tuple[str, ...]
    unused: int | None = None


def sources_of(data: RunData) -> Sources:
    """Counts by source, from columns of the documents that were tokenized, or else of the last ones, and the lengths
    in the token shards."""
    tokens = data.last("tokens")
    documents = data.read(data.last_with("tokens"), DOCUMENTS) if tokens else data.last(DOCUMENTS)
    if documents is None:
        return Sources(sources=())

    def make() -> Sources:
        counts, by_language = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        licenses: dict[str, Counter[str]] = {}
        for number, stored in enumerate(documents.files):
            columns = pq.read_table(stored.path, columns=["source", "license", "split", "lang"])
            names, splits = columns["source"].to_pylist(), columns["split"].to_pylist()
            languages = [language or UNDETERMINED for language in columns["lang"].to_pylist()]
            for source, license_, split in zip(names, columns["license"].to_pylist(), splits, strict=True):
                counts[source, split] += 1
                licenses.setdefault(source, Counter())[license_ or "not stated"] += 1
            if tokens is None:
                continue
            for split in (TRAIN, HELDOUT):
                lengths = tokens.path / f"{split}-{number:05d}.documents.npy"
                for totals, owners in ((counts, names), (by_language, languages)):
                    here = [owner for owner, its in zip(owners, splits, strict=True) if its == split]
                    _count_lengths(totals, lengths, here)
        return Sources(
            sources=tuple(
                Source(
                    name=name,
                    train_documents=counts[name, TRAIN],
                    heldout_documents=counts[name, HELDOUT],
                    bytes=counts[name, "bytes"],
                    tokens=counts[name, "tokens"],
                    licenses=tuple(sorted(licenses[name].items(), key=lambda item: (-item[1], item[0]))),
                )
                for name in sorted(licenses)
            ),
            languages=tuple(
                Language(name=name, bytes=by_language[name, "bytes"], tokens=by_language[name, "tokens"])
                for name in sorted({name for name, _ in by_language})
                if by_language[name, "tokens"]
            ),
        )

    return data.remembered(Sources, [documents.digest, tokens.digest if tokens else None], make)


def _count_lengths(counts: Counter[tuple[str, str]], lengths: Path, owners: Sequence[str]) -> None:
    """Add the bytes and tokens of a shard to those who own them: `owners[i]` has its document i."""
    if not owners or not lengths.is_file():
        return
    rows = np.load(lengths, allow_pickle=False)
    if len(rows) != len(owners):
        return
    tokens = np.diff(rows[:, 0], prepend=0) - 1  # without the mark before each document
    names, positions = np.unique(np.asarray(owners), return_inverse=True)
    for amounts, what in ((rows[:, 1], "bytes"), (tokens, "tokens")):
        totals = np.bincount(positions, weights=amounts, minlength=len(names))
        for name, total in zip(names.tolist(), totals.tolist(), strict=True):
            counts[name, what] += int(total)


def vocabulary_of(data: RunData) -> Vocabulary | None:
    """The size of the vocabulary, its longest tokens and how many are unused; None where there is no tokenizer."""
    part, tokens = data.last("tokenizer"), data.last("tokens")
    if part is None or part.bytes > MAX_TOKENIZER_BYTES:
        return None

    def make() -> Vocabulary:
        from tasks.tokenize.control import special_tokens
        from tasks.tokenize.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(part.path)
        vocabulary = tokenizer.get_vocab()
        ranked = sorted(vocabulary, key=lambda token: (-len(token), token))[: 4 * LONGEST_TOKENS]
        texts = (tokenizer.decode([vocabulary[token]]) for token in ranked)
        shown = dict.fromkeys(_visible(text) for text in texts if text)  # special tokens have none
        unused = _unused(tokens.path, set(vocabulary.values()) - set(special_tokens(tokenizer))) if tokens else None
        return Vocabulary(size=len(vocabulary), longest=tuple(shown)[:LONGEST_TOKENS], unused=unused)

    return data.remembered(Vocabulary, [part.digest, tokens.digest if tokens else None], make)


def _unused(folder: Path, ids: set[int]) -> int:
    """How many of these ids no training text has; shards are read a stretch at a time."""
    training = TokenSet(folder, TRAIN)
    seen = np.zeros(1 + max(ids, default=0), np.bool_)
    for start in range(0, training.tokens, STRETCH_TOKENS):
        found = training.read(start, min(start + STRETCH_TOKENS, training.tokens))
        seen[found[found < len(seen)]] = True
    return sum(not seen[number] for number in ids)


def _visible(text: str) -> str:
    """White space as middle dots; a long run of one character as `x × 16`."""
    text = "".join("·" if character.isspace() or not character.isprintable() else character for character in text)
    return re.sub(r"(.)\1{7,}", lambda run: f"{run[1]} × {len(run[0])}", text)
