"""Which settings to try next, and when a trial is bad enough to be stopped: Optuna's samplers and its median pruner.

The study is made in memory for each question, from the trials on the disk, and the sampler's seed from the space's
seed and the trial's number: so the same history gives the same next trial, in whichever process and after whatever
interruption. Optuna is imported when the first question is asked.
"""

import warnings
from collections.abc import Sequence
from typing import Any

from flows.tune.space import Space
from storage.canonical import canonical_json, digest_of
from tasks.tune.importance import distribution, study_in_memory
from tasks.tune.trials import FINISHED, Settings, Trial
from tasks.tune.values import Values, rounded

REDRAWS = 20  # where a drawn combination was tried before
RANDOM_FIRST = 6  # trials that TPE draws at random, the recipe's own counted
NEVER_STOPPED = 4  # finished trials before one is stopped: a median of fewer says little


def propose(space: Space, trials: Sequence[Trial]) -> Settings | None:
    """The settings of the next trial; None where all combinations were tried. The first trial is not asked for."""
    tried = {canonical_json(trial.settings) for trial in trials}
    if space.method == "grid":
        return next((one for one in space.grid() if canonical_json(one) not in tried), None)
    for draw in range(REDRAWS):
        settings = _drawn(space, trials, _seed(space, len(trials) + 1, draw))
        if canonical_json(settings) not in tried:
            return settings
    return _one_that_is_left(space, tried, _seed(space, len(trials) + 1, REDRAWS))


def _one_that_is_left(space: Space, tried: set[bytes], seed: int) -> Settings | None:
    """Of a small space that is nearly done, any combination that was not tried."""
    if space.combinations is None:
        return None
    left = [one for one in space.grid() if canonical_json(one) not in tried]
    return left[seed % len(left)] if left else None


def _seed(space: Space, number: int, draw: int) -> int:
    return int(digest_of([space.seed, number, draw])[:8], 16)


def _drawn(space: Space, trials: Sequence[Trial], seed: int) -> Settings:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of options that Optuna calls experimental
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed)
        if space.method == "tpe":
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_FIRST, constant_liar=True)
        study = study_in_memory(space.fields, space.best, trials, sampler)
        distributions = {path: distribution(values) for path, values in space.fields.items()}
        asked = study.ask(distributions).params
    return {path: _value(values, asked[path]) for path, values in space.fields.items()}


def _value(values: Values, parameter: Any) -> Any:
    if values.choices is not None:
        return values.choices[parameter]
    assert values.low is not None and values.high is not None
    return min(values.high, max(values.low, rounded(parameter)))


class Median:
    """Whether a trial's curve is worse than the median of the finished trials at the same step."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        import optuna
        from optuna.trial import TrialState, create_trial

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=NEVER_STOPPED))
        finished = [trial for trial in trials if trial.state == FINISHED and trial.curve]
        for trial in finished:
            curve = dict(trial.curve)
            study.add_trial(create_trial(state=TrialState.COMPLETE, value=curve[max(curve)], intermediate_values=curve))
        self._trial = study.ask()

    def is_worse(self, step: int, value: float) -> bool:
        """Note one more point of the trial's curve, and judge the trial by it."""
        self._trial.report(value, step)
        return self._trial.should_prune()
