"""Pairs of all parts go through the redaction that documents go through: all that is learned from is redacted.

The rules that drop documents do not judge them: an answer of two words is a good answer. So the stage's setting
`redact` governs them, and nothing else of it does. A shard in which nothing is found is not copied but linked.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.documents import PAIRS, PAIRS_SCHEMA, SUPERVISED, Message, RowWriter, pair_row, read_pairs
from storage.store.artifacts import Artifact, Part
from tasks.engine.context import Context, Job, JobResult, Summary
from tasks.filter.redact import redacted_spans

FILE = "pairs.parquet"


def redact_supervised(settings: Mapping[str, Any], collected: Artifact, context: Context) -> dict[str, int]:
    """Write the parts of supervised data; returns of each the counts `pairs_redacted` and, by kind, of replacements."""
    named = [(f"{name}/{file.name}", file) for name in SUPERVISED for file in collected[name].files]
    jobs = [Job(name, dict(settings), {"pairs": file}) for name, file in named]
    results = context.map(redact_pair_shard, jobs) if settings["redact"] else []
    found = {result.name: result for result in results}
    counts: dict[str, int] = {}
    for name in SUPERVISED:
        counts |= _redact_part(settings, collected[name], found, context)
    return counts


def _redact_part(
    settings: Mapping[str, Any], part: Part, found: Mapping[str, JobResult], context: Context
) -> dict[str, int]:
    context.part(part.name)  # there, even where collect has no shard of it
    counts: Counter[str] = Counter()
    for file in part.files:
        result = found.get(f"{part.name}/{file.name}")
        counts.update(result.summary if result else {})
        context.link(part.name, file.name, result.files.get(FILE, file) if result else file)
    if not counts["read"] and part.name != PAIRS:
        return {}
    kinds = (f"{kind}s_" for kind in settings["redact"])
    return {f"{part.name}_{kind}redacted": counts[f"{kind}redacted"] for kind in ("", *kinds)}


def redact_pair_shard(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> Summary:
    """Write a shard's pairs with all their texts redacted; no file where nothing was found."""
    kinds, regions = tuple(config["redact"]), tuple(config["phone_regions"])
    counts: Counter[str] = Counter()

    def clean(text: str) -> str:
        redacted, found = redacted_spans(text, kinds, regions, config["redact_with"] == "stand-ins")
        counts.update(f"{one.kind}s_redacted" for one in found)
        return redacted

    with RowWriter(out / FILE, PAIRS_SCHEMA) as writer:
        for pair in read_pairs(inputs["pairs"]):
            earlier = tuple(Message(message.role, clean(message.content)) for message in pair.earlier)
            texts = {name: clean(getattr(pair, name)) for name in ("prompt", "answer", "rejected")}
            redacted = replace(pair, earlier=earlier, **texts)
            counts["read"] += 1
            counts["redacted"] += redacted != pair
            writer.add(pair_row(redacted))
    if not counts["redacted"]:
        (out / FILE).unlink()
    return dict(counts)
