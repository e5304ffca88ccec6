"""`llmill inspect`: an artifact or a part of it: figures, first rows, and what it was made from."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from flows.inspect.references import Found, resolve, transfer_line
from flows.inspect.rows import file_rows, part_rows
from flows.plan import STAGE_NAMES
from flows.wording import digits_of
from storage.listing import first_few
from storage.store.artifacts import Part
from storage.store.local import Store
from tasks.notices import notices_of, without_notices
from tasks.wording import clipped, cut, duration, figure, rough_duration, size, when

PREVIEW_ROWS = 3
PREVIEW_CHARACTERS = 400  # of one text in a row
SHOWN_FILES = 10
DATED_COLUMNS = 36  # of a tree of inputs; a wider one has no room for dates


def describe(store: Store, reference: str) -> dict[str, Any]:
    """The `--json` object of an artifact, a part of it or a file of a part."""
    found = resolve(store, reference)
    artifact = found.artifact
    builds = store.builds_that_made(artifact.stage, artifact.digest)
    shown = [found.part] if found.part else list(artifact.parts.values())
    return {
        "stage": artifact.stage,
        "digest": artifact.digest,
        "summary": builds[-1]["summary"] if builds else {},
        "parts": {part.name: _describe_part(store, found, part) for part in shown},
        "builds": builds,
        "lineage": lineage(store, artifact.digest),
    }


def _describe_part(store: Store, found: Found, part: Part) -> dict[str, Any]:
    if not store.artifact_damage(found.artifact.only((part.name,))):
        store.fetch(found.artifact.only((part.name,)), transfer_line)
    damage = store.damage(part)
    files = [found.file] if found.file else list(part.files)
    rows: Iterator[Any] = iter(())
    if not damage:
        rows = file_rows(found.file) if found.file else part_rows(store, found.artifact, part)
    return {
        "digest": part.digest,
        "uri": part.path.as_uri(),
        "bytes": sum(file.bytes for file in files),
        "rows": None if damage else _parquet_rows(part),
        "files": [file.name for file in files],
        "damage": damage,
        "preview": [_shortened(row) for row in itertools.islice(rows, PREVIEW_ROWS)],
    }


def _parquet_rows(part: Part) -> int | None:
    """Rows of a part that is Parquet throughout, read from the files' ends."""
    if not part.files or not all(file.name.endswith(".parquet") for file in part.files):
        return None
    from storage.documents import count_rows

    return sum(count_rows(file.path) for file in part.files)


def _shortened(value: Any) -> Any:
    """A row in which no text or list is long."""
    if isinstance(value, dict):
        return {name: _shortened(inner) for name, inner in itertools.islice(value.items(), 100)}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value[:20]]
    return cut(value, PREVIEW_CHARACTERS) if isinstance(value, str) else value


# Lineage --------------------------------------------------------------------------------------------------------


def lineage(store: Store, digest: str) -> dict[str, Any]:
    """What an artifact was built from, as a tree: stage, digest, and its build: when, by which run, in how long.

    From build records, so it reaches further back than the data that `gc` has kept. What is in the tree already
    is `repeated`, without its own inputs.
    """
    records = {
        record["artifact"]: record
        for stage in sorted({*STAGE_NAMES, *(folder.name for folder in store.builds.glob("*"))})
        for record in store.builds_of(stage)  # of several builds of equal results the newest
    }
    seen: set[str] = set()

    def node(digest: str) -> dict[str, Any]:
        record = records.get(digest)
        artifact = store.artifact(digest)
        found: dict[str, Any] = {
            "stage": record["stage"] if record else artifact.stage if artifact else "unknown",
            "artifact": digest,
            "there": artifact is not None,
            "repeated": digest in seen,
        }
        if record:
            found |= {name: record.get(name) for name in ("key", "run", "finished", "seconds")}
        if record and digest not in seen:
            seen.add(digest)
            found["inputs"] = [node(parent) for parent in dict.fromkeys(record.get("parents", ()))]
        return found

    return node(digest)


