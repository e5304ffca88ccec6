"""The flows behind the Prefect deployments: what the UI's Run button, a schedule or a retry starts in a worker.

Their parameters are the form (form.py). Prefect refuses at submit what breaks a field's bounds, and the server of
`llmill ui` what only the whole recipe shows; what another server let through is refused here, before the first stage,
with the message that the command line gives.
"""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TextIO, cast

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.build import BUILD, Recipe
from flows.champion.retrain_run import execute_retraining
from flows.champion.verdict import verdict_sentence
from flows.prefect.form import form_recipe, form_space
from flows.recipe import DEFAULT, validated_recipe
from flows.retry import options_left
from flows.run import Execute, Result, execute
from flows.tune.tune_run import execute_tuning
from storage.addresses import keep_loopback_direct
from storage.errors import ConfigError, LlmillError
from storage.home import VARIABLE, home, prepare_home
from storage.processes import watch_parent
from storage.runs import attempts_of
from storage.store.shared import open_store
from tasks.engine.planner import Options

StageName: Any = Literal[BUILD.stage_names]
APPROVAL_HOURS = 72  # that a run waits for a person's yes; the champion stays if nobody answers
POLL_SECONDS = 2


@flow(name="build", persist_result=False, validate_parameters=False)
def build(
    recipe: str = DEFAULT,
    source: str | None = None,
    size: str | None = None,
    tokens: int | None = None,
    vocabulary_size: int | None = None,
    epochs: float | None = None,
    tasks: str | None = None,
    settings: str | None = None,
    to: StageName | None = None,
    force: Sequence[StageName] = (),
) -> Any:
    """From sources of text to a tested, released model. Stages whose result is there already are reused."""
    dials = {"size": size, "tokens": tokens, "vocabulary_size": vocabulary_size, "epochs": epochs, "tasks": tasks}
    form = {"recipe": recipe, "source": source, "settings": settings, **dials}
    return _carry_out(execute, lambda: form_recipe(form), Options(to or None, frozenset(force)))


@flow(name="build", persist_result=False, validate_parameters=False)
def build_full(recipe: Recipe, to: StageName | None = None, force: Sequence[StageName] = ()) -> Any:
    """`build` with every field of the recipe in the form.

    Args:
        recipe: Everything that decides the result, one section for each stage.
        to: The last stage to run; by default all run.
        force: Stages to build though they could be reused.
    """
    return _carry_out(execute, lambda: _recipe(recipe), Options(to, frozenset(force)))


@flow(name="retrain", persist_result=False, validate_parameters=False)
def retrain(
    recipe: str = DEFAULT,
    source: str | None = None,
    settings: str | None = None,
    only_if_new: bool = False,
    approve: bool = False,
    force: Sequence[StageName] = (),
) -> Any:
    """Collect again, go on from the champion, judge both models on the same items; promote what is better."""
    form = {"recipe": recipe, "source": source, "settings": settings}
    retrain = partial(execute_retraining, only_if_new=only_if_new, approve=ask_for_approval if approve else None)
    return _carry_out(retrain, lambda: form_recipe(form), Options(None, frozenset(force)))


@flow(name="tune", persist_result=False, validate_parameters=False)
def tune(
    recipe: str = DEFAULT,
    settings: str | None = None,
    space: str = "",
    trials: int = 20,
    minutes: float | None = None,
) -> Any:
    """Search for better settings of a recipe: each trial is a subflow, its stages reused where they are there."""
    form = {"recipe": recipe, "settings": settings, "space": space}

    def search(*arguments: Any, **options: Any) -> tuple[Result, BaseException | None]:
        return execute_tuning(*arguments, space=form_space(form), trials=trials, minutes=minutes, **options)

    return _carry_out(search, lambda: form_recipe(form), Options())


def _carry_out(execute: Execute, recipe: Callable[[], Recipe], options: Options) -> Any:
    """One attempt of a flow run that a worker has started; returns its last state."""
    keep_loopback_direct()
    watch_parent(os.getppid())  # a worker that is killed takes its runs with it; they turn Crashed, and can be retried
    logger = get_run_logger()
    try:
        if not os.environ.get(VARIABLE):
            raise ConfigError(f"{VARIABLE} is not set for this worker: start it with `llmill worker`, or set it")
        open_store(prepare_home()).sync_recipes()
        previous = attempts_of(home(), str(flow_run.id))
        left = options_left({"to": options.to, "force": options.force}, previous)
        result, error = execute(recipe(), left, cast(TextIO, _LogLines(logger)), deployed=True)
    except LlmillError as caught:
        error = caught
    if isinstance(error, LlmillError):
        logger.error(str(error))
        return Failed(message=str(error))
    if error is not None:
        raise error
    return Completed(message=verdict_sentence(result["verdict"]) if "verdict" in result else result["status"])


def ask_for_approval(verdict: Mapping[str, Any]) -> str | None:
    """Pause the flow run until somebody has filled in the form on its page; None for a yes, else why not."""
    from prefect.exceptions import FlowPauseTimeout
    from prefect.flow_runs import pause_flow_run
    from prefect.input import RunInput

    class Approval(RunInput):
        promote: bool = False
        reason: str = ""

    reasons = "; ".join(verdict["reasons"])
    question: Any = Approval.with_initial_data(description=f"Is this model to be the champion? {reasons}")
    try:
        answer: Any = pause_flow_run(
            wait_for_input=question, timeout=APPROVAL_HOURS * 3600, poll_interval=POLL_SECONDS, key="approval"
        )
    except FlowPauseTimeout:
        return f"nobody answered within {APPROVAL_HOURS} hours"
    if answer.promote:
        return None
    return f"a person said no: {answer.reason}" if answer.reason else "a person said no"


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
