"""Trials as Optuna has them, and how much each field of a search mattered: PED-ANOVA over the finished trials.

Optuna is imported when somebody asks.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from storage.canonical import canonical_json
from tasks.tune.trials import FINISHED, RUNNING, STOPPED, Best, Trial
from tasks.tune.values import Values

if TYPE_CHECKING:
    import optuna

LEAST_TRIALS = 5  # finished, all values within the space: fewer say nothing about what mattered


def importances(fields: Mapping[str, Values], best: Best, trials: Sequence[Trial]) -> dict[str, float]:
    """The share of each field, the greatest first; empty where the trials are too few, or all equally good."""
    within = [
        trial
        for trial in trials
        if trial.state == FINISHED and all(values.holds(trial.settings[path]) for path, values in fields.items())
    ]
    if len(within) < LEAST_TRIALS or len({trial.figure for trial in within}) == 1:
        return {}
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Optuna calls experimental
        study = study_in_memory(fields, best, within)
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), normalize=True)
    shares = {path: round(float(found.get(path, 0.0)), 4) for path in fields}
    return dict(sorted(shares.items(), key=lambda share: -share[1]))


def study_in_memory(
    fields: Mapping[str, Values],
    best: Best,
    trials: Sequence[Trial],
    sampler: "optuna.samplers.BaseSampler | None" = None,
) -> "optuna.Study":
    """An Optuna study that holds these trials."""
    import optuna

    study = optuna.create_study(sampler=sampler, direction="minimize" if best == "lowest" else "maximize")
    study.add_trials([_as_optuna(fields, best, trial) for trial in trials])
    return study


def _as_optuna(fields: Mapping[str, Values], best: Best, trial: Trial) -> "optuna.trial.FrozenTrial":
    """A trial as Optuna reads it; a value that the space does not hold, such as the recipe's own, is left out."""
    from optuna.trial import TrialState, create_trial

    states = {FINISHED: TrialState.COMPLETE, STOPPED: TrialState.PRUNED, RUNNING: TrialState.RUNNING}
    held = {path: values for path, values in fields.items() if values.holds(trial.settings[path])}
    sign = 1.0 if best == "lowest" else -1.0  # a curve is good where it is low
    return create_trial(
        state=states.get(trial.state, TrialState.FAIL),
        value=trial.figure if trial.state == FINISHED else None,
        params={path: _parameter(values, trial.settings[path]) for path, values in held.items()},
        distributions={path: distribution(values) for path, values in held.items()},
        intermediate_values={step: sign * value for step, value in trial.curve},
    )


def distribution(values: Values) -> "optuna.distributions.BaseDistribution":
    """The values of a field as Optuna has them; choices by their places, since they may be of any kind."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if values.choices is not None:
        return CategoricalDistribution(list(range(len(values.choices))))
    assert values.low is not None and values.high is not None
    if values.is_whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log, step=int(values.step or 1))
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def _parameter(values: Values, setting: Any) -> Any:
    if values.choices is None:
        return setting
    return next(place for place, one in enumerate(values.choices) if canonical_json(one) == canonical_json(setting))
