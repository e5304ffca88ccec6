"""One trial as a run: the recipe with the trial's settings, up to the stage of the figure.

It is a run of the ordinary flow, with a run file of its own, so what comes before the first changed stage is reused,
and what was done once, by whomever, is not done again. While the watched stage trains, its validations are handed to
the median pruner, which may end the run as Ctrl-C would: with a checkpoint.
"""

import io
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TextIO, cast

from pydantic import ValidationError

from flows.build import Recipe, building
from flows.inspect.rows import file_rows
from flows.pipeline import Around
from flows.recipe import document_with
from flows.run import execute
from flows.tune.figure import SearchedFigure, finite, value_of
from flows.tune.sampler import Median
from flows.validation import explain
from storage.errors import ConfigError, LlmillError, OutputError, StoppedError, StoreError
from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.engine.builder import describe
from tasks.engine.listener import Listener
from tasks.engine.planner import Options
from tasks.train.trainer_process import validated
from tasks.tune.trials import FAILED, FINISHED, REFUSED, STOPPED, Settings, Trial

LEAST_POINTS = 2  # of a curve that is judged: the first comes while rates are still warming up
CURVE = "curve"  # the part of a trained model


@dataclass(frozen=True, slots=True)
class TrialRunner:
    """How the trials of one search are carried out. `watched` is the training whose validations judge a trial."""

    store: Store
    recipe: Recipe
    study: str
    figure: SearchedFigure
    watched: str | None
    stop_bad: bool

    def recipe_with(self, settings: Settings) -> Recipe:
        """The recipe of a trial; raises ConfigError where it refuses this combination."""
        try:
            return Recipe.model_validate(document_with(self.recipe, settings, "recipe"))
        except ValidationError as error:
            raise ConfigError(explain("recipe", error, Recipe)) from None

    def carry_out(self, trial: Trial, earlier: Sequence[Trial], around: Around) -> Trial:
        """Build what is missing of a trial; returns it with what came of it.

        Raises what ends the whole search: an interruption, a home that cannot be written, an error of the first trial.
        """
        first = trial.number == 1
        try:
            recipe = self.recipe if first else self.recipe_with(trial.settings)
        except ConfigError as refused:
            return trial.model_copy(update={"state": REFUSED, "why": str(refused)})
        judge = _Judge(self.watched, Median(earlier) if self.stop_bad and self.watched and not first else None)
        name = f"tune-{self.study}-{trial.number}"
        started = time.monotonic()
        try:
            result, error = execute(
                recipe,
                Options(to=self.figure.stage),
                cast(TextIO, _Silence()),
                pipeline=replace(building(recipe), title=name, at_start=lambda own: own.listen(judge)),
                plain=around.server is None,
                within=around if around.server is not None else None,
            )
        except ConfigError as refused:  # of the plan: a stage cannot be built on this machine
            if first:
                raise
            return trial.model_copy(update={"state": REFUSED, "why": str(refused)})
        trial = trial.model_copy(
            update={"run": result["run"], "seconds": round(trial.seconds + time.monotonic() - started, 3)}
        )
        return self._ended(trial, result, error, judge)

    def _ended(self, trial: Trial, result: Mapping[str, Any], error: BaseException | None, judge: "_Judge") -> Trial:
        if isinstance(error, StoppedError):
            judged = {"state": STOPPED, "stopped_at": judge.stopped_at, "why": str(error), "curve": tuple(judge.curve)}
            return trial.model_copy(update=judged)
        if error is not None:
            if trial.number == 1 or not isinstance(error, Exception) or isinstance(error, StoreError | OutputError):
                raise UnfinishedTrial(trial) from error
            state = REFUSED if isinstance(error, ConfigError) else FAILED
            return trial.model_copy(update={"state": state, "why": describe(error)})
        artifact = self._artifact(result, self.figure.stage)
        assert artifact is not None
        summary = next(row["artifact"]["summary"] for row in result["stages"] if row["stage"] == self.figure.stage)
        self.store.fetch(artifact)
        value = value_of(self.figure, artifact, summary)
        if value is None:
            what = f"{self.figure.stage}.{self.figure.name}"
            if trial.number == 1:
                raise ConfigError(f"{what} was not measured for the recipe's own settings: search by another figure")
            return trial.model_copy(update={"state": FAILED, "why": f"{what} was not measured"})
        curve = tuple(judge.curve) or self._curve(result)
        found = {"state": FINISHED, "figure": value, "curve": curve, "artifact": artifact.digest}
        return trial.model_copy(update=found)

    def _artifact(self, result: Mapping[str, Any], stage: str | None) -> Artifact | None:
        digests = (row["artifact"]["digest"] for row in result["stages"] if row["stage"] == stage)
        return self.store.artifact(next(digests, ""))

    def _curve(self, result: Mapping[str, Any]) -> tuple[tuple[int, float], ...]:
        """The validations of a training that was reused."""
        artifact = self._artifact(result, self.watched)
        if artifact is None or CURVE not in artifact.parts:
            return ()
        with suppress(LlmillError, OSError, ValueError):
            self.store.fetch(artifact.only((CURVE,)))
            rows = (row for file in artifact[CURVE].files for row in file_rows(file))
            return tuple((int(row["step"]), value) for row in rows for _, value in _validations(row))
        return ()


def _validations(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    """What a row of metrics says of held-out data: none, or the one figure that its kind of training is watched by
    (`Validation.headline` of model/validation.py; of all kinds less is better) with its name."""
    found = ((name.removeprefix("validation_"), finite(value)) for name, value in validated(row).items())
    return [(name, value) for name, value in found if value is not None]


class UnfinishedTrial(Exception):
    """A trial was ended before its end by what ends the search, which is its `__cause__`."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial.number)
        self.trial = trial


class _Judge(Listener):
    """Follows the curve of the watched training, and ends the run where it is bad."""

    def __init__(self, watched: str | None, median: Median | None) -> None:
        self._watched, self._median = watched, median
        self.curve: list[tuple[int, float]] = []
        self.stopped_at: int | None = None

    def measured(self, stage: str, rows: Sequence[Mapping[str, float]]) -> None:
        if stage != self._watched:
            return
        for row in rows:
            for name, value in _validations(row):
                if not self.curve or row["step"] > self.curve[-1][0]:
                    self._judge(int(row["step"]), name, value)

    def _judge(self, step: int, name: str, value: float) -> None:
        self.curve.append((step, value))
        worse = self._median is not None and self._median.is_worse(step, value)
        if worse and len(self.curve) >= LEAST_POINTS:
            self.stopped_at = step
            raise StoppedError(
                f"stopped at step {step:,}: {name.replace('_', ' ')} {value:.4g} in validation is worse than the "
                "median of the trials before"
            )


class _Silence(io.TextIOBase):
    """Takes what a trial's run prints: the search has a line for each trial."""

    def write(self, text: str) -> int:
        return len(text)
