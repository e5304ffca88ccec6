"""Run files: one JSON file for each run under `runs/`, the truth about it.

The run that is under way holds a lock beside its file; the kernel frees it when the process dies, so a file that
says `running` without a held lock is that of a dead run.
"""

import fcntl
import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from storage.errors import DataError
from storage.files import locked, read_json, write_json

FORMAT = 1
CLOCK_SECONDS = 600  # that another machine's clock may be ahead
RUNNING, COMPLETED, REUSED, FAILED, INTERRUPTED, CRASHED = (
    "running",
    "completed",
    "reused",
    "failed",
    "interrupted",
    "crashed",
)
STATUSES = (RUNNING, COMPLETED, REUSED, FAILED, INTERRUPTED, CRASHED)


class Run:
    """One run and its file; `data` is written by `save()`."""

    def __init__(self, home: Path, recipe_name: str, size: str, recipe: dict[str, Any], title: str = "") -> None:
        """`title` begins the run's name in place of the recipe and the model's size."""
        now = datetime.now(UTC)
        self.name = f"{title or f'{recipe_name}-{size}'}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        self.path = home / "runs" / f"{self.name}.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(_lock_path(self.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.data: dict[str, Any] = {
            "format": FORMAT,
            "run": self.name,
            "recipe_name": recipe_name,
            "recipe": recipe,
            "status": RUNNING,
            "started": now.isoformat(timespec="microseconds"),
            "process": os.getpid(),
            "stages": [],
        }

    def save(self) -> None:
        write_json(self.path, self.data)

    def finish(self, status: str, seconds: float) -> None:
        """Write the last state and free the lock."""
        self.data |= {
            "status": status,
            "seconds": round(seconds, 3),
            "finished": datetime.now(UTC).isoformat(timespec="microseconds"),
        }
        self.save()
        _lock_path(self.path).unlink(missing_ok=True)
        os.close(self._lock)


def runs(home: Path) -> list[dict[str, Any]]:
    """All runs, oldest first; a file that cannot be read is skipped (`damaged_runs` names it).

    A run dated ahead of the clock counts as older than all others: it was never the newest, even if its clock said so.
    """
    found = (_read_run(path) for path in (home / "runs").glob("*.json"))
    now = (datetime.now(UTC) + timedelta(seconds=CLOCK_SECONDS)).isoformat(timespec="microseconds")
    return sorted((run for run in found if run is not None), key=lambda run: (run["started"] <= now, run["started"]))


def attempts_of(home: Path, flow_run: str) -> list[dict[str, Any]]:
    """The runs that were attempts of one flow run of Prefect, oldest first: a retry is a run of its own here."""
    return [run for run in runs(home) if run.get("prefect", {}).get("flow_run") == flow_run]


def damaged_runs(home: Path) -> list[Path]:
    """The run files that cannot be read: damaged, or written by a newer version."""
    return [path for path in sorted((home / "runs").glob("*.json")) if _read_run(path) is None]


def _read_run(path: Path) -> dict[str, Any] | None:
    """A run file that holds what this version reads of it, under the name of its run; None for any other."""
    run: Any = read_json(path)
    if not isinstance(run, dict) or run.get("format") != FORMAT or run.get("run") != path.stem:
        return None
    rows: Any = run.get("stages")
    texts = [run.get("status"), run.get("started")]
    whole = all(isinstance(text, str) for text in texts) and isinstance(rows, list)
    return run if whole and all(_is_row(row) for row in rows) else None


def _is_row(row: Any) -> bool:
    """Whether a stage's row holds what is read of it."""
    if not isinstance(row, dict) or not {"stage", "outcome"} <= row.keys():
        return False
    artifact = row.get("artifact", {"digest": "", "uri": ""})
    return isinstance(artifact, dict) and all(isinstance(artifact.get(name), str) for name in ("digest", "uri"))


def find_run(home: Path, reference: str, stage: str | None = None) -> dict[str, Any]:
    """The run named by its name, the start of it, the four digits at its end, or `latest`.

    `latest` is the newest completed run; for a `stage` the newest run that has an artifact of it.
    """
    known = runs(home)
    if reference == "latest":
        for run in reversed(known) if stage else ():
            if any(row["stage"] == stage and "artifact" in row for row in run["stages"]):
                return run
        done = [run for run in known if run["status"] in (COMPLETED, REUSED)]
        if not done:
            raise DataError(f"{home}: no completed run yet. Start one with `llmill run`")
        return done[-1]
    matching = [run for run in known if run["run"].startswith(reference) or run["run"].endswith(f"-{reference}")]
    if len(matching) == 1 or any(run["run"] == reference for run in matching):
        return next((run for run in matching if run["run"] == reference), matching[0])
    if matching:
        raise DataError(
            f"run {reference}: {len(matching)} runs have this name: {', '.join(run['run'] for run in matching)}"
        )
    raise DataError(f"run {reference!r}: not known in {home / 'runs'}. `llmill runs` lists those that are")


def mark_dead_runs(home: Path) -> list[dict[str, Any]]:
    """Mark the runs whose process died unnoticed as crashed.

    Returns the runs whose records in Prefect and MLflow are still open, crashed ones and those that could not
    record their end there; `mark_closed` takes one off the list.
    """
    left_open = []
    for run in runs(home):
        path = home / "runs" / f"{run['run']}.json"
        if run["status"] == RUNNING:
            with locked(_lock_path(path), blocking=False) as free:
                if free:
                    run = read_json(path) or run  # it may have ended meanwhile
                if free and run["status"] == RUNNING:
                    run["status"] = CRASHED
                    write_json(path, run)
                    _lock_path(path).unlink(missing_ok=True)
        unsaid = run["status"] == CRASHED or (run["status"] != RUNNING and run.get("left_open"))
        if unsaid and not run.get("closed"):
            left_open.append(run)
    return left_open


def mark_closed(home: Path, run: dict[str, Any]) -> None:
    """Note that nothing of a run is open any more."""
    write_json(home / "runs" / f"{run['run']}.json", {**run, "closed": True})


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")
