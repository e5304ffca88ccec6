"""Helpers of the collect stage's tests: run the stage on the engine, install a package that is not there."""

import base64
import hashlib
import textwrap
from pathlib import Path
from typing import Any

from storage.documents import Document, read_documents, read_rows
from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.collect.config import CollectConfig
from tasks.collect.stage import collect
from tasks.engine.builder import Builder
from tasks.engine.context import Execution, Summary
from tasks.engine.stage import engine_in_force


def run_collect(home: Path, workers: int = 1, **settings: Any) -> tuple[Artifact, Summary]:
    """The stage's artifact and summary for such a `collect` section."""
    with Builder(Store(home), Execution(workers=workers)) as builder, engine_in_force(builder):
        artifact = collect(CollectConfig(**settings))
    assert isinstance(artifact, Artifact)
    return artifact, builder.results[0].summary


def documents_of(artifact: Artifact) -> list[Document]:
    return [document for file in artifact["documents"].files for document in read_documents(file.path)]


def rows_of(artifact: Artifact, part: str) -> list[dict[str, Any]]:
    return [row for file in artifact[part].files for row in read_rows(file.path)]


def install(site: Path, name: str, version: str, files: dict[str, str]) -> None:
    """Lay down a distribution as pip would: its files, METADATA and RECORD."""
    info = site / f"{name}-{version}.dist-info"
    for other in site.glob(f"{name}-*.dist-info"):
        for file in other.iterdir():
            file.unlink()
        other.rmdir()
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n")
    lines = ["../../../bin/script.py,sha256=differs,1", f"{info.name}/RECORD,,"]
    for path, text in files.items():
        data = textwrap.dedent(text).encode()
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(data)}")
    (info / "RECORD").write_text("\n".join(lines) + "\n")
