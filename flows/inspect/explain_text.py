"""How `llmill explain` tells the way of a document, in 80 columns."""

from collections.abc import Callable, Mapping
from typing import Any

from flows.inspect.explain import SHOWN, Step, label
from flows.wording import clipped, figure


def journey_text(journey: Mapping[str, Any]) -> str:
    """The way of a document for a person, in 80 columns."""
    about = journey["document"]
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
    for step in journey["steps"]:
        first, *more = _SENTENCES[step["stage"]](step)
        lines.append(f"{step['stage']:<12}{step['verdict']:<13}{first}".rstrip())
        lines += [f"{'':<25}{line}" for line in more]
    if journey["gone"]:
        lines.append(f"not told, because the data are gone: {', '.join(journey['gone'])}")
    return "\n".join(lines)


def _say_collected(step: Step) -> list[str]:
    if step["verdict"] == "quarantined":
        return [f"{step['file']}, line {step['line']}: {step['reason']}", clipped(step["excerpt"], 54)]
    return [f"shard {step['shard']}, row {step['row']}"]


def _say_deduplicated(step: Step) -> list[str]:
    if step["verdict"] == "dropped":
        similar = f"similarity {step['jaccard']:.3f} (estimated {step['estimated_jaccard']:.3f})"
        twin = f"{step['twin'][:12]} {clipped(step['twin_label'], 36)}".rstrip()
        return [f"{step['reason']} duplicate: {similar}", f"of {twin}, which stays"]
    others = step["kept_instead_of"]
    lines = [f"kept instead of {len(others)} other{'s' * (len(others) != 1)}" if others else "no duplicate"]
    for other in others[:SHOWN]:
        lines.append(
            f"{other['id'][:12]} {other['reason']}, similarity {other['jaccard']:.3f} "
            f"(estimated {other['estimated_jaccard']:.3f})"
        )
    return lines


def _say_filtered(step: Step) -> list[str]:
    edits = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in step["edits"].items())
    passed = sum(rule["passed"] for rule in step["rules"])
    first = f"{passed} of {len(step['rules'])} rules passed" + (f"; {edits}" if edits else "; nothing edited")
    if step["verdict"] == "dropped":
        first = f"by {step['reason']}: {figure(step['value'])}, threshold {figure(step['threshold'])}"
    lines = [first]
    for rule in step["rules"]:
        mark = " " if rule["passed"] else "x"
        lines.append(f"{mark} {rule['rule']:<34}{figure(rule['value']):>8}{figure(rule['threshold']):>9}")
    return [lines[0], f"  {'rule':<34}{'value':>8}{'threshold':>10}"[:55], *lines[1:]]


def _say_tokenized(step: Step) -> list[str]:
    return [f"{step['tokens']:,} tokens: {step['file']}", f"from {step['start']:,} to {step['end']:,}"]


def _say_trained(step: Step) -> list[str]:
    return [f"{step['passes']} passes over the training text" if step.get("passes") else ""]


def _say_tuned(step: Step) -> list[str]:
    return [f"{step['pairs_of_its_group']:,} pairs of its group"]


def _say_evaluated(step: Step) -> list[str]:
    lines = [f"{len(step['items'])} results" if step["items"] else ""]
    for item in step["items"][: 2 * SHOWN]:
        value = "none" if item["value"] is None else figure(item["value"])
        lines.append(f"{item['name']} {item['metric'].replace('_', ' ')}, {item['model']}: {value}")
    more = len(step["items"]) - 2 * SHOWN
    return lines + ([f"and {more} more"] if more > 0 else [])


_SENTENCES: dict[str, Callable[[Step], list[str]]] = {
    "collect": _say_collected,
    "deduplicate": _say_deduplicated,
    "filter": _say_filtered,
    "tokenizer": lambda step: [""],
    "tokenize": _say_tokenized,
    "pretrain": _say_trained,
    "finetune": _say_tuned,
    "evaluate": _say_evaluated,
}
