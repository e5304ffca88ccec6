"""`llmill explain` for a person: the way of a document through the stages, in 80 columns."""

from collections.abc import Mapping
from typing import Any

from flows.build import BUILD
from storage.documents import label
from tasks.wording import clipped


def explain_text(found: Mapping[str, Any]) -> str:
    """The way of a document for a person, in 80 columns."""
    stages = {stage.name: stage for stage in BUILD.stages}
    about = found["document"]
    name = label(about) if "id" in about else about["title"]
    lines = [f"{about.get('id', 'no document')}  {clipped(name, 44)}".rstrip()]
    if "id" in about:
        split = "training" if about["split"] == "train" else "held out"
        facts = f"{about['source']}, group {about['group']}, {split}, {about['bytes']:,} bytes"
        lines.append(f"{facts}, licence {about['license'] or 'not stated'}")
        lines += [about["url"]] * bool(about["url"])
        if "id" in about["metadata"]:
            lines.append(f"id {about['metadata']['id']} in its record")
    lines.append("")
    for step in found["steps"]:
        first, *more = stages[step["stage"]].about.words(step)
        lines.append(f"{step['stage']:<12}{step['verdict']:<13}{first}".rstrip())
        lines += [f"{'':<25}{line}" for line in more]
    if found["gone"]:
        lines.append(f"not shown: the data of {', '.join(found['gone'])} are gone")
    return "\n".join(lines)
