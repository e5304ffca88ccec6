"""The data of a run for its report: the run file, and the artifacts and build records of its stages.

Sections ask for parts by what they are (`tokens`, `scores`), whichever stage made them; what is a stage's own the
stage says (`About.report`).
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from flows.retrain import about
from storage.canonical import canonical_json, digest_file, digest_of
from storage.errors import StoreError
from storage.files import read_json, write_json
from storage.store.artifacts import Artifact, Part
from storage.store.local import Store
from tasks.engine.about import About
from tasks.engine.reported import Fact, Section
from tasks.shards import examples

SMALL_PARTS = ("curve", "scores", "class_scores", "tokenizer")  # for a corpus of any size


F = TypeVar("F", bound=Fact)


class RunData:
    """One run, a `MadeRun` for its stages: `run` is its file's contents. Nothing here raises for what is missing."""

    def __init__(self, store: Store, run: Mapping[str, Any]) -> None:
        self.store, self.run = store, run
        self.rows: dict[str, Mapping[str, Any]] = {row["stage"]: row for row in run["stages"]}

    @property
    def recipe(self) -> Mapping[str, Any]:
        return self.run.get("recipe", {})

    def summary(self, stage: str) -> Mapping[str, Any]:
        """The figures of a stage; empty where it made nothing."""
        return self.rows.get(stage, {}).get("artifact", {}).get("summary", {})

    def config(self, stage: str) -> Mapping[str, Any]:
        """The settings of a stage; empty where its build record is gone."""
        return self.records.get(stage, {}).get("identity", {}).get("config", {})

    def about(self, stage: str) -> About:
        """What a stage says about itself."""
        return about(stage)

    def last_with(self, part: str) -> str:
        """The last stage of the run that made a part of that name; empty where none did.

        A stage under another name is left out: it was called again to compare with (`champion`).
        """
        made = [name for name, artifact in self.artifacts.items() if name == artifact.stage and part in artifact.parts]
        return made[-1] if made else ""

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

    def last(self, name: str) -> Part | None:
        """The part of that name as the last stage that made one left it."""
        return self.part(self.last_with(name), name)

    def read(self, stage: str, name: str) -> Part | None:
        """The intact part of that name which a stage has read."""
        digests = self.read_digests(stage)
        readings = ((one, artifact.parts.get(name)) for one, artifact in self.artifacts.items())
        found = (one for one, part in readings if part is not None and part.digest in digests)
        return self.part(next(found, ""), name)

    def read_digests(self, stage: str) -> list[str]:
        """The digests of the parts that a stage has read; none where its build record is gone."""
        return list(self.records.get(stage, {}).get("identity", {}).get("inputs", {}).values())

    def section(self, stage: str) -> Section:
        """What the report shows of a stage beside its summary."""
        report, wanted = self.about(stage).report, self.read_digests(stage)
        key = {
            "stage": stage,
            "config": self.config(stage),
            "summary": self.summary(stage),
            "parts": [  # as far as they are there
                part.digest
                for one, artifact in self.artifacts.items()
                for part in artifact.parts.values()
                if (one == stage or part.digest in wanted) and self.part(one, part.name)
            ],
            "code": _digests_beside(inspect.getfile(report)),
        }
        return self.remembered(Section, key, lambda: report(self, stage))

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

        This keeps the report of a run that reuses everything cheap, however large its corpus. What was just worked out
        is returned as it is read later, its mappings in the order of their names: equal pages, whoever came first.
        """
        digest = digest_of({"fact": kind.__name__, "key": key, "code": _digests_beside(__file__)})
        path = self.store.home / "cache" / "report" / f"{digest}.json"
        try:
            return kind.model_validate(read_json(path))
        except ValidationError:
            written = make().model_dump(mode="json")
            write_json(path, written)
            return kind.model_validate_json(canonical_json(written))


def _digests_beside(file: str) -> list[str]:
    """Of the modules in the folder of a module, and of those that every section is made with."""
    folders = dict.fromkeys((Path(file).parent, Path(examples.__file__).parent))
    return [digest_file(path) for folder in folders for path in sorted(folder.glob("*.py"))]
