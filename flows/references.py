"""References to artifacts: a digest's start, `RUN/STAGE` or `latest/STAGE`."""

from typing import Any

from storage.artifacts import Artifact, Part
from storage.errors import DataError
from storage.runs import find_run
from storage.store import Store


def find_artifact(store: Store, reference: str) -> Artifact:
    """The artifact that a reference means; raises DataError where there is none, or more than one."""
    run_name, separator, stage = reference.partition("/")
    if separator:
        digest = _digest_in_run(find_run(store.home, run_name), stage)
    else:
        matching = [digest for digest in store.artifacts() if digest.startswith(reference)]
        if len(matching) != 1:
            count = "no artifact begins" if not matching else f"{len(matching)} artifacts begin"
            raise DataError(f"{reference}: {count} so. Use RUN/STAGE, latest/STAGE or more of the digest")
        digest = matching[0]
    artifact = store.artifact(digest)
    if artifact is None:
        raise DataError(f"{reference}: its manifest is missing or damaged; run the recipe again to rebuild it")
    return artifact


def find_part(store: Store, reference: str, part: str) -> Part:
    """One intact part of an artifact."""
    artifact = find_artifact(store, reference)
    if part not in artifact.parts:
        raise DataError(f"{reference}: has no part {part!r}. Parts: {', '.join(artifact.parts)}")
    damage = store.damage(artifact[part])
    if damage:
        raise DataError(f"{reference}: {damage[0]}; run the recipe again to rebuild it")
    return artifact[part]


def describe_reference(store: Store, reference: str) -> dict[str, Any]:
    """An artifact with its builds, for `inspect`."""
    artifact = find_artifact(store, reference)
    builds = [build for build in store.builds_of(artifact.stage) if build["artifact"] == artifact.digest]
    return {
        "stage": artifact.stage,
        "digest": artifact.digest,
        "parts": {
            name: {
                "digest": part.digest,
                "uri": part.path.as_uri(),
                "bytes": part.bytes,
                "files": [file.name for file in part.files],
                "damage": store.damage(part),
            }
            for name, part in artifact.parts.items()
        },
        "builds": builds,
    }


def _digest_in_run(run: dict[str, Any], stage: str) -> str:
    for row in run["stages"]:
        if row["stage"] == stage and "artifact" in row:
            return str(row["artifact"]["digest"])
    known = [row["stage"] for row in run["stages"] if "artifact" in row]
    raise DataError(f"run {run['run']} has no artifact of {stage!r}. It has: {', '.join(known) or 'none'}")
