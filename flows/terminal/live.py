"""What a run shows in the terminal while it goes on: a line for each stage that ends, and a live line of progress."""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from flows.terminal.columns import NAMES, WIDTH, wrapped
from flows.terminal.reasons import reasons_text
from flows.wording import SHOWN_COLUMNS, effort, figures, progress_text
from storage.errors import OutputError
from tasks.engine.config import StageConfig
from tasks.engine.decide import Decision
from tasks.engine.listener import Listener, StageResult
from tasks.engine.meter import Progress
from tasks.engine.retries import Retry
from tasks.engine.stage import Stage
from tasks.notices import notices_of
from tasks.wording import duration

LIVE_SECONDS = 0.2  # between two redraws of the live line on a terminal

PIPE_SECONDS = 15.0  # between two progress lines in a pipe


def live_line(text: str) -> None:
    """Replace the live line on a terminal's stderr, or remove it; in a pipe a line of its own."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        print("\r\x1b[2K" + text[: min(width - 1, WIDTH)], end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


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
        """Hand on what is buffered; where nobody reads any more, what follows is dropped."""
        try:
            self._stream.flush()
        except (OSError, OutputError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


class Terminal(Listener):
    """Prints a line for each stage that ends, and a live line of progress on stderr."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self._live = sys.stderr.isatty()
        self._last = 0.0
        self._telling: dict[str, tuple[str, ...]] = {}
        self._shown = False

    def started(self, stage: Stage, config: StageConfig, decision: Decision) -> None:
        self._last = time.monotonic()
        self._telling[stage.name] = stage.about.telling
        self._draw(f"{stage.name:<{NAMES}}building: {reasons_text(decision, stage.about)}")

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
            tail = head + figures(result.summary, self._telling.get(result.stage, ()), SHOWN_COLUMNS - len(head))
        self._say(wrapped(tail, f"{result.stage:<{NAMES}}{result.outcome:<8}{duration(result.seconds):>11}  "))
        for notice in notices_of(result.summary):
            self._say(wrapped(f"notice: {notice}", " " * NAMES))

    def _say(self, lines: Sequence[str]) -> None:
        print("\n".join(lines), file=self.out, flush=True)

    def _draw(self, line: str) -> None:
        live_line(line)
        self._shown = True

    def clear(self) -> None:
        """Remove the live line."""
        if self._shown:
            live_line("")
            self._shown = False