def _tree(node: Mapping[str, Any], first: str = "", rest: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The nodes of a lineage, each behind its place as it is drawn."""
    yield first + node["stage"], node
    inputs = node.get("inputs", [])
    for number, child in enumerate(inputs):
        last = number == len(inputs) - 1
        yield from _tree(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _tree_lines(lineage: Mapping[str, Any]) -> list[str]:
    """Place, digest, seconds, the end of its build and the digits of its run; of a deep tree without the end."""
    rows = list(_tree(lineage))
    width = max(len(place) for place, _ in rows) + 2
    return [f"{place:<{width}}{_made(node, dated=width <= DATED_COLUMNS)}" for place, node in rows]


def _made(node: Mapping[str, Any], *, dated: bool) -> str:
    line = str(node["artifact"][:8])
    if node["repeated"]:
        line += "  as above"
    elif "run" in node:
        finished = f"  {when(node['finished'])}" if dated else ""
        line += f"{rough_duration(node['seconds']):>12}{finished}  {digits_of(node) if node['run'] else 'no run'}"
    return line + ("" if node["there"] else "  data gone")


# Text -----------------------------------------------------------------------------------------------------------


def inspect_text(description: Mapping[str, Any]) -> str:
    """A description for a person, in 80 columns; one part alone is shown with its files and whole fields."""
    parts = description["parts"]
    lines = [f"{description['stage']}  {description['digest']}"]
    for build in description["builds"][-1:]:
        took = duration(build["seconds"])
        lines.append(f"built {when(build['finished'])} UTC by {build['run'] or 'no run'} in {took}")
        lines.append(f"because: {'; '.join(build['why'])}")
    if len(parts) == 1 < len(_names(description)):
        ((name, part),) = parts.items()
        return "\n".join([*lines, "", *_part_lines(name, part), *_file_lines(part), *_row_lines(part)])
    if description["summary"]:
        lines += ["", "summary"]
        for name, value in without_notices(description["summary"]).items():
            shown = clipped(value, 44) if isinstance(value, (dict, list)) else figure(value)
            lines.append(f"  {name.replace('_', ' '):<34}{shown}")
        lines += [f"  notice: {notice}" for notice in notices_of(description["summary"])]
        lines += [f"  code: {line}" for line in description["builds"][-1].get("unresolved", ())]
    lines += ["", "parts"]
    for name, part in parts.items():
        lines += _part_lines(name, part)
        lines += _preview_lines(part)
    lines += ["", "made from", *_tree_lines(description["lineage"])]
    for build in description["builds"][-1:]:
        code = build["identity"]["code"]
        whole = [name for name in code if name.count(".") == 1]
        lines += ["", f"code: {len(code)} definitions; modules that count as a whole: {', '.join(whole) or 'none'}"]
    return "\n".join(lines)


def _names(description: Mapping[str, Any]) -> list[str]:
    """The names of all parts of the artifact that was described."""
    for build in description["builds"][-1:]:
        return list(build["parts"])
    return list(description["parts"])


def _part_lines(name: str, part: Mapping[str, Any]) -> list[str]:
    state = "; ".join(part["damage"]) or "intact"
    count = len(part["files"])
    rows = f"{part['rows']:,} rows, " if part["rows"] is not None else ""
    return [f"  {name:<12}{rows}{size(part['bytes'])} in {count:,} file{'s' * (count != 1)}, {state}"]


def _preview_lines(part: Mapping[str, Any]) -> list[str]:
    """A line a row; of a part of several kinds of files their names."""
    if len({name.rpartition(".")[2] for name in part["files"]}) > 1:
        return [f"    {clipped(', '.join(part['files']), 75)}"]
    return [f"    {clipped(json.dumps(row, ensure_ascii=False), 75)}" for row in part["preview"]]


def _file_lines(part: Mapping[str, Any]) -> list[str]:
    lines = [f"  {part['uri']}", f"  digest {part['digest']}", ""]
    return lines + [f"  {line}" for line in first_few(part["files"], SHOWN_FILES)]


def _row_lines(part: Mapping[str, Any]) -> list[str]:
    lines = []
    for row in part["preview"]:
        lines.append("")
        if not isinstance(row, dict):
            lines.append(f"  {clipped(row, 76)}")
            continue
        lines += [f"  {clipped(name, 22):<24}{clipped(value, 54)}" for name, value in row.items()]
    return lines
