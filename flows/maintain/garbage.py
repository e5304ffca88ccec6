"""What `llmill gc` prints."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flows.plan import STAGE_NAMES
from storage.store.garbage import Garbage
from tasks.wording import figure, size


def garbage_report(found: Sequence[Garbage], *, dry_run: bool) -> dict[str, Any]:
    """The `--json` object: what goes, and how many bytes of each stage."""
    stages: dict[str, dict[str, Any]] = {}
    for garbage in found:
        row = stages.setdefault(garbage.stage, {"stage": garbage.stage, "bytes": 0, "what": Counter()})
        row["bytes"] += garbage.bytes
        row["what"][garbage.kind] += 1
    order = [*(name for name in STAGE_NAMES if name in stages), *sorted(stages.keys() - set(STAGE_NAMES))]
    return {
        "dry_run": dry_run,
        "bytes": sum(garbage.bytes for garbage in found),
        "stages": [{**stages[name], "what": dict(stages[name]["what"])} for name in order],
        "paths": [
            {"kind": garbage.kind, "stage": garbage.stage, "path": str(garbage.path), "bytes": garbage.bytes}
            for garbage in found
        ],
    }


def garbage_text(report: Mapping[str, Any]) -> str:
    """A line for each stage."""
    if not report["paths"]:
        return "nothing to delete: everything is reached"
    lines = [f"{'stage':<12}{'size':>10}  what nothing reaches"]
    for row in report["stages"]:
        what = ", ".join(f"{figure(count)} {kind}{'s' * (count > 1)}" for kind, count in row["what"].items())
        lines.append(f"{row['stage'] or 'other':<12}{size(row['bytes']):>10}  {what}")
    total = size(report["bytes"])
    lines.append(f"{total} would be freed; `llmill gc` deletes them" if report["dry_run"] else f"{total} freed")
    return "\n".join(lines)
