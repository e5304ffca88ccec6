"""References to artifacts: `RUN/STAGE`, `latest/STAGE` or a digest's start, each with `/PART` and `/FILE` after it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.terminal.live import live_line
from storage.errors import DataError, did_you_mean
from storage.listing import first_few
from storage.runs import find_run, runs
from storage.store.artifacts import Artifact, Part, StoredFile
from storage.store.local import Store
from tasks.engine.builder import SHOWN_TRANSFER_BYTES
from tasks.wording import size

_DIGEST = re.compile(r"[0-9a-f]{4,64}")
SHOWN_FILES = 10
HOW = "Use RUN/STAGE, latest/STAGE or the start of a digest, and /PART for one part"


class NoArtifactError(DataError):
    """A run that has made nothing in the stage asked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a reference means: an artifact, one of its parts, or one file of a part."""

    artifact: Artifact
    part: Part | None = None
    file: StoredFile | None = None


def resolve(store: Store, reference: str) -> Found:
    """What a reference means; raises DataError where that is nothing, or more than one thing."""
    head, *rest = reference.strip("/").split("/")
    store.sync_runs()
    if rest and (head == "latest" or _names_run(store, head)):
        stage, *rest = rest
        artifact = _intact_manifest(
            store, reference, stage_row(find_run(store.home, head, stage), stage)["artifact"]["digest"]
        )
        return _within(artifact, rest, reference)
    if head == "latest" or _names_run(store, head):
        raise DataError(f"{reference}: names a run. Name a stage of it too: {_stages_text(find_run(store.home, head))}")
    if not _DIGEST.fullmatch(head):
        raise DataError(f"{reference}: neither a run nor a digest (four hexadecimal digits or more). {HOW}")
    return _by_digest(store, head, rest, reference)


def find_artifact(store: Store, reference: str) -> Artifact:
    """The artifact that a reference means."""
    return resolve(store, reference).artifact


def find_part(store: Store, reference: str, part: str) -> Part:
    """One intact part of an artifact."""
    artifact = find_artifact(store, reference)
    return intact(store, artifact.only((_part(artifact, part, reference).name,)), reference)


def intact(store: Store, artifact: Artifact, reference: str) -> Part:
    """The one part of an artifact, in this home; raises DataError where it is damaged or gone."""
    (part,) = artifact.parts.values()
    store.fetch(artifact, transfer_line)
    damage = store.damage(part)
    if damage:
        raise DataError(f"{reference}: {damage[0]}; run the recipe again to rebuild it")
    return part


def transfer_line(done: int, total: int) -> None:
    """Show how far a download from a shared store is, where it takes a while."""
    if total >= SHOWN_TRANSFER_BYTES:
        live_line("" if done == total else f"download    {size(done)} of {size(total)}")


def _names_run(store: Store, name: str) -> bool:
    known = [run["run"] for run in runs(store.home)]
    return bool(name) and any(run.startswith(name) or run.endswith(f"-{name}") for run in known)


def _by_digest(store: Store, head: str, rest: list[str], reference: str) -> Found:
    """An artifact whose digest begins so, or else a part whose digest does."""
    matching = [digest for digest in store.artifacts() if digest.startswith(head)]
    if len(matching) > 1:
        raise DataError(f"{reference}: {len(matching)} artifacts begin so. Give more of the digest")
    if matching:
        return _within(_intact_manifest(store, reference, matching[0]), rest, reference)
    artifacts = [artifact for digest in store.artifacts() if (artifact := store.artifact(digest))]
    parts = {
        (artifact.stage, part.name, part.digest): artifact
        for artifact in artifacts
        for part in artifact.parts.values()
        if part.digest.startswith(head)
    }
    if len(parts) != 1:
        count = "no artifact or part begins" if not parts else f"{len(parts)} parts begin"
        raise DataError(f"{reference}: {count} so. {HOW}")
    ((_, name, _), artifact) = next(iter(parts.items()))
    return _within(artifact, [name, *rest], reference)


def _within(artifact: Artifact, rest: list[str], reference: str) -> Found:
    """The part, and the file of it, that the rest of a reference names."""
    if not rest:
        return Found(artifact)
    part = _part(artifact, rest[0], reference)
    if len(rest) == 1:
        return Found(artifact, part)
    name = "/".join(rest[1:])
    for file in part.files:
        if file.name == name:
            return Found(artifact, part, file)
    names = [file.name for file in part.files]
    near, files = did_you_mean(name, names), ", ".join(first_few(names, SHOWN_FILES))
    raise DataError(f"{reference}: the part has no file {name!r}{near}. Files: {files}")


def _part(artifact: Artifact, name: str, reference: str) -> Part:
    if name not in artifact.parts:
        near, parts = did_you_mean(name, artifact.parts), ", ".join(artifact.parts)
        raise DataError(f"{reference}: {artifact.stage} has no part {name!r}{near}. Parts: {parts}")
    return artifact[name]


def _intact_manifest(store: Store, reference: str, digest: str) -> Artifact:
    artifact = store.artifact(digest)
    if artifact is None:
        raise DataError(f"{reference}: artifact {digest[:8]} is gone or damaged; run its recipe again to rebuild it")
    return artifact


def stage_row(run: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """What a run file says of a stage that has an artifact; raises DataError where it has none."""
    for row in run["stages"]:
        if row["stage"] == stage and "artifact" in row:
            return row
    near = did_you_mean(stage, _stages(run))
    raise NoArtifactError(f"run {run['run']} has no artifact of {stage!r}{near}. It has: {_stages_text(run)}")


def build_of(store: Store, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The build record behind a stage of a run: that of its key, or the newest that led to the same artifact."""
    kind = row["artifact"]["uri"].removeprefix("llmill://").partition("/")[0]  # a run may give a stage another name
    found = store.build(kind, row["key"]) if row.get("key") else None
    if found is not None:
        return found
    made = store.builds_that_made(kind, row["artifact"]["digest"])
    return made[-1] if made else None


def _stages(run: Mapping[str, Any]) -> list[str]:
    """The stages of a run that have an artifact."""
    return [row["stage"] for row in run["stages"] if "artifact" in row]


def _stages_text(run: Mapping[str, Any]) -> str:
    return ", ".join(_stages(run)) or "none"
