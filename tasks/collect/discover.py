"""Which files a path in a recipe means: a folder, a glob or one file -> (relative name, path), in order of the name.

The relative name is what ledgers, groups and observations use, so that a moved folder changes nothing. Hidden files
and folders are left out, links to folders are followed once. What has a readable name but is not a file (a link that
leads nowhere, a pipe, a device) is refused, never left out: nobody would miss the text. What is left out is counted
by its ending and reported.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from storage.errors import DataError
from storage.files import is_utf8
from storage.source_hashes import unreadable
from tasks.collect.config import CollectConfig, ConversationsSource
from tasks.fetch.address_forms import COMMON_CRAWL, dataset_of

TEXT_FORMATS = ("txt", "md", "rst")  # one document a file
DOCUMENT_FORMATS = ("html", "xhtml", "xml", "eml", "pdf", "epub", "docx")  # the same, read by tasks.collect.pages
RECORD_FORMATS = ("jsonl", "json", "csv", "tsv", "parquet")  # one document a record
WARC_FORMATS = ("warc", "wet")
DUMP_FORMATS = ("xml",)  # of MediaWiki
ARCHIVES = ("tar", "zip")  # whose members are read as files
ANY_FORMAT = TEXT_FORMATS + DOCUMENT_FORMATS + RECORD_FORMATS + ARCHIVES
CONVERSATION_FORMATS = RECORD_FORMATS + ARCHIVES
PACKINGS = ("gz", "zst", "bz2", "xz")
_OTHER_ENDINGS = {  # of the same formats and packings
    **{"text": "txt", "markdown": "md", "ndjson": "jsonl", "jsonlines": "jsonl"},
    **{"htm": "html", "xht": "xhtml"},
    **{"gzip": "gz", "zstd": "zst", "bzip2": "bz2"},
}
_PART_OF_A_DUMP = re.compile(r"(?<=^xml)-p\d+p\d+$")  # enwiki-...-articles1.xml-p1p41242.bz2
_TARS = {"tgz": "gz", "tbz": "bz2", "tbz2": "bz2", "txz": "xz", "tzst": "zst"}  # one ending for two
_DOWNLOADED_BY = {  # by the scheme of an address; others by curl
    "s3": "aws s3 cp --recursive {address} FOLDER",
    "gs": "gcloud storage cp --recursive {address} FOLDER",
}
ENDINGS_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Kind:
    """How a file is read: its format and, where it is packed, the packing; both without the dot."""

    format: str
    packing: str = ""


def kind_of(name: str, formats: Iterable[str] = ANY_FORMAT) -> Kind | None:
    """The kind that a file's name says: `a.jsonl.gz` -> Kind("jsonl", "gz"); None for a name that says nothing."""
    stem, _, last = name.lower().rpartition(".")
    if last in _TARS and "tar" in formats:
        return Kind("tar", _TARS[last]) if stem else None
    packing = ""
    if _OTHER_ENDINGS.get(last, last) in packings_of(formats):
        packing = _OTHER_ENDINGS.get(last, last)
        stem, _, last = stem.rpartition(".")
    last = _PART_OF_A_DUMP.sub("", last)
    format_name = _OTHER_ENDINGS.get(last, last)
    if packing and format_name == "zip":  # which is read from its end
        return None
    return Kind(format_name, packing) if stem and format_name in formats and last not in PACKINGS else None


def packings_of(formats: Iterable[str]) -> tuple[str, ...]:
    """How files of these formats may be packed; web archives in .lz4 too."""
    return (*PACKINGS, "lz4") if "warc" in formats else PACKINGS


def may_hold_documents(name: str) -> bool:
    """Whether a file, or a member of it, may be read by `tasks.collect.pages`."""
    kind = kind_of(name)
    return kind is not None and kind.format in (*DOCUMENT_FORMATS, *ARCHIVES)


@dataclass(frozen=True, slots=True)
class Found:
    """What a path leads to: names and paths of the readable files in order of the name, and what is left out.

    `endings` counts the files that are not read by their ending, `hidden` those whose name begins with a dot and
    `links` has a sentence for each link to a folder that is not followed.
    """

    readable: list[tuple[str, Path]]
    endings: Counter[str]
    hidden: int = 0
    links: tuple[str, ...] = ()
    elsewhere: str = ""  # which section reads some of what is left out

    def sentences(self, source: str, option: str) -> list[str]:
        """What is left out, for the user."""
        said = []
        if self.endings:
            kinds = [f"{count} {ending}" for ending, count in self.endings.most_common(ENDINGS_SHOWN)]
            if len(self.endings) > ENDINGS_SHOWN:
                kinds.append(f"{len(self.endings) - ENDINGS_SHOWN} other endings")
            said.append(
                f"source {source}: {counted(self.endings.total(), 'file')} not read, as "
                f"{whose(self.endings.total())} ending is not known: "
                f"{', '.join(kinds)}. Convert or rename them, or name the wanted files with a glob ({option})."
                + self.elsewhere
            )
        if self.hidden:
            said.append(
                f"source {source}: {counted(self.hidden, 'hidden file')} not read, as the name begins with a dot. "
                f"Rename what is meant ({option})."
            )
        return said + [f"source {source}: {link} ({option})." for link in self.links]


