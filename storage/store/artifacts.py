"""The nouns of the store: files, parts and artifacts. Immutable; identity is contents.

A part is a folder of files published whole; its digest covers the names, sizes and SHA-256 of its files and
nothing else. An artifact names a stage's parts. What varies from build to build (times, host, versions) is
in the build record, never here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from storage.canonical import digest_of


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One immutable file: its name within the part, SHA-256, size in bytes, and its path."""

    name: str
    digest: str
    bytes: int
    path: Path


@dataclass(frozen=True, slots=True)
class Part:
    """One named output of a stage: a folder of immutable files."""

    name: str
    digest: str
    path: Path
    files: tuple[StoredFile, ...]

    def __truediv__(self, file_name: str) -> Path:
        """The path of one file: `artifact["tokenizer"] / "tokenizer.json"`."""
        return self.path / file_name

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stage's output: named parts. `artifact["documents"]` is a part.

    `stands_for` is the stage by whose name it is known to those that read it, where that is not its own.
    """

    stage: str
    digest: str
    parts: Mapping[str, Part]
    stands_for: str = ""

    def __getitem__(self, part: str) -> Part:
        return self.parts[part]

    def only(self, names: tuple[str, ...]) -> "Artifact":
        """The same artifact reduced to the parts that a reader has declared."""
        return replace(self, parts={name: self.parts[name] for name in names})


def part_digest(files: list[tuple[str, str, int]]) -> str:
    """Identity of a part from (name, SHA-256, bytes) of its files, in order of name."""
    return digest_of({"files": [list(file) for file in sorted(files)]})


def artifact_manifest(stage: str, parts: Mapping[str, Part]) -> dict[str, Any]:
    """What the store keeps of an artifact; the digest of this is the artifact's."""
    return {
        "format": 1,
        "stage": stage,
        "parts": {
            name: {
                "digest": part.digest,
                "files": [{"name": file.name, "sha256": file.digest, "bytes": file.bytes} for file in part.files],
            }
            for name, part in sorted(parts.items())
        },
    }
