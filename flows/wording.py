"""Runs and stages in words: progress, figures, shards, attempts. Plain text for the terminal and the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.terminal.columns import unbroken
from tasks.engine.listener import StageResult
from tasks.engine.meter import Progress
from tasks.wording import duration, figure

SHOWN_COLUMNS = 70  # of a stage's figures


def digits_of(run: Mapping[str, Any]) -> str:
    """The four digits that name a run to the commands."""
    return str(run["run"].rpartition("-")[2])


def figures(summary: Mapping[str, Any], telling: Sequence[str] = (), columns: int = SHOWN_COLUMNS) -> str:
    """The first figures of a summary for `wrapped`, as many as fit, those that are `telling` before the others; nested
    ones and the rest are left to `inspect`."""
    line = ""
    for name in dict.fromkeys([*telling, *summary]):
        value = summary.get(name)
        if name not in summary or isinstance(value, (dict, list)):
            continue
        longer = f"{line}, " if line else ""
        longer += unbroken(f"{name.replace('_', ' ')} {figure(value)}")
        if line and len(longer) > columns:
            break
        line = longer
    return line


def shards_text(record: Mapping[str, Any] | None) -> str:
    """How much of a build was new: `3 of 42 shards new`; nothing where all of it was, or where there are no shards."""
    built, reused = ((record or {}).get(name, 0) for name in ("shards_built", "shards_reused"))
    return f"{built:,} of {built + reused:,} shards new" if reused else ""


def attempts_text(attempts: int) -> str:
    """`after 2 retries`; nothing for what went well at once."""
    return f"after {attempts - 1} {'retry' if attempts == 2 else 'retries'}" if attempts > 1 else ""


def repeated_text(record: Mapping[str, Any] | None) -> str:
    """`2 shards done again after a worker died`; nothing where none was."""
    repeated = (record or {}).get("shards_repeated", 0)
    return f"{repeated:,} {'shard' if repeated == 1 else 'shards'} done again after a worker died" if repeated else ""


def effort(result: StageResult) -> list[str]:
    """How much of a build was new and how often it was tried, where that is worth mentioning."""
    record = result.record if result.outcome == "built" else None
    return [fact for fact in (shards_text(record), repeated_text(record), attempts_text(result.attempts)) if fact]


def progress_text(progress: Progress) -> str:
    """How far a stage is: `120/416 steps  loss 5.1  38 s left`."""
    line = f"{figure(progress.done)}/{figure(progress.total)} {progress.unit}"
    for name, value in progress.figures.items():
        line += f"  {name.replace('_', ' ')} {figure(value)}"
    return line + (f"  {duration(progress.seconds_left)} left" if progress.seconds_left is not None else "")
