"""The data of a run for its report: the run file, and the artifacts and build records of its stages."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from storage.canonical import digest_file, digest_of
from storage.errors import StoreError
from storage.files import read_json, write_json
from storage.store.artifacts import Artifact, Part
from storage.store.local import Store

SMALL_PARTS = ("curve", "scores", "tokenizer")  # for a corpus of any size


class Fact(BaseModel):
    """Base of the figures in a report: frozen, and JSON for the cache. Fields that a newer stage adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


F = TypeVar("F", bound=Fact)


class RunData:
    """One run: `run` is its file's contents. Nothing here raises for what is missing."""

    def __init__(self, store: Store, run: Mapping[str, Any]) -> None:
        self.store, self.run = store, run
        self.rows: dict[str, Mapping[str, Any]] = {row["stage"]: row for row in run["stages"]}

    @property
    def recipe(self) -> Mapping[str, Any]:
        return self.run.get("recipe", {})

    def summary(self, stage: str) -> Mapping[str, Any]:
        """The figures of a stage; empty where it made nothing."""
        return self.rows.get(stage, {}).get("artifact", {}).get("summary", {})

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """The artifacts that the run made or reused, by stage; those whose manifest is gone are left out."""
        found = {
            stage: self.store.artifact(row["artifact"]["digest"])
            for stage, row in self.rows.items()
            if "artifact" in row
        }
        return {stage: artifact for stage, artifact in found.items() if artifact is not None}

    def part(self, stage: str, name: str) -> Part | None:
        """An intact part of this home, or None. Of a shared store the small ones are brought home."""
        artifact = self.artifacts.get(stage)
        part = artifact.parts.get(name) if artifact else None
        if artifact is not None and part is not None and name in SMALL_PARTS:
            with suppress(StoreError):
                self.store.fetch(artifact.only((name,)))
        return part if part is not None and not self.store.damage(part) else None

    @cached_property
    def records(self) -> dict[str, Mapping[str, Any]]:
        """The build record of each artifact: the run's own, else the newest from before the run ended."""
        chosen: dict[str, Mapping[str, Any]] = {}
        for stage, artifact in self.artifacts.items():
            records = self.store.builds_that_made(artifact.stage, artifact.digest)
            own = [record for record in records if record["run"] == self.run["run"]]
            earlier = [record for record in records if record["finished"] <= self.run.get("finished", "9")]
            for candidates in (own, earlier, records):
                if candidates:
                    chosen[stage] = candidates[-1]
                    break
        return chosen

    def remembered(self, kind: type[F], key: Any, make: Callable[[], F]) -> F:
        """A figure that costs a pass over the documents: worked out once for each set of parts and code.

        This keeps the report of a run that reuses everything cheap, however large its corpus.
        """
        digest = digest_of({"fact": kind.__name__, "key": key, "code": _code_digest()})
        path = self.store.home / "cache" / "report" / f"{digest}.json"
        try:
            return kind.model_validate(read_json(path))
        except ValidationError:
            fact = make()
            write_json(path, fact.model_dump(mode="json"))
            return fact


def _code_digest() -> list[str]:
    return [digest_file(path) for path in sorted(Path(__file__).parent.glob("*.py"))]
