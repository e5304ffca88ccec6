"""Web addresses that are not wanted: by lists of the user's, of hosts, addresses and words.

A list of `blocked_urls` is a file, or a folder of which all files named `domains` and `urls` are read (the form of the
University of Toulouse's lists, UT1: a folder for each subject). A line is a host (`example.com`: all hosts below it are
meant too), an address (`example.com/path`: all that begins with it), a line of a hosts file (`0.0.0.0 example.com`), or
one of an ad blocker (`||example.com^`), or has a star for what is below (`*.example.com`); `#` and `!` begin a comment,
and a line in brackets is an ad blocker's title. A host in letters of any script is the same as in ASCII (RFC 3490). A
list of `url_words` has a word a line, which is looked for between the signs of an address, whole, without case, and
also where its letters are written as %XX.

Memory: 8 bytes an entry, a hash of it: an address is blocked wrongly in one of 10**12 cases.
Cost: about a second for a million entries, 5 microseconds an address.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt

from storage.errors import DataError
from storage.source_hashes import hash_files, unreadable
from tasks.filter.config import FilterConfig

FOLDER_FILES = ("domains", "urls")
MOST_BYTES = 1 << 30  # of a list
_HOSTS_LINE = re.compile(r"(?:0\.0\.0\.0|127\.0\.0\.1|::1?|fe80::1%lo0)\s+(.*)")
_OWN_NAMES = ("localhost", "localhost.localdomain", "local", "broadcasthost", "0.0.0.0")
_AD_BLOCKER = re.compile(r"\|\|([^/^$*]+)\^?(?:\$[\w,~=-]*)?$")
_TITLE = re.compile(r"\[[^\]:]*\]$")  # `[Adblock Plus 2.0]`; an address of IPv6 in brackets has colons
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_HOST = re.compile(r"[\w-]+(?:\.[\w-]+)+\.?(?::[0-9]{1,5})?$|\[?[0-9a-f:]+\]?$")
_LONGEST_HOST = 253  # RFC 1035
_WORD = re.compile(r"[^\W_]+")

Hashes = npt.NDArray[np.uint64]


def observe_url_lists(config: FilterConfig) -> dict[str, str]:
    """`FIELD/NUMBER/FILE` -> SHA-256 of each file of the lists."""
    named = [
        (f"{field}/{number}/{name}", path)
        for field in ("blocked_urls", "url_words")
        for number, given in enumerate(getattr(config, field))
        for name, path in _files(given, f"filter.{field}.{number}")
    ]
    return {file.name: file.digest for file in hash_files(named)} if named else {}


class UrlRules:
    """The lists of a configuration, ready to be asked."""

    def __init__(self, config: FilterConfig) -> None:
        self.given = bool(config.blocked_urls or config.url_words)
        self._blocked = np.unique(np.array(list(_entries(config)), np.uint64))
        self._words = frozenset(_words(config))

    def signals(self, urls: Sequence[str]) -> tuple[list[int], list[int]]:
        """Of each address whether it is blocked (1 or 0), and how many of the words are in it."""
        return [int(self._is_blocked(url)) for url in urls], [
            len(self._words.intersection(_WORD.findall(unquote(url).casefold()))) if self._words else 0 for url in urls
        ]

    def _is_blocked(self, url: str) -> bool:
        if not url or not len(self._blocked):
            return False
        asked = np.array([_hash(form) for form in _forms(url)], np.uint64)
        found = np.minimum(np.searchsorted(self._blocked, asked), len(self._blocked) - 1)
        return bool((self._blocked[found] == asked).any())


def _forms(url: str) -> Iterator[str]:
    """What of a list would block an address: its host, the hosts above, and it and its beginnings as far as a sign."""
    host, rest = _parted(url)
    labels = host.split(".")
    yield from (".".join(labels[start:]) for start in range(len(labels)))
    ends = [place + 1 for place, letter in enumerate(rest) if letter in "/?#&"] + [len(rest)]
    for end in ends[:64]:
        for part in (rest[:end], rest[: end - 1]):
            if part.strip("/"):
                yield host + part
                if host.startswith("www."):
                    yield host[4:] + part


def _parted(url: str) -> tuple[str, str]:
    """The host in small letters of ASCII without port and user, and what follows it."""
    given = url.strip()
    try:
        parts = urlsplit(given if _SCHEME.match(given.lower()) else f"//{given}")
        host = (parts.hostname or "").rstrip(".")
    except ValueError:  # a bracket that is not closed
        return given.lower(), ""
    return _in_ascii(host), parts.path + (f"?{parts.query}" if parts.query else "") + (
        f"#{parts.fragment}" if parts.fragment else ""
    )


def _in_ascii(host: str) -> str:
    """A host as the name system knows it: `münchen.de` is `xn--mnchen-3ya.de`. What is no host stays as it is."""
    if host.isascii() or len(host) > _LONGEST_HOST:
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host


def _hash(entry: str) -> int:
    return int.from_bytes(hashlib.blake2b(entry.encode(errors="surrogatepass"), digest_size=8).digest())


def _entries(config: FilterConfig) -> Iterator[int]:
    for number, given in enumerate(config.blocked_urls):
        for _, path in _files(given, f"filter.blocked_urls.{number}"):
            for place, line in _lines(path):
                for entry in _of_line(line):
                    host, rest = _parted(entry)
                    if not _HOST.match(host):
                        raise DataError(f"{path}, line {place}: {line!r} is no host and no web address")
                    yield _hash(host + rest.rstrip("/") if rest.strip("/") else host)


def _of_line(line: str) -> list[str]:
    """The hosts or addresses of a line; none where it names this machine alone, or is a title."""
    if _TITLE.match(line):
        return []
    if hosts := _HOSTS_LINE.match(line):
        return [name for name in hosts[1].split() if name not in _OWN_NAMES and not name.startswith("ip6-")]
    blocked = _AD_BLOCKER.match(line)
    return [blocked[1] if blocked else line.removeprefix("*.")]


def _words(config: FilterConfig) -> Iterator[str]:
    for number, given in enumerate(config.url_words):
        for _, path in _files(given, f"filter.url_words.{number}"):
            for place, line in _lines(path):
                if _WORD.fullmatch(line) is None:
                    raise DataError(f"{path}, line {place}: {line!r} is no word; an address holds letters and digits")
                yield line.casefold()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbers and texts of the lines that say something."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: larger than {MOST_BYTES:,} bytes, which no list is")
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise DataError(f"{path}, line {number}: not UTF-8. Save the list as UTF-8") from None
                text = re.split(r"(?:^|\s)[#!]", line, maxsplit=1)[0].strip()
                if text:
                    yield number, text
    except OSError as error:
        raise unreadable(path, error) from error


def _files(given: str, place: str) -> list[tuple[str, Path]]:
    path = Path(given).expanduser()
    if path.is_file():
        return [(path.name, path)]
    if not path.is_dir():
        raise DataError(f"{place}: {path}: there is no such file or folder")
    files = sorted(file for file in path.rglob("*") if file.name in FOLDER_FILES and file.is_file())
    if not files:
        raise DataError(f"{place}: {path}: no file in it is named domains or urls")
    return [(str(file.relative_to(path)), file) for file in files]
