"""Where the Python files of an installed package are, and their digests, without importing it.

A distribution's RECORD (PEP 376, 427) names each file with its SHA-256, so that nothing needs to be read to know
whether a package has changed; the standard library has none and is hashed. Copies of other packages, tests and
generated code are left out: they would leak one package's text into another's split, or read badly.
"""

import base64
import binascii
import csv
import importlib.metadata
import platform
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from storage.canonical import digest_of
from storage.errors import DataError
from storage.source_hashes import hash_files
from storage.store.artifacts import StoredFile
from tasks.collect.config import STANDARD_LIBRARY

_FOREIGN_FOLDERS = frozenset(
    (
        *("_vendor", "_vendored", "vendor", "vendored", "third_party", "thirdparty", "extern", "externals"),
        *("site-packages", "dist-packages", "test", "tests", "testing", "_testing", "__pycache__"),
        *("idlelib", "lib2to3", "turtledemo", "ensurepip", "pydoc_data"),
        *("", ".."),  # absolute, or outside the packages: console scripts
    )
)
_FOREIGN_ENDINGS = ("_pb2.py", "_pb2_grpc.py", "_test.py", "conftest.py")


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package: the name that the recipe gives it, what is observed of it, and its files by path."""

    name: str
    version: str
    license: str
    files: tuple[StoredFile, ...]

    @property
    def observation(self) -> str:
        """Version and digest of the Python files: equal on every machine with the same package."""
        return f"{self.version} {digest_of([[file.name, file.digest] for file in self.files])}"


def observe_package(name: str) -> str:
    """The observation alone: for the standard library Python's version, since its files follow from it."""
    if name == STANDARD_LIBRARY:
        return platform.python_version()
    return find_package(name).observation


def find_package(name: str) -> Package:
    """Locate a package by the name of its distribution or of its top-level module."""
    if name == STANDARD_LIBRARY:
        return _standard_library()
    distribution = _distribution(name)
    record = distribution.read_text("RECORD")
    if not record:
        raise DataError(f"collect.docstrings.packages: {name} was installed without a RECORD of its files; use pip.")
    root = str(distribution.locate_file(""))
    files = []
    for path, digest, size in csv.reader(line for line in record.splitlines() if ".py," in line):
        if is_first_party(path) and digest.startswith("sha256="):
            files.append(StoredFile(path, _hexadecimal(digest), int(size or 0), Path(root, path)))
    if not files:
        raise DataError(
            f"collect.docstrings.packages: {name}: its RECORD names no Python file (an editable install?). "
            "Install it as a wheel, or take it out of the list."
        )
    stated = {
        name: distribution.metadata[name] for name in ("License", "License-Expression") if name in distribution.metadata
    }
    license_text = stated.get("License-Expression") or stated.get("License") or ""
    short = license_text if len(license_text) <= 64 and "\n" not in license_text else ""
    return Package(name, distribution.version, short, tuple(sorted(files, key=lambda file: file.name)))


def is_first_party(path: str) -> bool:
    """Whether a file of a package is its own, readable code; `path` as RECORD has it."""
    *folders, name = path.split("/")
    return (
        name.endswith(".py")
        and not name.startswith(("test_", "_sysconfigdata"))
        and not name.endswith(_FOREIGN_ENDINGS)
        and _FOREIGN_FOLDERS.isdisjoint(folders)
    )


def _distribution(name: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        providers = importlib.metadata.packages_distributions().get(name)
        if not providers:
            raise DataError(
                f"collect.docstrings.packages: {name} is not installed here. Install it, or take it out of the list."
            ) from None
        return importlib.metadata.distribution(min(providers))


def _standard_library() -> Package:
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if is_first_party(name):
            found.append((name, path))
    if not found:
        raise DataError(f"collect.docstrings.packages: {STANDARD_LIBRARY}: no Python file under {root}; take it out.")
    return Package(STANDARD_LIBRARY, platform.python_version(), "PSF-2.0", tuple(hash_files(found)))


def _hexadecimal(digest: str) -> str:
    """RECORD's `sha256=` in URL-safe base64 without padding, as hexadecimal."""
    text = digest.removeprefix("sha256=")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()
    except (ValueError, binascii.Error) as error:
        raise DataError(f"a RECORD holds the digest {digest!r}, which is not base64. Reinstall the package.") from error
