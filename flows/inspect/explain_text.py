"""`llmill explain` for a person: the way of a document through the stages, in 80 columns."""

from collections.abc import Mapping
from typing import Any

from flows.build import BUILD
from flows.inspect.explain_pair import question_of
from storage.documents import USER, label
from tasks.wording import clipped


def explain_text(found: Mapping[str, Any]) -> str:
    """The way of a document for a person, in 80 columns."""
    stages = {stage.name: stage for stage in BUILD.stages}
    lines = _pair_lines(found["pair"]) if "pair" in found else _document_lines(found["document"])
    lines.append("")
    for step in found["steps"]:
        first, *more = stages[step["stage"]].about.words(step)
        lines.append(f"{step['stage']:<12}{step['verdict']:<13}{first}".rstrip())
        lines += [f"{'':<25}{line}" for line in more]
    if found["gone"]:
        lines.append(f"not shown: the data of {', '.join(found['gone'])} are gone")
    return "\n".join(lines)


def _document_lines(about: Mapping[str, Any]) -> list[str]:
    name = label(about) if "id" in about else about["title"]
    lines = [f"{about.get('id', 'no document')}  {clipped(name, 44)}".rstrip()]
    if "id" in about:
        facts = f"{about['source']}, group {about['group']}, {_split(about)}, {about['bytes']:,} bytes"
        lines.append(f"{facts}, licence {about['license'] or 'not stated'}")
        lines += [about["url"]] * bool(about["url"])
        if "id" in about["metadata"]:
            lines.append(f"id {about['metadata']['id']} in its record")
    return lines


def _pair_lines(pair: Mapping[str, Any]) -> list[str]:
    """A row of supervised data: where it is from, then each of its texts on a line."""
    lines = [f"{pair['id']}  {clipped(question_of(pair), 44)}"]
    lines.append(f"{pair['part']}, {pair['source']}, group {pair['group']}, {_split(pair)}")
    asked = [(USER, pair["prompt"])] if pair["prompt"] else []
    texts = [*((message["role"], message["content"]) for message in pair["earlier"]), *asked]
    texts += [(name, pair[name]) for name in ("answer", "rejected") if pair[name]]
    return lines + [f"  {name:<11}{clipped(' '.join(text.split()), 66)}" for name, text in texts]


def _split(about: Mapping[str, Any]) -> str:
    return "training" if about["split"] == "train" else "held out"
