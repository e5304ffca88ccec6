"""Text that the initial model knew: read from files of the user's, and a sample of it drawn.

A sample is the first texts by a hash of the seed and of their contents, up to a budget in bytes, as that of held-out
documents is (documents.py): whichever files they lie in, the same texts give the same sample. One pass; memory holds a
few times the budget. What cannot be read is counted, and an error where its amount is unknown. Cost: that of reading.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import DataError
from storage.source_hashes import hash_files
from tasks.collect.discover import RECORD_FORMATS, TEXT_FORMATS, discover, inspect_path, kind_of, where_in
from tasks.collect.readers import field_of, read_records
from tasks.collect.records import BadRecord, Reading, Record
from tasks.collect.said import BadKinds, found_sentences
from tasks.evaluate.config import EvaluateConfig, KnownText
from tasks.evaluate.documents import WHOLE_BYTES, Sampled, rank

FORMATS = TEXT_FORMATS + RECORD_FORMATS
NAME = "known_text"  # the source of its items
LONGEST_BYTES = 1 << 26  # of one text
HELD = 4  # times the budget are held before the sample is cut back to it


@dataclass(frozen=True, slots=True)
class Known:
    """The sample, and what the user should know of the files."""

    documents: list[Sampled] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def observe_known(texts: Iterable[KnownText]) -> dict[str, str]:
    """File -> digest, by the number of the entry: another name or place of equal files changes nothing else."""
    return {
        f"{NAME}/{number}/{file.name}": file.digest
        for number, known in enumerate(texts)
        for file in hash_files(discover(known.path, _option(number), FORMATS))
    }


def check_known(config: EvaluateConfig, scratch: Path) -> None:
    """Raise DataError where an entry holds no text, or none in its field. Reads as far as the first one of each."""
    for number, known in enumerate(config.known_text):
        bad = BadKinds()
        if not any(_texts(known, number, scratch, Counter(), bad)):
            raise _nothing(known, number, bad)


def read_known(config: EvaluateConfig, scratch: Path) -> Known:
    """The sample of all entries together; DataError where one holds no text, or a file is not whole."""
    sample = _Sample(config.known_bytes, config.seed)
    notices = []
    for number, known in enumerate(config.known_text):
        found, bad = Counter[str](), BadKinds()
        before = sample.count
        for text in _texts(known, number, scratch, found, bad):
            sample.add(text)
        if sample.count == before:
            raise _nothing(known, number, bad)
        notices += inspect_path(known.path, _option(number), FORMATS).sentences(NAME, _option(number))
        notices += [f"evaluate: known text left out: {sentence}" for sentence in bad.sentences()]
        notices += found_sentences(NAME, found)
    return Known(sample.documents(), notices)


class _Sample:
    """The first texts by rank until a budget is reached; of a long one the beginning, as in `read_sample`."""

    def __init__(self, budget_bytes: int, seed: int) -> None:
        self.count = 0
        self._budget, self._seed = budget_bytes, seed
        self._kept: list[tuple[bytes, str, bytes]] = []  # rank, digest, text
        self._bytes = 0

    def add(self, text: bytes) -> None:
        self.count += 1
        digest = hashlib.sha256(text).hexdigest()
        text = text[: self._limit]
        self._kept.append((rank(self._seed, digest), digest, text))
        self._bytes += len(text)
        if self._bytes > HELD * max(self._budget, self._limit):
            self._kept = self._first(WHOLE_BYTES)
            self._bytes = sum(len(text) for _, _, text in self._kept)

    def documents(self) -> list[Sampled]:
        shown = [(digest, text[: self._limit].decode(errors="ignore")) for _, digest, text in self._first(self._limit)]
        return [Sampled(digest, text, NAME, len(text.encode())) for digest, text in shown]

    @property
    def _limit(self) -> int:
        return max(WHOLE_BYTES, self._budget // max(1, self.count))

    def _first(self, limit: int) -> list[tuple[bytes, str, bytes]]:
        """As many as the budget takes where none counts more than `limit`: the lower, the more."""
        total, kept = 0, []
        for entry in sorted(self._kept):
            if total >= self._budget:
                break
            kept.append((*entry[:2], entry[2][: self._limit]))
            total += min(len(entry[2]), limit)
        return kept


def _texts(known: KnownText, number: int, scratch: Path, found: Counter[str], bad: BadKinds) -> Iterator[bytes]:
    """The texts of an entry, in UTF-8; records without text are none, bad ones are counted."""
    reading = Reading((known.text_field,), LONGEST_BYTES)
    for name, path in discover(known.path, _option(number), FORMATS):
        kind = kind_of(name, FORMATS)
        assert kind is not None, name
        for record in read_records(path, kind, reading, scratch, found):
            text = _text_of(record, known.text_field)
            if isinstance(text, bytes):
                yield from [text] if text.strip() else []
                continue
            where = where_in(name, text.line)
            if text.rest_lost:
                raise DataError(
                    f"{_option(number)}: {where}: {text.reason}: how much is lost is unknown; fetch or pack it again, "
                    "or name the files without it"
                )
            bad.add(where, text.reason)


def _text_of(record: Record | BadRecord, name: str) -> bytes | BadRecord:
    if isinstance(record, BadRecord):
        return record
    try:
        text = field_of(record.fields, name)
    except KeyError:
        return BadRecord(record.line, f"no field {name!r}", fields=tuple(map(str, record.fields)))
    if text is None:
        return b""
    if not isinstance(text, str):
        return BadRecord(record.line, f"field {name!r} is not text but {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        return BadRecord(record.line, f"field {name!r} holds half a character (a lone surrogate)")


def _nothing(known: KnownText, number: int, bad: BadKinds) -> DataError:
    why = f" ({first})" if (first := bad.first()) else ""
    return DataError(
        f"{_option(number)}: {known.path}: holds no text in the field {known.text_field!r}{why}: set "
        f"evaluate.known_text.{number}.text_field, or name other files"
    )


def _option(number: int) -> str:
    return f"evaluate.known_text[{number}].path"
