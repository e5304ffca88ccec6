"""Word lists of the user's own, in the form of the usual public ones: one word or phrase a line, UTF-8.

`#` begins a comment where it begins a line; empty lines count for nothing. A folder is one of lists whose names are the
languages of their words (`en`, `de.txt`), as the List of Dirty, Naughty, Obscene, and Otherwise Bad Words is kept
(https://github.com/LDNOOBW). An entry without a letter or digit, such as an emoji, is found anywhere. A table, or
another file of records (`.csv`, `.tsv`, `.jsonl`, `.json`, `.parquet`), has its words in a column named as one of
WORD_FIELDS: HurtLex (Bassignana et al. 2018) says `lemma`, Surge AI's profanity lists `text`.

Cost: a text is folded and cut into tokens once for all lists; then one look-up a token.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import DataError
from storage.source_hashes import unreadable
from tasks.collect.discover import RECORD_FORMATS, Kind, kind_of
from tasks.collect.readers import read_records
from tasks.collect.records import BadRecord, Reading
from tasks.filter.languages import language_code
from tasks.moderate.config import WordList
from tasks.moderate.folding import folded, tokens, without_leet

MOST_BYTES, MOST_CHARACTERS, MOST_ENTRIES = 8 << 20, 200, 500_000
WORD_FIELDS = ("word", "lemma", "text", "term", "phrase")
_SIGNS_OF_LEET = frozenset("@$!")


@dataclass(frozen=True, slots=True)
class Words:
    """The entries of one list, and the languages (ISO 639) of the texts that they are for; empty: of all."""

    entries: tuple[str, ...]
    languages: tuple[str, ...] = ()


def list_files(wanted: WordList, place: str) -> list[tuple[Path, tuple[str, ...]]]:
    """The files of a list, each with its languages. DataError for a path that holds none; `place` is in the recipe."""
    path = Path(wanted.path).expanduser()
    if not path.is_dir():
        if not path.is_file():
            raise DataError(f"{place}: {path}: there is no such file or folder. Give a list, one word a line")
        return [(path, wanted.languages)]
    named = [(file, language_code(file.name.split(".")[0])) for file in sorted(path.iterdir()) if file.is_file()]
    files: list[tuple[Path, tuple[str, ...]]] = [
        (file, (code,)) for file, code in named if code and (not wanted.languages or code in wanted.languages)
    ]
    if not files:
        raise DataError(f"{place}: {path}: no file in it is named by a language, such as en or de.txt")
    return files


def read_words(wanted: WordList, place: str) -> Iterator[Words]:
    """The entries of each file of a list; DataError with file and line for one that cannot be used."""
    for path, languages in list_files(wanted, place):
        entries = tuple(dict.fromkeys(_entries(path)))
        if not entries:
            raise DataError(f"{path}: holds no word. Write one a line, or take the list out of {place}")
        yield Words(entries, languages)


def _entries(path: Path) -> Iterator[str]:
    """The words or phrases of a file; DataError with the line for what can be none."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: larger than {MOST_BYTES:,} bytes, which no list of words is")
        kind = kind_of(path.name, RECORD_FORMATS)
        lines = _of_records(path, kind) if kind else _of_lines(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from error
    for number, entry in lines:
        where = f"{path}, line {number}"
        if number > MOST_ENTRIES:
            raise DataError(f"{where}: more than {MOST_ENTRIES:,} lines, which no list of words has")
        if entry is None:
            raise DataError(f"{where}: not UTF-8. Save the list as UTF-8")
        if not entry:
            continue
        if len(entry) > MOST_CHARACTERS:
            raise DataError(f"{where}: {len(entry)} characters in an entry; {MOST_CHARACTERS} at most, one a line")
        if any(len(phrase) == 1 and len(phrase[0]) == 1 and phrase[0].isascii() for phrase in phrases_of(entry)):
            raise DataError(
                f"{where}: {entry!r} has one letter or digit alone, which nearly every text has: take it out"
            )
        yield entry


def _of_lines(raw: bytes) -> Iterator[tuple[int, str | None]]:
    """Number and entry of each line, empty for a comment; None for what is not UTF-8."""
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            entry = line.decode().strip()
        except UnicodeDecodeError:
            yield number, None
            return
        yield number, "" if entry.startswith("#") else entry


def _of_records(path: Path, kind: Kind) -> Iterator[tuple[int, str]]:
    """Number and word of each record; DataError for one that has none."""
    with tempfile.TemporaryDirectory() as scratch:
        for record in read_records(path, kind, Reading(WORD_FIELDS, MOST_BYTES), Path(scratch)):
            where = f"{path}, line {record.line}"
            if isinstance(record, BadRecord):
                raise DataError(f"{where}: {record.reason}: fix it or leave it out")
            word = next((record.fields[name] for name in WORD_FIELDS if name in record.fields), None)
            if not isinstance(word, str):
                has = ", ".join(map(str, record.fields))
                raise DataError(
                    f"{where}: no text in a field named {', '.join(WORD_FIELDS)} (it has: {has}). Name the field of "
                    "the words so, or give a list with one word a line, as .txt"
                )
            yield record.line, word.strip()


def phrases_of(entry: str) -> set[tuple[str, ...]]:
    """The tokens that an entry is found by, as it is written and without leet; none where it has no letter or digit."""
    text = folded(entry)
    plain = set() if _SIGNS_OF_LEET & set(text) and any(without_leet(text)) else {text}
    return {found for one in (*plain, *without_leet(text)) if (found := tuple(tokens(one)))}


class Lexicon:
    """The words of all categories, ready to be looked for."""

    def __init__(self, words: Mapping[str, Sequence[Words]]) -> None:
        self._phrases: dict[str, list[tuple[tuple[str, ...], str, frozenset[str]]]] = defaultdict(list)
        self._literals: list[tuple[str, str, frozenset[str]]] = []
        for category, lists in words.items():
            for one in lists:
                self._add(category, one)

    def _add(self, category: str, words: Words) -> None:
        languages = frozenset(words.languages)
        for entry in words.entries:
            phrases = phrases_of(entry)
            for phrase in sorted(phrases):
                self._phrases[phrase[0]].append((phrase, category, languages))
            if not phrases:
                self._literals.append((folded(entry), category, languages))

    def found(self, text: str) -> set[tuple[str, frozenset[str]]]:
        """The categories of which the text has a word, each with the languages that the word is for."""
        text = folded(text)
        found = {(category, languages) for literal, category, languages in self._literals if literal in text}
        for one in (text, *without_leet(text)):
            found.update(self._in_tokens(tokens(one)))
        return found

    def _in_tokens(self, read: Sequence[str]) -> Iterable[tuple[str, frozenset[str]]]:
        for place, token in enumerate(read):
            for phrase, category, languages in self._phrases.get(token, ()):
                if len(phrase) == 1 or tuple(read[place : place + len(phrase)]) == phrase:
                    yield category, languages


def as_json(words: Mapping[str, Sequence[Words]]) -> dict[str, Any]:
    """All lists by category, for a file."""
    return {
        category: [{"languages": list(one.languages), "entries": list(one.entries)} for one in lists]
        for category, lists in words.items()
    }


def from_json(given: Mapping[str, Any]) -> dict[str, list[Words]]:
    """What `as_json` has made."""
    return {
        category: [Words(tuple(one["entries"]), tuple(one["languages"])) for one in lists]
        for category, lists in given.items()
    }
