"""The flows behind the Prefect deployments: what the UI's Run button, a schedule or a retry starts in a worker.

Their parameters are the form. Prefect refuses at submit what breaks a field's bounds; what only the whole can tell
is checked here again, before the first stage, with the message that the command line gives.
"""

import io
import os
from collections.abc import Sequence
from typing import Any, Literal, TextIO, cast

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.build import BUILD
from flows.recipe import DEFAULT, Recipe, load_recipe, validated_recipe
from flows.retraining import execute_retraining
from flows.retry import options_left
from flows.run import Execute, execute
from storage.addresses import keep_loopback_direct
from storage.errors import ConfigError, LlmillError
from storage.home import VARIABLE, home
from storage.processes import watch_parent
from storage.runs import attempts_of
from tasks.engine import Options

QUICK = load_recipe(DEFAULT)
StageName: Any = Literal[BUILD.stage_names]


@flow(name="build", persist_result=False, validate_parameters=False)
def build(recipe: Recipe = QUICK, to: StageName | None = None, force: Sequence[StageName] = ()) -> Any:
    """From sources of text to a tested, released model. Stages whose result is there already are reused.

    Args:
        recipe: Everything that decides the result, a section a stage.
        to: The last stage to run; by default all run.
        force: Stages to build though they could be reused.
    """
    return _carry_out(execute, recipe, Options(to, frozenset(force)))


@flow(name="retrain", persist_result=False, validate_parameters=False)
def retrain(recipe: Recipe = QUICK, force: Sequence[StageName] = ()) -> Any:
    """Collect again, go on from the champion, judge both models on the same items; promote what is better.

    Args:
        recipe: What the champion was made by, with what may differ; its section `retrain` says how to go on.
        force: Stages to build though they could be reused.
    """
    return _carry_out(execute_retraining, recipe, Options(None, frozenset(force)))


def _carry_out(execute: Execute, recipe: Any, options: Options) -> Any:
    """One attempt of a flow run that a worker has started; returns its last state."""
    keep_loopback_direct()
    watch_parent(os.getppid())  # a worker that is killed takes its runs with it; they turn Crashed, and can be retried
    logger = get_run_logger()
    try:
        if not os.environ.get(VARIABLE):
            raise ConfigError(f"{VARIABLE} is not set for this worker: start it with `llmill worker`, or set it")
        earlier = attempts_of(home(), str(flow_run.id))
        left = options_left({"to": options.to, "force": options.force}, earlier)
        result, error = execute(_recipe(recipe), left, cast(TextIO, _LogLines(logger)), deployed=True)
    except LlmillError as caught:
        error = caught
    if isinstance(error, LlmillError):
        logger.error(str(error))
        return Failed(message=str(error))
    if error is not None:
        raise error
    return Completed(message=result["status"])


def _recipe(parameter: Any) -> Recipe:
    try:
        return validated_recipe(parameter)
    except ConfigError as error:
        raise ConfigError(f"{error}. A form that is older than this llmill is renewed by `llmill deploy`") from None


class _LogLines(io.TextIOBase):
    """A stream whose lines become lines of the flow run's log."""

    def __init__(self, logger: Any) -> None:
        self._logger, self._rest = logger, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._logger.info(line)
        return len(text)
