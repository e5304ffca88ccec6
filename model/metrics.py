"""`metrics.jsonl` of a training: a row for each optimizer step, cut back to the checkpoint that a run goes on from."""

import json
from pathlib import Path
from typing import Any


def write_metrics(path: Path, row: dict[str, Any]) -> None:
    """Add the row of a step."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def cut_metrics(path: Path, step: int) -> None:
    """Keep the rows up to a step: what a killed run wrote after its last checkpoint will be written again."""
    kept = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # the line that a kill cut short
                break
            if row["step"] > step:
                break
            kept.append(line + "\n")
    temporary = path.with_name(f".{path.name}")
    temporary.write_text("".join(kept), encoding="utf-8")
    temporary.replace(path)
