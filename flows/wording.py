"""What a person reads in the terminal: the plan, progress, results. Plain text that fits 80 columns and a pipe."""

from collections.abc import Mapping
from typing import Any

from flows.terminal.columns import unbroken
from tasks.engine.listener import StageResult
from tasks.engine.workspace import Progress

SHOWN_COLUMNS = 70  # of a stage's figures


def duration(seconds: float | None) -> str:
    """Seconds for people: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`; `unknown` for None."""
    if seconds is None:
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def rough_duration(seconds: float) -> str:
    """A duration in at most ten columns: from ten minutes on without seconds, from ten hours on without minutes."""
    if round(seconds) < 600:
        return duration(seconds)
    if round(seconds) < 3600:
        return f"{round(seconds / 60)} min"
    return duration(seconds) if seconds < 36_000 else f"{round(seconds / 3600)} h"


def size(count: float) -> str:
    """Bytes for people: `812 B`, `4.0 MB`, `1.3 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def when(timestamp: str) -> str:
    """A time stamp of a run file or build record for people: `2026-11-25 01:20`, UTC."""
    return timestamp[:16].replace("T", " ")


def digits_of(run: Mapping[str, Any]) -> str:
    """The four digits that name a run to the commands."""
    return str(run["run"].rpartition("-")[2])


def clipped(value: Any, columns: int) -> str:
    """A value on one line of at most so many columns."""
    text = " ".join(str(value).split())
    return text if len(text) <= columns else text[: columns - 3] + "..."


def figure(value: Any) -> str:
    """A figure for people: thousands separated, four significant digits."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 10_000 <= abs(value) < 1e15 else f"{value:.4g}"
    return str(value)


def figures(summary: Mapping[str, Any], columns: int = SHOWN_COLUMNS) -> str:
    """The first figures of a summary for `wrapped`, as many as fit; nested ones and the rest are left to `inspect`."""
    line = ""
    for name, value in summary.items():
        if isinstance(value, (dict, list)):
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


def effort(result: StageResult) -> list[str]:
    """How much of a build was new and how often it was tried, where that is worth a word."""
    record = result.record if result.outcome == "built" else None
    return [fact for fact in (shards_text(record), attempts_text(result.attempts)) if fact]


def progress_text(progress: Progress) -> str:
    """How far a stage is: `120/416 steps  loss 5.1  38 s left`."""
    line = f"{figure(progress.done)}/{figure(progress.total)} {progress.unit}"
    for name, value in progress.figures.items():
        line += f"  {name.replace('_', ' ')} {figure(value)}"
    return line + (f"  {duration(progress.seconds_left)} left" if progress.seconds_left is not None else "")
