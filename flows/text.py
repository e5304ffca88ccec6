"""What a person reads in the terminal: the plan, progress, results. Plain text that fits 80 columns and a pipe."""

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from flows.columns import NAMES, WIDTH, unbroken, wrapped
from flows.estimates import MOST_SPREAD, Estimate, total
from flows.plan import PlannedStage
from flows.reasons import reason_lines, reasons_text
from storage.errors import OutputError
from tasks.attempts import Retry
from tasks.config import StageConfig
from tasks.engine import Listener, StageResult
from tasks.losses import notices_of
from tasks.stage import Decision, Stage
from tasks.workspace import Progress

SHOWN_COLUMNS = 70  # of a stage's figures
LIVE_SECONDS = 0.2  # between two redraws of the live line on a terminal
PIPE_SECONDS = 15.0  # between two progress lines in a pipe


def plan_text(plan: Sequence[PlannedStage]) -> str:
    """The plan as a table: stage, what, estimate, reasons (one a line)."""
    lines = [f"{'stage':<{NAMES}}{'will':<6}{'about':>10}{'':6} why"]
    for line in plan:
        head = f"{line.stage:<{NAMES}}{line.decision.will:<6}{about(line.estimate):<16} "
        lines += reason_lines(line.decision, head)
    builds = sum(line.decision.will == "build" for line in plan)
    maybes = sum(line.decision.will == "maybe" for line in plan)
    lines.append(f"{len(plan) - builds - maybes} reused, {builds} to build, {maybes} that may be reused")
    lines.append(_total_text(plan, maybes))
    return "\n".join(lines)


def _total_text(plan: Sequence[PlannedStage], maybes: int) -> str:
    """How long all of it takes; where some of it is not known, how long the rest takes, for that is no bound."""
    working = [line.estimate for line in plan if line.decision.will != "reuse"]
    known = [estimate for estimate in working if estimate is not None]
    unknown = len(working) - len(known)
    if unknown and not known:
        return "time unknown"
    expected = total(known)
    text = expectation(expected)
    if expected.seconds and expected.spread <= MOST_SPREAD:
        text += f" ({duration(expected.low)} to {duration(expected.high)})"
    if unknown:
        return f"{text} for {len(known)} stage{'s' * (len(known) != 1)}, {unknown} unknown"
    if text.startswith("up to"):
        return text
    return f"at most about {text}" if maybes else f"about {text}"


def notice_lines(plan: Sequence[PlannedStage]) -> list[str]:
    """What the stages that will be reused have to say."""
    return [told for line in plan for notice in line.notices for told in wrapped(notice, f"{'notice':<{NAMES}}")]


def about(estimate: Estimate | None) -> str:
    """An expectation and its spread, in 16 columns: `1 min 48 s ±20%`; `up to 42 s` where it may be anything below."""
    if estimate is None or not estimate.seconds or estimate.spread > MOST_SPREAD:
        return f"{expectation(estimate):>10}"
    return f"{rough_duration(estimate.seconds):>10} ±{100 * estimate.spread:.0f}%"


def expectation(estimate: Estimate | None) -> str:
    """The time that is expected, or the longest where the range is so wide that its middle says nothing."""
    if estimate is None:
        return duration(None)
    if estimate.spread > MOST_SPREAD:
        return f"up to {rough_duration(estimate.high)}"
    return rough_duration(estimate.seconds)


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


def live_line(text: str) -> None:
    """Replace the live line on a terminal's stderr, or take it away; in a pipe a line of its own."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        print("\r\x1b[2K" + text[: min(width - 1, WIDTH)], end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


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


class Unbroken:
    """A text stream whose reader may go away (as `head` does), or whose disk may fill, without ending the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop the text where nobody reads any more."""
        try:
            return self._stream.write(text)
        except (OSError, OutputError):
            return len(text)

    def flush(self) -> None:
        """Flush; where nobody reads any more, what follows goes nowhere."""
        try:
            self._stream.flush()
        except (OSError, OutputError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


class Terminal(Listener):
    """Prints a line a stage as it ends, and a live line of progress on stderr."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self._live = sys.stderr.isatty()
        self._last = 0.0
        self._shown = False

    def started(self, stage: Stage, config: StageConfig, decision: Decision) -> None:
        self._last = time.monotonic()
        self._draw(f"{stage.name:<{NAMES}}building: {reasons_text(decision)}")

    def waits(self, stage: str, holder: str) -> None:
        self._draw(f"{stage:<{NAMES}}waiting: {holder}")

    def progressed(self, stage: str, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < (LIVE_SECONDS if self._live else PIPE_SECONDS):
            return
        self._last = now
        self._draw(f"{stage:<{NAMES}}{progress_text(progress)}")

    def retrying(self, retry: Retry) -> None:
        self.clear()
        text = f"retry {retry.number} of {retry.of} in {duration(retry.seconds)}: {retry.error}"
        self._say(wrapped(text, f"{retry.stage:<{NAMES}}"))

    def finished(self, result: StageResult) -> None:
        self.clear()
        if result.outcome == "failed":
            return
        tail = "; ".join(result.why)
        if result.outcome == "built":
            head = "".join(f"{fact}, " for fact in effort(result))
            tail = head + figures(result.summary, SHOWN_COLUMNS - len(head))
        self._say(wrapped(tail, f"{result.stage:<{NAMES}}{result.outcome:<8}{duration(result.seconds):>11}  "))
        for notice in notices_of(result.summary):
            self._say(wrapped(f"notice: {notice}", " " * NAMES))

    def _say(self, lines: Sequence[str]) -> None:
        print("\n".join(lines), file=self.out, flush=True)

    def _draw(self, line: str) -> None:
        live_line(line)
        self._shown = True

    def clear(self) -> None:
        """Take the live line away."""
        if self._shown:
            live_line("")
            self._shown = False
