"""A search as a run: trials, each a run within it, then the stage `study`, which sums them up.

`llmill tune` and the deployment `tune` come here. What is known of the trials is in the study's folder (study.py); the
run itself builds one artifact. A search all of whose trials are done builds nothing, and starts neither Prefect nor
MLflow.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TextIO

from flows.build import Recipe, building
from flows.pipeline import Around, Call, Pipeline
from flows.plan import PlannedStage, make_plan
from flows.recipe import document_with
from flows.run import Result, execute
from flows.terminal.columns import NAMES, wrapped
from flows.tune.deadline import TimeIsUp, deadline
from flows.tune.figure import SearchedFigure
from flows.tune.sampler import propose
from flows.tune.space import Space, check_search, own_settings
from flows.tune.study import Study, studies_that_asked, study_of
from flows.tune.trial_run import CURVE, TrialRunner, UnfinishedTrial
from storage.canonical import digest_of
from storage.errors import StoppedError
from storage.files import write_atomic
from storage.home import prepare_home
from storage.store.artifacts import Artifact
from storage.store.local import Store
from storage.store.shared import open_store
from tasks.engine.listener import StageResult
from tasks.engine.planner import Options
from tasks.engine.stage import Output, Pending
from tasks.tune.stage import StudyConfig, study
from tasks.tune.table import OWN, outcome_text, settings_text, why_text
from tasks.tune.trials import FAILED, FINISHED, REFUSED, RUNNING, Settings, Trial, best_file, best_of
from tasks.wording import duration

NAME = "tune"
PENDING = Pending("trials")  # stands for what trials to come will give


def execute_tuning(
    recipe: Recipe,
    options: Options,
    out: TextIO,
    *,
    space: Space,
    trials: int,
    minutes: float | None = None,
    where: str = "space",
    plain: bool = False,
    deployed: bool = False,
) -> tuple[Result, BaseException | None]:
    """Carry out a search as `flows.run.execute` carries out a run: up to `trials` in all, earlier ones counted, and
    for `minutes` at most. `where` names the space in errors; raises ConfigError before anything runs."""
    store = open_store(prepare_home())
    figure, differing = check_search(space, recipe, where)
    search = _Search(store, recipe, space, figure, differing, trials, minutes, out)
    facts = {NAME: {"space": space.model_dump(mode="json"), "trials": trials, "minutes": minutes}}
    pipeline = Pipeline(
        NAME,
        search.walk,
        (Call(study, {}),),
        at_start=search.carry_out,
        at_end=search.publish,
        title=f"{NAME}-{recipe.name}",
        tells_plan=False,
        facts=facts,
    )
    return execute(recipe, options, out, pipeline=pipeline, plain=plain, deployed=deployed)


class _Search:
    """One search of this process: a worker of its study."""

    def __init__(
        self,
        store: Store,
        recipe: Recipe,
        space: Space,
        figure: SearchedFigure,
        differing: Sequence[str],
        wanted: int,
        minutes: float | None,
        out: TextIO,
    ) -> None:
        self._store, self._recipe, self._space, self._figure = store, recipe, space, figure
        self._wanted, self._minutes, self._out = wanted, minutes, out
        self._watched = _watched(recipe, figure, differing)
        self._over = False  # this process starts no more trials
        self._plan = make_plan(store, recipe, Options(to=figure.stage))
        self._study = Study(store.home, study_of(self._asked, self._made_by))

    @cached_property
    def _asked(self) -> str:
        """A digest of the space and of the settings that count up to the figure."""
        settings = {line.stage: line.decision.identity.config for line in self._plan}
        return digest_of([self._space.model_dump(mode="json"), settings])

    @cached_property
    def _made_by(self) -> dict[str, dict[str, Any]]:
        """Of each stage up to the figure its code, what it reads outside the store, and its libraries."""
        return {line.stage: _made_by(line) for line in self._plan}

    # The flow ----------------------------------------------------------------------------------------------------

    def walk(self, recipe: Recipe) -> Output:
        """Sum up the trials: under the planner those that are there, of which more may come."""
        trials = [trial for trial in self._study.trials() if trial.state != RUNNING]
        best = best_of(trials, self._space.best)
        document: dict[str, Any] = {}
        if best is not None:
            document = self._best_document(best)
        config = StudyConfig(
            study=self._study.name,
            figure=self._space.figure,
            best=self._space.best,
            method=self._space.method,
            seed=self._space.seed,
            fields=self._space.fields,
            trials=tuple(trials),
            recipe=document,
        )
        if not self._is_done(trials):
            return study(config, PENDING, PENDING)
        return study(config, *self._judged(trials[0], best))

    def _is_done(self, trials: Sequence[Trial]) -> bool:
        """Whether nothing is left to do, for this process."""
        if self._over:
            return True
        return len(trials) >= self._wanted or (bool(trials) and propose(self._space, trials) is None)

    def _judged(self, first: Trial, best: Trial | None) -> tuple[Artifact | None, Artifact | None]:
        """The evaluations of the first trial and of the best, where the figure is a score and both are there."""
        if not self._figure.is_score or best is None:
            return None, None
        found = [self._store.artifact(trial.artifact or "") for trial in (first, best)]
        if any(artifact is None or self._store.artifact_damage(artifact) for artifact in found):
            return None, None
        return found[0], found[1]

    def _best_document(self, best: Trial) -> dict[str, Any]:
        settings = best.settings if best.number > 1 else {}
        return {**document_with(self._recipe, settings, "recipe"), "name": f"{self._recipe.name}-tuned"}

    def publish(self, results: Sequence[StageResult], data: dict[str, Any]) -> None:
        """Put the best recipe where it can be run from, and the result into the run's data."""
        artifact = results[-1].artifact
        assert artifact is not None
        path = best_file(self._store.home, self._study.name)
        write_atomic(path, (artifact["recipe"] / "best.yaml").read_bytes())
        result = json.loads((artifact["result"] / "result.json").read_bytes())
        data[NAME] = {**data[NAME], **result, "recipe": str(path)}

    # The trials --------------------------------------------------------------------------------------------------

    def carry_out(self, around: Around) -> None:
        """Carry out what is left of the trials, one after another."""
        self._study.begin(
            {
                "asked": self._asked,
                "made_by": self._made_by,
                "begun": datetime.now(UTC).isoformat(timespec="microseconds"),
                "recipe": self._recipe.name,
                "space": self._space.model_dump(mode="json"),
            }
        )
        self._say_what_is_searched()
        runner = TrialRunner(
            self._store, self._recipe, self._study.name, self._figure, self._watched, self._space.stop_bad
        )
        try:
            with deadline(self._minutes) as end:
                while not end.passed.is_set() and self._carry_out_one(runner, around):
                    pass
        except TimeIsUp:
            pass
        if end.passed.is_set():
            self._say("time", f"{self._minutes:g} minutes are over; the same command goes on with the search")
        self._over = True
        left = [trial.number for trial in self._study.trials() if trial.state == RUNNING]
        if left:
            self._say("left", f"{_trials_text(left)}: interrupted, or under way in another process")
        if not any(trial.number == 1 and trial.state == FINISHED for trial in self._study.trials()):
            raise StoppedError(
                "the first trial, with the recipe's own settings, is not finished: there is nothing to compare with. "
                "Run the same command again, with more time (--minutes)"
            )

    def _carry_out_one(self, runner: TrialRunner, around: Around) -> bool:
        """Carry out one trial; False where nothing is left."""
        with self._study.claimed(self._next_settings, self._wanted) as trial:
            if trial is None:
                return False
            if trial.run or trial.seconds:
                self._say(f"trial {trial.number}", "goes on where it was interrupted")
            earlier = [one for one in self._study.trials() if one.number != trial.number]
            try:
                ended = runner.carry_out(trial, earlier, around)
            except UnfinishedTrial as unfinished:
                self._study.write(unfinished.trial)
                cause = unfinished.__cause__
                assert cause is not None
                raise cause from None
            self._study.write(ended)
        self._say_trial(ended)
        return True

    def _next_settings(self, trials: Sequence[Trial]) -> Settings | None:
        return propose(self._space, trials) if trials else own_settings(self._space, self._recipe)

    # What is said ------------------------------------------------------------------------------------------------

    def _say(self, name: str, text: str) -> None:
        print("\n".join(wrapped(text, f"{name:<{NAMES}}")), file=self._out, flush=True)

    def _say_what_is_searched(self) -> None:
        space, there = self._space, len(self._study.trials())
        self._say(
            "study", f"{self._study.name}: {space.figure}, the {space.best}, by {space.method}, seed {space.seed}"
        )
        own = own_settings(space, self._recipe)
        for path, values in space.fields.items():
            self._say("", f"{path}: {values.text()}; own {settings_text({path: own[path]}).partition(' ')[2]}")
        limit = f", {self._minutes:g} minutes at most" if self._minutes is not None else ""
        self._say(
            "trials", f"{self._wanted:,} wanted, {there:,} begun before{limit}; each runs to {self._figure.stage}"
        )
        if self._watched and space.stop_bad:
            watched = next(line for line in self._plan if line.stage == self._watched)
            every = watched.decision.identity.config["validation_interval"]
            name = f"{self._watched}.validation_interval"
            self._say("stopping", f"by the validation of {self._watched} every {every:,} steps ({name})")
        self._say_what_changed()
        print(file=self._out)

    def _say_what_changed(self) -> None:
        """Say that this study replaces one of the same question, and why."""
        others = [one for one in studies_that_asked(self._store.home, self._asked) if one["study"] != self._study.name]
        if not others or self._study.trials():
            return
        changed = [name for name, made in self._made_by.items() if others[-1]["made_by"].get(name) != made]
        self._say(
            "notice",
            f"code, data or libraries of {', '.join(changed) or 'a stage'} have changed since study "
            f"{others[-1]['study']}: this is a new study; what is still good is reused",
        )

    def _say_trial(self, trial: Trial) -> None:
        row = trial.model_dump(mode="json")
        text = OWN if trial.number == 1 else settings_text(trial.settings)
        self._say(f"trial {trial.number}", f"{outcome_text(row)} in {duration(trial.seconds)}: {text}")
        if trial.state in (REFUSED, FAILED):
            self._say("", why_text(row))


def _trials_text(numbers: Sequence[int]) -> str:
    return f"trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _made_by(line: PlannedStage) -> dict[str, Any]:
    identity = line.decision.identity.record()
    return {name: identity[name] for name in ("version", "code", "observed", "libraries")}


def _watched(recipe: Recipe, figure: SearchedFigure, differing: Sequence[str]) -> str | None:
    """The training whose validations tell trials apart: the first that differs between them, up to the figure."""
    stages = building(recipe).stages
    names = [stage.name for stage in stages]
    first = min((names.index(name) for name in differing), default=0)
    last = names.index(figure.stage)
    return next((stage.name for stage in stages[first : last + 1] if CURVE in stage.parts), None)


def search_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a run of a search was asked, from its file: arguments of `execute_tuning`."""
    asked = run[NAME]
    return {
        "space": Space.model_validate(asked["space"]),
        "trials": asked["trials"],
        "minutes": asked["minutes"],
        "where": f"run {run['run']}",
    }
