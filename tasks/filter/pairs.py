"""Pairs go through the redaction that documents go through: what is learned from is redacted, on every road.

The rules that drop documents do not judge pairs: an answer of two words is a good answer. So the stage's setting
`redact` governs pairs, and nothing else of it does. A shard in which nothing is found is not copied but linked.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.documents import PAIRS_SCHEMA, RowWriter, pair_row, read_pairs
from storage.store.artifacts import Part
from tasks.engine.context import Context, Job, Summary
from tasks.filter.redact import redact

FILE = "pairs.parquet"


def redact_pairs(settings: Mapping[str, Any], pairs: Part, context: Context) -> dict[str, int]:
    """Write the part `pairs`; returns the counts `pairs`, `pairs_redacted` and, by kind, of replacements in pairs."""
    jobs = [Job(f"pairs/{file.name}", dict(settings), {"pairs": file}) for file in pairs.files]
    results = context.map(redact_pair_shard, jobs) if settings["redact"] else []
    context.part("pairs")  # there, even where collect has no shard of pairs
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result.summary)
    for number, file in enumerate(pairs.files):
        redacted = results[number].files.get(FILE, file) if results else file
        context.link("pairs", file.name, redacted)
    return {
        name: counts[name] for name in ("pairs_redacted", *(f"pairs_{kind}s_redacted" for kind in settings["redact"]))
    }


def redact_pair_shard(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> Summary:
    """Write a shard's pairs with prompts and answers redacted; no file where nothing was found."""
    kinds, regions = tuple(config["redact"]), tuple(config["phone_regions"])
    counts: Counter[str] = Counter()
    with RowWriter(out / FILE, PAIRS_SCHEMA) as writer:
        for pair in read_pairs(inputs["pairs"]):
            (prompt, in_prompt), (answer, in_answer) = (
                redact(text, kinds, regions) for text in (pair.prompt, pair.answer)
            )
            for found in (in_prompt, in_answer):
                counts.update({f"pairs_{kind}s_redacted": count for kind, count in found.items()})
            redacted = replace(pair, prompt=prompt, answer=answer)
            counts["pairs_redacted"] += redacted != pair
            writer.add(pair_row(redacted))
    if not counts["pairs_redacted"]:
        (out / FILE).unlink()
    return dict(counts)
