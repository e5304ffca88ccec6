"""What the run file and the build records say: plan, counts, time, digests, versions."""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.build import BUILD
from flows.report.run_data import RunData
from flows.wording import attempts_text, shards_text
from storage.addresses import redacted
from tasks.engine.reported import Count
from tasks.notices import notices_of


def key_facts(data: RunData) -> dict[str, Any]:
    """What the first sentence says; a figure that the run did not come to is None."""
    facts: dict[str, Any] = {name: None for stage in BUILD.stages for name in stage.about.headline}
    for stage in data.rows:
        summary = data.summary(stage)
        facts |= {name: summary[figure] for name, figure in data.about(stage).headline.items() if figure in summary}
    return facts | {
        "continued": any("new_tokens" in data.summary(stage) for stage in data.rows),
        "built": sum(row["outcome"] == "built" for row in data.rows.values()),
        "reused": sum(row["outcome"] == "reused" for row in data.rows.values()),
        "description": data.recipe.get("release", {}).get("description", ""),
    }


def notices_in(data: RunData) -> list[str]:
    """The notices of a run's stages, in their order."""
    return [redacted(notice) for stage in data.rows for notice in notices_of(data.summary(stage))]


def plan_rows(data: RunData) -> list[dict[str, Any]]:
    """What was planned and what became of it; a stage after the target of `--to` is not there."""
    planned = {row["stage"]: row for row in data.run.get("plan", [])}
    rows = []
    for stage in dict.fromkeys((*planned, *data.rows)):
        row, plan = data.rows.get(stage, {}), planned.get(stage, {})
        why = row.get("why") or plan.get("why", [])
        rows.append(
            {
                "stage": stage,
                "outcome": row.get("outcome", "not reached"),
                "why": [redacted(str(reason)) for reason in (*why, *_remarks(data, stage))],
                "seconds": row.get("seconds"),
            }
        )
    return rows


def _remarks(data: RunData, stage: str) -> list[str]:
    """How much of a stage was new, and what it was tried again for."""
    row = data.rows.get(stage, {})
    errors = dict.fromkeys(one["error"] for one in data.run.get("retries", []) if one["stage"] == stage)
    retried = attempts_text(row.get("attempts", 1))
    remarks = [shards_text(row), f"{retried} ({'; '.join(errors)})" if retried and errors else retried]
    return [remark for remark in remarks if remark]


def count_tables(data: RunData) -> dict[str, list[Count]]:
    """Tables of counts by heading; stages that share a heading share the table."""
    tables: dict[str, list[Count]] = {}
    for stage in data.rows:
        for heading, counts in data.section(stage).counts.items():
            tables.setdefault(heading, []).extend(counts)
    return tables


def splits_of(facts: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """(split, documents, share of what was kept) of the documents that were tokenized."""
    names = {"training": "training_documents", "held out": "heldout_documents"}
    counts = {name: int(facts[figure] or 0) for name, figure in names.items()}
    total = sum(counts.values())
    return [(name, count, count / total) for name, count in counts.items()] if total else []


def times_of(data: RunData) -> dict[str, Any]:
    """Where the time went: each stage, then all else; and what it cost where the recipe has a price."""
    price = float(data.recipe.get("execution", {}).get("price_per_hour") or 0.0)
    rows = []
    for stage, row in data.rows.items():
        if row["outcome"] == "skipped":
            continue
        when_built = data.records.get(stage, {}).get("seconds") if row["outcome"] == "reused" else None
        rows.append({"stage": stage, "outcome": row["outcome"], "seconds": row["seconds"], "when_built": when_built})
    total = float(data.run.get("seconds") or sum(row["seconds"] for row in rows))
    rest = max(0.0, total - sum(row["seconds"] for row in rows))
    rows.append({"stage": "all else", "outcome": "", "seconds": rest, "when_built": None})
    longest = max((row["when_built"] or row["seconds"] for row in rows), default=0.0) or 1.0
    for row in rows:
        row["share"] = (row["when_built"] or row["seconds"]) / longest
        row["cost"] = row["seconds"] / 3600 * price
    return {"rows": rows, "total": total, "price": price, "cost": total / 3600 * price}


def figure_rows(data: RunData) -> list[tuple[str, str, Any]]:
    """(stage, figure, value) of every stage's summary; nested ones have tables of their own."""
    return [
        (stage, name.replace("_", " "), value)
        for stage in data.rows
        for name, value in data.summary(stage).items()
        if not isinstance(value, (dict, list))
    ]


def digest_rows(data: RunData) -> list[dict[str, Any]]:
    """Stage, part, digest, bytes and number of files of every part that the run has."""
    return [
        {"stage": stage, "part": name, "digest": part.digest, "bytes": part.bytes, "files": len(part.files)}
        for stage, artifact in data.artifacts.items()
        for name, part in artifact.parts.items()
    ]


def version_rows(data: RunData) -> list[dict[str, Any]]:
    """The machine and the libraries behind each stage, from the build records."""
    rows = []
    for stage, record in data.records.items():
        host, identity = record.get("host", {}), record["identity"]
        libraries: Sequence[str] = [
            f"{name} {version}" for name, version in sorted(identity.get("libraries", {}).items())
        ]
        rows.append(
            {
                "stage": stage,
                "run": record["run"],
                "finished": str(record["finished"])[:19].replace("T", " "),
                "libraries": ", ".join(libraries) or "–",
                "python": host.get("python", "–"),
                "machine": ", ".join(str(host[name]) for name in ("processor", "platform") if host.get(name))
                + (f", {host['cores']} cores" if host.get("cores") else ""),
            }
        )
    return rows
