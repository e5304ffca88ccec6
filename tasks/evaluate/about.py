"""What the stage evaluate says about itself."""

from collections.abc import Mapping
from typing import Any

from storage.lookup import rows_where
from tasks.engine.about import About, Figures, MadeRun, Step, Work
from tasks.wording import figure

ITEM_BYTES = 500  # an item asked for costs evaluation about as much as so much held-out text
SHOWN = 10  # results of one document


def _evaluated_bytes(config: Figures) -> float:
    return float(config["heldout_bytes"] + ITEM_BYTES * config["items"])


def _explain(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    items = run.part(stage, "items")
    if items is None:
        return None
    names = ("name", "metric", "model", "prompt", "target")
    found = [
        {name: row[name] for name in names} | {"value": row["amount"] / row["weight"] if row["weight"] else None}
        for row in rows_where(items, "document", document["id"])
        if row["model"] in ("base", "tuned")
    ]
    return {"verdict": "measured" if found else "not measured", "items": found}


def _words(step: Step) -> list[str]:
    lines = [f"{len(step['items'])} results" if step["items"] else ""]
    for item in step["items"][:SHOWN]:
        value = "none" if item["value"] is None else figure(item["value"])
        lines.append(f"{item['name']} {item['metric'].replace('_', ' ')}, {item['model']}: {value}")
    more = len(step["items"]) - SHOWN
    return lines + ([f"and {more} more"] if more > 0 else [])


EVALUATE = About(
    work=Work(
        lambda build: _evaluated_bytes(build.config),
        lambda record: _evaluated_bytes(record["identity"]["config"]),
    ),
    explain=_explain,
    words=_words,
)
