"""What a report is made from, of a real run and of one made up: `from report_data import data_of, made_run`."""

import json
from pathlib import Path
from typing import Any

from flows.report.run_data import RunData
from storage.runs import find_run
from storage.store.local import Store

NOWHERE = "2026-01-01T00:00:00.000000+00:00"


def data_of(home: Path) -> RunData:
    return RunData(Store(home), find_run(home, "latest"))


def made_run(home: Path, files: dict[str, Any], stage: str = "evaluate", part: str = "scores") -> RunData:
    """A run of one stage whose part holds the files given."""
    store, folder = Store(home), home / "work" / "made"
    folder.mkdir(parents=True)
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    published = store.publish_part(stage, part, folder, {})
    artifact = store.publish_artifact(stage, {part: published})
    row = {"stage": stage, "outcome": "built", "why": ["never built"], "seconds": 1.0}
    row["artifact"] = {"digest": artifact.digest, "summary": {}}
    run = {"run": "made", "recipe_name": "made", "status": "completed", "started": NOWHERE, "stages": [row]}
    return RunData(store, run)


def score_line(name: str, metric: str, model: str, value: float | None, **others: Any) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - 0.02, value + 0.02)
    line: dict[str, Any] = {"name": name, "model": model, "metric": metric, "value": value, "items": 100}
    line |= {"low": low, "high": high}
    line["higher_is_better"] = "acc" in metric
    line["change"] = {"difference": 0.1, "low": 0.05, "high": 0.15} if model == "tuned" and value else None
    return {**line, "baselines": {"chance": 0.25}, "below_baseline": False, "rule": "a rule", "note": "", **others}