def where_in(name: str, line: int) -> str:
    """Where in a file a record is, in the unit that its format is counted in."""
    kind = kind_of(name, (*ANY_FORMAT, *WARC_FORMATS))
    form = kind.format if kind else ""
    return f"{name}, {'record' if form in WARC_FORMATS else 'row' if form == 'parquet' else 'line'} {line}"


def counted(number: int, noun: str) -> str:
    """`1 file is` or `3 files are`."""
    return f"{number:,} {noun} is" if number == 1 else f"{number:,} {noun}s are"


def conversation_formats(source: ConversationsSource) -> tuple[str, ...]:
    """What files of a source of instruction data may be."""
    return CONVERSATION_FORMATS + (TEXT_FORMATS if source.label_folders else ())


def whose(number: int) -> str:
    """`its` of one, `their` of more."""
    return "its" if number == 1 else "their"


def unread_files(config: CollectConfig) -> list[str]:
    """What the paths of a recipe lead to and is not read: sentences for the plan and the stage's notices."""
    formats: dict[str, Callable[[Any], tuple[str, ...]]] = {
        "files": lambda source: ANY_FORMAT,
        "wikipedia": lambda source: DUMP_FORMATS,
        "warc": lambda source: WARC_FORMATS,
        "conversations": conversation_formats,
    }
    sentences = []
    for section, formats_of in formats.items():
        for number, source in enumerate(getattr(config, section)):
            if source.path is None:  # its files are fetched
                continue
            option = f"collect.{section}[{number}].path"
            sentences += inspect_path(source.path, option, formats_of(source)).sentences(source.name, option)
    return sentences


def discover(path: str, option: str, formats: tuple[str, ...] = ANY_FORMAT) -> list[tuple[str, Path]]:
    """The readable files behind a path, as (relative name, path) in order of the name; DataError where there is none.

    `option` names the place in the recipe for the error.
    """
    return inspect_path(path, option, formats).readable


def inspect_path(path: str, option: str, formats: tuple[str, ...] = ANY_FORMAT) -> Found:
    """What a path leads to, read and left out; DataError where there is nothing to read."""
    _refuse_addresses(path, option)
    given = Path(path).expanduser()
    links: list[str] = []
    hidden = 0
    if given.is_dir():
        below, base = list(_below(given, links)), given
        found = [file for file in below if not file.name.startswith(".")]
        hidden = sum(file.name.startswith(".") and kind_of(file.name, formats) is not None for file in below)
    elif os.path.lexists(given):
        found, base = [given], given.parent
    elif glob.has_magic(path):
        base = _fixed_part(given)
        found = _matches(base, given.relative_to(base))
    else:
        found, base = [], given
    if not found:
        what = "the folder holds no file" if given.is_dir() else "matches no file"
        raise DataError(f"{option}: {path}: {what}. Give a folder, a glob such as texts/**/*.txt, or a file.")
    readable = sorted((file.relative_to(base).as_posix(), file) for file in found if kind_of(file.name, formats))
    endings = Counter(ending_of(file.name) for file in found if not kind_of(file.name, formats))
    elsewhere = _elsewhere([file.name for file in found if not kind_of(file.name, formats)])
    if not readable:
        raise DataError(
            f"{option}: {path}: none of the {len(found)} files can be read "
            f"(found {', '.join(ending for ending, _ in endings.most_common(3))}). "
            f"Readable: {', '.join('.' + name for name in formats)}, "
            f"each plain or with .{', .'.join(packings_of(formats))}.{elsewhere}"
        )
    for name, file in readable:
        if not is_utf8(name):
            raise DataError(f"{option}: {path}: the file name {name!r} is not UTF-8. Rename the file.")
        if not file.is_file():
            broken = file.is_symlink() and not file.exists()
            what = "is a link that leads nowhere" if broken else "is not an ordinary file"
            raise DataError(f"{option}: {file}: {what}. Remove it, or name the files with a glob.")
    return Found(readable, endings, hidden, tuple(links), elsewhere)


