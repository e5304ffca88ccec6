"""A study on the disk: one file for each trial in a folder of the home, the truth about the search.

`tuning/ID/trials/0003.json` says what a trial tries and how it ended; while a process works on it, that process holds
`0003.lock`, which the kernel frees when it dies. So a trial that is `running` without a held lock was interrupted, and
the next worker goes on with it; two workers of one study take different trials. ID is a digest of what decides the
trials: the settings of the stages up to the figure, the space, and the code, data and libraries that they start from.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from storage.canonical import digest_of
from storage.errors import DataError
from storage.files import locked, read_json, write_json
from tasks.tune.trials import FOLDER, RUNNING, Settings, Trial

DIGITS = 8  # of the digest that names a study
FORMAT = 1


def study_of(asked: Any, made_by: Any) -> str:
    """The name of the study that asks for this, with stages that are made by that."""
    return digest_of([FORMAT, asked, made_by])[:DIGITS]


class Study:
    """The folder of one study."""

    def __init__(self, home: Path, name: str) -> None:
        self.name, self.path = name, home / FOLDER / name
        self._trials = self.path / "trials"

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Make the folder; what it was asked is in `study.json`."""
        if read_json(self.path / "study.json") is None:
            write_json(self.path / "study.json", {"format": FORMAT, "study": self.name, **facts})

    def trials(self) -> list[Trial]:
        """All trials, by number; raises DataError for a file that is damaged."""
        return [self._read(path) for path in sorted(self._trials.glob("*.json"))]

    def _read(self, path: Path) -> Trial:
        try:
            return Trial.model_validate(read_json(path))
        except ValueError:
            raise DataError(f"{path}: not a trial of a search. Delete it: another is made in its place") from None

    def write(self, trial: Trial) -> None:
        """Write what is known of a trial, in one step."""
        write_json(self._file(trial.number), trial.model_dump(mode="json"))

    def _file(self, number: int) -> Path:
        return self._trials / f"{number:04d}.json"

    @contextmanager
    def claimed(self, propose: Callable[[Sequence[Trial]], Settings | None], wanted: int) -> Iterator[Trial | None]:
        """A trial for this process alone: one that was interrupted, else a new one while there are fewer than wanted.

        `propose` gets the trials so far and answers with the settings of the next, or None where nothing is left to
        try. Yields None where there is nothing to do.
        """
        with ExitStack() as stack:
            with locked(self.path / "lock"):
                trial = self._taken(stack, propose, wanted)
            yield trial

    def _taken(
        self, stack: ExitStack, propose: Callable[[Sequence[Trial]], Settings | None], wanted: int
    ) -> Trial | None:
        trials = self.trials()
        for trial in trials:
            if trial.state == RUNNING and self._lock(stack, trial.number):
                return trial
        if len(trials) >= wanted:
            return None
        settings = propose(trials)
        if settings is None:
            return None
        trial = Trial(number=max((one.number for one in trials), default=0) + 1, settings=settings)
        self._lock(stack, trial.number)
        self.write(trial)
        return trial

    def _lock(self, stack: ExitStack, number: int) -> bool:
        return stack.enter_context(locked(self._file(number).with_suffix(".lock"), blocking=False))


def studies_that_asked(home: Path, asked: str) -> list[dict[str, Any]]:
    """What `study.json` says of the studies of the same settings and space, the newest last."""
    found = [read_json(path) for path in (home / FOLDER).glob("*/study.json")]
    return sorted((one for one in found if one and one.get("asked") == asked), key=lambda one: str(one["begun"]))
