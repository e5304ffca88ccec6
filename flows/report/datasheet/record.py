"""Where a corpus comes from and by what it was made: sources, settings, files, versions, digests.

Local paths are shown by their last component alone: whoever reads the sheet has no use for the folders of a machine.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from flows.report.datasheet.facts import Build, Files, SourceFacts
from flows.report.datasheet.shown import short_text, short_texts
from flows.report.run_data import RunData
from storage.canonical import digest_of

MOST_FILES = 1_000  # of one stage or part
_PLACES = ("path", "urls", "sitemaps", "dataset", "packages", "documents")  # fields that say where a source is


def sources(data: RunData) -> Iterator[SourceFacts]:
    """The sources that the recipe names, in its order: each list of named sections, and each section alone."""
    for kind, value in data.recipe.get("collect", {}).items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and kind != "mix":
                yield SourceFacts(
                    kind=kind,
                    name=short_text(one.get("name", kind)),
                    where=tuple(_places(one)),
                    license=short_text(one.get("license") or ""),
                    language=one.get("lang") or "",
                )


def _places(source: Mapping[str, Any]) -> Iterator[str]:
    for name in _PLACES:
        value = source.get(name)
        if name == "documents" and value:
            yield f"{value:,} documents made by code"
        for one in value if isinstance(value, list) else [value] if isinstance(value, str) and value else []:
            yield short_text(_without_folders(str(one)))
    if source.get("dataset") and source.get("revision"):
        yield f"revision {source['revision']}"


def _without_folders(text: str) -> str:
    return PurePath(text).name if text.startswith(("/", "~", "./", "../")) else text


def builds(data: RunData, stages: list[str]) -> Iterator[Build]:
    """The keys and settings of the stages, as far as their build records are there."""
    for stage in stages:
        record = data.records.get(stage)
        if record is not None:
            identity = record["identity"]
            yield Build(
                stage=stage,
                key=record["key"],
                artifact=data.artifacts[stage].digest,
                code=digest_of(identity["code"]),
                libraries=dict(sorted(identity["libraries"].items())),
                settings=short_texts(_shortened(identity["config"])),
            )


def _shortened(value: Any) -> Any:
    """Settings without the folders in their paths."""
    if isinstance(value, str):
        return _without_folders(value)
    if isinstance(value, dict):
        return {name: _shortened(inner) for name, inner in value.items()}
    return [_shortened(inner) for inner in value] if isinstance(value, list) else value


def observed(data: RunData, stages: list[str]) -> Iterator[Files]:
    """What the stages have read outside the store, by digest or version."""
    for stage in stages:
        found = data.records.get(stage, {}).get("identity", {}).get("observed", {})
        if found:
            yield _files(stage, found)


def parts(data: RunData, stages: list[str]) -> Iterator[Files]:
    """The parts of each stage: the digest of each, and of its files."""
    for stage in stages:
        for name, part in data.artifacts[stage].parts.items():
            files = {file.name: file.digest for file in part.files}
            yield _files(f"{stage}/{name}", files).model_copy(update={"digest": part.digest})


def _files(of: str, found: Mapping[str, str]) -> Files:
    listed = {short_text(name): short_text(found[name]) for name in sorted(found)[:MOST_FILES]}
    return Files(of=of, digest=digest_of(dict(found)), count=len(found), listed=listed)