def _elsewhere(names: Iterable[str]) -> str:
    """Which section reads some of the files that this one leaves out, as a sentence."""
    names = list(names)
    for section, formats, what in (("warc", WARC_FORMATS, "web archives"), ("files", ANY_FORMAT, "texts and records")):
        if any(kind_of(name, formats) for name in names):
            return f" Files of {what} are read by collect.{section}."
    return ""


def _refuse_addresses(path: str, option: str) -> None:
    # A recipe's relative paths have been made absolute by now, which folds the two slashes into one.
    address = re.search(r"(?:^|/)([a-z][a-z0-9+.-]+):(/{1,3})(?=[^/])", path, re.IGNORECASE)
    if address is None or (os.path.lexists(path) and address[2] == "/"):
        return
    scheme, rest = address[1].lower(), path[address.end() :]
    if scheme == "file":
        raise DataError(f"{option}: write the path without file://: /{rest}")
    written = f"{scheme}://{rest}"
    advice = _advice(scheme, written, option.split(".")[1].partition("[")[0])
    raise DataError(f"{option}: {written} is an address, and only local files are read here. {advice}")


def _advice(scheme: str, written: str, section: str) -> str:
    """How to read what is at an address that was given as a path in a section."""
    dataset = dataset_of(written)
    if dataset and section == "files":
        return f"Name it in collect.huggingface (dataset: {dataset})."
    command = _DOWNLOADED_BY.get(scheme, "curl -LO {address}").format(address=written)
    if dataset:
        command = f"hf download --repo-type dataset {dataset} --local-dir FOLDER"
    download = f"Download it first ({command}) and give the folder or the file."
    if written.startswith("s3://commoncrawl/"):
        return f"Name it in collect.warc (urls: [{COMMON_CRAWL}{written.removeprefix('s3://commoncrawl/')}])."
    if scheme not in ("http", "https") or dataset:
        return download
    if section == "warc":
        return f"Give it in `urls` of this source (urls: [{written}]), without `path`."
    if section != "files":
        return download
    if kind_of(urlsplit(written).path, WARC_FORMATS):
        return f"Name it in collect.warc (urls: [{written}])."
    return f"If it is a page, name it in collect.web (urls: [{written}]). {download}"


def ending_of(name: str) -> str:
    """What a list of files left out calls a name: its ending, with the one before a packing."""
    stem, dot, last = name.rpartition(".")
    if not dot or not stem:
        return "without an ending"
    if _OTHER_ENDINGS.get(last.lower(), last.lower()) in PACKINGS and "." in stem:
        last = f"{stem.rpartition('.')[2]}.{last}"
    return printable(f".{last}")


def printable(name: str) -> str:
    """A file's name as a message can hold it, of any bytes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _below(folder: Path, links: list[str]) -> Iterator[Path]:
    """The files below a folder, each folder once. Of hidden folders, such as .git, nothing counts.

    Folders are read where they are; then links to folders elsewhere are followed, in order of their names, and what
    is not followed is reported in `links`.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        start, linked = waiting.pop(0), []
        if _identity(start) in seen:
            name = printable(start.relative_to(folder).as_posix())
            loops = start.resolve() in start.parent.resolve().parents or start.resolve() == start.parent.resolve()
            what = "leads back to a folder above it" if loops else "leads to a folder that is read already"
            links.append(f"the link {name} {what} and is not followed")
            continue
        for current, folders, files in os.walk(start, onerror=_unreadable):
            seen.add(_identity(Path(current)))
            here = [Path(current, name) for name in sorted(folders) if not name.startswith(".")]
            linked += [path for path in here if path.is_symlink()]
            folders[:] = [path.name for path in here if not path.is_symlink() and _identity(path) not in seen]
            yield from (Path(current, name) for name in files)
        waiting += sorted(linked)


def _unreadable(error: OSError) -> None:
    raise unreadable(Path(error.filename), error)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _fixed_part(pattern: Path) -> Path:
    """The part of a glob before its first wildcard: what names are relative to. Names that exist are not wildcards."""
    fixed = Path()
    for part in pattern.parts[:-1]:
        if glob.has_magic(part) and not os.path.lexists(fixed / part):
            break
        fixed /= part
    return fixed


def _matches(base: Path, pattern: Path) -> list[Path]:
    """The files that a glob means; where none does, with its brackets taken as they are."""
    plain = re.sub(r"\[", "[[]", pattern.as_posix())
    for text in (pattern.as_posix(), plain):
        found = [match for match in base.glob(text) if not match.is_dir()]
        if found:
            return found
    return []
