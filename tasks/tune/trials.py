"""The trials of a search as data: what was tried, what came of it, and which was best."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from tasks.engine.config import StageConfig

Settings = dict[str, Any]  # dotted path of a field of the recipe -> its value

RUNNING: Final = "running"
FINISHED: Final = "finished"
STOPPED: Final = "stopped"
REFUSED: Final = "refused"
FAILED: Final = "failed"
Best = Literal["lowest", "highest"]
FOLDER = "tuning"  # of the home: a folder for each study


def best_file(home: Path, study: str) -> Path:
    """Where the best recipe of a study lies, to be run."""
    return home / FOLDER / study / "best.yaml"


class Trial(StageConfig):
    """One trial. The first has the recipe's own settings.

    | state | what it means |
    |---|---|
    | running | under way, or interrupted |
    | finished | it has its figure |
    | stopped | ended at `stopped_at`, since its validation was worse than the median of the trials before it |
    | refused | the recipe does not take this combination; `why` says so |
    | failed | it ended with an error, `why` |

    `curve` are (step, figure) of the validations of the stage that is watched, in the figure of its kind of training.
    `artifact` is what the stage of the figure made.
    """

    number: int = Field(ge=1)
    settings: Settings
    state: Literal["running", "finished", "stopped", "refused", "failed"] = RUNNING
    figure: float | None = None
    seconds: float = 0.0
    stopped_at: int | None = None
    why: str = ""
    curve: tuple[tuple[int, float], ...] = ()
    run: str | None = None
    artifact: str | None = None


def best_of(trials: Iterable[Trial], best: Best) -> Trial | None:
    """The finished trial with the best figure; of equals the first."""
    sign = 1 if best == "lowest" else -1
    finished = [trial for trial in trials if trial.figure is not None and trial.state == FINISHED]
    return min(finished, key=lambda trial: (sign * (trial.figure or 0.0), trial.number), default=None)


def count_states(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials are in each state; those that none is in are left out."""
    states = [trial.state for trial in trials]
    return {state: states.count(state) for state in (FINISHED, STOPPED, REFUSED, FAILED, RUNNING) if state in states}
