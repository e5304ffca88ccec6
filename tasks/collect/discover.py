"""Which files a path in a recipe means: a folder, a glob or one file -> (relative name, path), in order of the name.

The relative name is what ledgers, groups and observations use, so that a moved folder changes nothing. Hidden files
and folders are passed over, links to folders are not followed. What has a readable name but is no file (a link that
leads nowhere, a pipe, a device) is refused, never passed over: nobody would miss the text.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from storage.errors import DataError
from storage.files import is_utf8

TEXT_FORMATS = ("txt", "md", "rst")  # one document a file
RECORD_FORMATS = ("jsonl", "json", "csv", "parquet")  # one document a record
PACKINGS = ("gz", "zst", "bz2", "xz")


@dataclass(frozen=True, slots=True)
class Kind:
    """How a file is read: its format and, where it is packed, the packing; both without the dot."""

    format: str
    packing: str = ""


def kind_of(name: str, formats: Iterable[str] = TEXT_FORMATS + RECORD_FORMATS) -> Kind | None:
    """The kind that a file's name says: `a.jsonl.gz` -> Kind("jsonl", "gz"); None for a name that says nothing."""
    stem, _, last = name.lower().rpartition(".")
    packing = ""
    if last in PACKINGS:
        packing = last
        stem, _, last = stem.rpartition(".")
    return Kind(last, packing) if stem and last in formats else None


def discover(
    path: str, option: str, formats: tuple[str, ...] = TEXT_FORMATS + RECORD_FORMATS
) -> list[tuple[str, Path]]:
    """The readable files behind a path, as (relative name, path) in order of the name; DataError where there is none.

    `option` names the place in the recipe for the error.
    """
    given = Path(path).expanduser()
    if given.is_dir():
        found, base = list(_below(given)), given
    elif os.path.lexists(given):
        found, base = [given], given.parent
    elif glob.has_magic(path):
        base = _fixed_part(given)
        found = [match for match in base.glob(given.relative_to(base).as_posix()) if not match.is_dir()]
    else:
        found, base = [], given
    if not found:
        what = "the folder holds no file" if given.is_dir() else "matches no file"
        raise DataError(f"{option}: {path}: {what}. Give a folder, a glob such as texts/**/*.txt, or a file.")
    readable = sorted((file.relative_to(base).as_posix(), file) for file in found if kind_of(file.name, formats))
    if not readable:
        endings = Counter("".join(file.suffixes[-2:]) or file.name for file in found).most_common(3)
        raise DataError(
            f"{option}: {path}: none of the {len(found)} files can be read "
            f"(found {', '.join(ending for ending, _ in endings)}). "
            f"Readable: {', '.join('.' + name for name in formats)}, each plain or with .{', .'.join(PACKINGS)}."
        )
    for name, file in readable:
        if not is_utf8(name):
            raise DataError(f"{option}: {path}: the file name {name!r} is not UTF-8. Rename the file.")
        if not file.is_file():
            what = "is a link that leads nowhere" if file.is_symlink() and not file.exists() else "is no ordinary file"
            raise DataError(f"{option}: {file}: {what}. Take it away, or name the files with a glob.")
    return readable


def _below(folder: Path) -> Iterable[Path]:
    for current, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(current, name) for name in files if not name.startswith("."))


def _fixed_part(pattern: Path) -> Path:
    """The part of a glob before its first wildcard: what names are relative to."""
    fixed: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)
