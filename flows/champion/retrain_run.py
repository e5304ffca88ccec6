"""A retraining as a run: one at a time, on the champion of the moment, ended by promoting or keeping.

Its DAG is flows/retrain.py; here are the lease, the repair of a damaged champion, and the verdict. What it decided is
in the run's data as `verdict`: `{"decision", "reasons", "champion", "candidate", ...}`; `decision` is one of
`Decision` (flows/champion/verdict.py).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TextIO

from flows.build import BUILD, Recipe
from flows.champion.champion import NEEDED, Champion, champion_damage, champion_ref, load_champion, promote
from flows.champion.verdict import PROMOTING, Decision, decision_of, is_retraining
from flows.pipeline import Pipeline
from flows.plan import PlannedStage, all_reused, make_plan
from flows.recipe import validated_recipe
from flows.retrain import goes_on_from, learning_from_users, retraining
from flows.run import Result, execute
from flows.votes import votes_so_far
from storage.errors import LlmillError, StoreError
from storage.files import locked
from storage.home import prepare_home
from storage.runs import find_run, runs
from storage.store.artifacts import Artifact
from storage.store.local import Store
from storage.store.refs import Ref
from storage.store.shared import open_store
from tasks.engine.listener import StageResult
from tasks.engine.planner import Options
from tasks.retrain.continuing import champion_shape
from tasks.wording import when

LOCK = "retrain"
NOTHING_NEW = "nothing new: sources, settings, code and champion are as the last retraining has seen them"

Approve = Callable[[Mapping[str, Any]], str | None]  # asked with a verdict that promotes: None, or why not


def execute_retraining(
    recipe: Recipe,
    options: Options,
    out: TextIO,
    *,
    plain: bool = False,
    deployed: bool = False,
    only_if_new: bool = False,
    approve: Approve | None = None,
) -> tuple[Result, BaseException | None]:
    """Carry out a retraining as `flows.run.execute` carries out a run, alone: a second one waits, then decides again.

    `only_if_new`: there is no run where all its stages would be reused. `approve` is asked before a promotion.
    """
    store = open_store(prepare_home())
    recipe = learning_from_users(recipe)
    with _alone(store, recipe.execution.lease_seconds, out):
        ref = champion_ref(store)
        champion = _repaired_champion(store, ref, recipe, out, plain=plain)
        pipeline = _with_verdict(store, retraining(recipe, champion), ref, champion, approve)
        if (
            only_if_new
            and ref is not None
            and _has_decided(store)
            and all_reused(make_plan(store, recipe, options, pipeline))
        ):
            print(NOTHING_NEW, file=out)
            return {"run": None, "status": NOTHING_NEW, "stages": []}, None
        result, error = execute(recipe, options, out, pipeline=pipeline, plain=plain, deployed=deployed)
    if error is not None:
        stays = "the champion stays as it is" if ref else "there is still no champion"
        print(f"verdict     none: the run did not come to one; {stays}", file=out)
    return result, error


def _has_decided(store: Store) -> bool:
    """Whether the last retraining came to its verdict: one that was ended before may have built all its stages."""
    store.sync_runs()
    last = next((run for run in reversed(runs(store.home)) if is_retraining(run)), None)
    return last is not None and decision_of(last) not in ("", Decision.NONE)


def plan_retraining(store: Store, recipe: Recipe, options: Options) -> list[PlannedStage]:
    """What a retraining would do now; nothing is repaired or waited for."""
    recipe = learning_from_users(recipe)
    ref = champion_ref(store)
    damage = champion_damage(store, ref, NEEDED) if ref else []
    if ref is not None and damage and recipe.retrain.start != "scratch":
        raise _damaged(ref, damage)
    champion = load_champion(store, ref) if ref and not damage else None
    check_shape(recipe, champion)
    return make_plan(store, recipe, options, retraining(recipe, champion))


def check_shape(recipe: Recipe, champion: Champion | None) -> None:
    """Raise ConfigError before anything runs where the weights cannot go on in the recipe's shape."""
    if champion is not None and goes_on_from(recipe, champion):
        champion_shape(recipe.continuing, champion.base)


@contextmanager
def _alone(store: Store, lease_seconds: float, out: TextIO) -> Iterator[None]:
    """One retraining at a time, on all homes of a shared store."""

    def wait(holder: str) -> None:
        print(f"another retraining is under way ({holder}): this one begins when it has ended", file=out, flush=True)

    with locked(store.work / f"{LOCK}.lock", blocking=False) as free:
        if not free:
            wait("on this home")
    with store.lock(LOCK, lease_seconds, wait):
        yield


# The champion that it begins with -------------------------------------------------------------------------------


def _repaired_champion(store: Store, ref: Ref | None, recipe: Recipe, out: TextIO, *, plain: bool) -> Champion | None:
    """The champion, intact or rebuilt; None where there is none, or a damaged one is left out."""
    if ref is None:
        print("champion    none yet: this run trains from scratch; if its model is sound it is the first", file=out)
        return None
    print(f"champion    {described(ref)}", file=out, flush=True)
    damage = champion_damage(store, ref)
    if damage and _rebuild(store, ref, damage, out, plain=plain):
        damage = champion_damage(store, ref)
    lacking = champion_damage(store, ref, NEEDED)
    if lacking and recipe.retrain.start != "scratch":
        raise _damaged(ref, lacking)
    if lacking:
        print(f"champion    is damaged ({lacking[0]}): the new model has no rival", file=out)
        return None
    if damage:
        print(f"champion    cannot be served ({damage[0]}), and is compared all the same", file=out)
    champion = load_champion(store, ref)
    check_shape(recipe, champion)
    return champion


def _rebuild(store: Store, ref: Ref, damage: Sequence[str], out: TextIO, *, plain: bool) -> bool:
    """Run the champion's own recipe again where that gives the same bytes: an ordinary build, and nothing changed."""
    try:
        run = find_run(store.home, ref.note["run"])
        recipe = validated_recipe(run["recipe"])
        if run.get("pipeline") != BUILD.name or not all(map(_is_repair, make_plan(store, recipe, Options()))):
            return False
    except LlmillError:
        return False
    print(f"champion    is damaged ({damage[0]}): its recipe is run again\n", file=out, flush=True)
    execute(recipe, Options(), out, plain=plain)
    print(file=out)
    return True


def _is_repair(line: PlannedStage) -> bool:
    """Whether a stage's inputs, settings and code are as they were, so that its result will be."""
    return line.decision.will != "build" or line.decision.repairs


def _damaged(ref: Ref, damage: Sequence[str]) -> StoreError:
    return StoreError(
        f"the champion (run {ref.note['run']}) is damaged: {damage[0]}. It cannot be rebuilt, since its sources, code "
        "or settings have changed. Go back with `llmill rollback`, name another with `llmill promote RUN`, or train "
        "a new one with --set retrain.start=scratch"
    )


def described(ref: Ref) -> str:
    """A champion in a line."""
    return f"{ref.note['model']} {ref.artifact[:8]} of run {ref.note['run']}, since {when(ref.note['since'])}"


# The end --------------------------------------------------------------------------------------------------------


def _with_verdict(
    store: Store, pipeline: Pipeline, ref: Ref | None, champion: Champion | None, approve: Approve | None
) -> Pipeline:
    """The same pipeline, at whose end the champion, the one that `ref` names, is replaced or kept."""

    def at_end(results: Sequence[StageResult], data: dict[str, Any]) -> None:
        found = {result.stage: result for result in results}
        release = found["release"].artifact if "release" in found else None
        verdict = {
            "champion": ref.artifact if ref else None,
            "champion_run": ref.note["run"] if ref else None,
            "candidate": release.digest if release else None,
            **_decide(found, release, ref, champion),
        }
        if approve is not None and verdict["decision"] in PROMOTING and (declined := approve(verdict)):
            verdict |= {"decision": Decision.DECLINED, "reasons": [declined, *verdict["reasons"]]}
        if release is not None and verdict["decision"] in PROMOTING:
            promote(
                store,
                release,
                run=data["run"],
                by="retrain",
                reasons=verdict["reasons"],
                instead_of=ref.artifact if ref else None,
            )
        if votes := votes_so_far(store):
            verdict["votes"] = votes
        data["verdict"] = verdict  # not before the champion was replaced: that may be refused

    return replace(pipeline, at_end=at_end)


def _decide(
    found: Mapping[str, StageResult], release: Artifact | None, ref: Ref | None, champion: Champion | None
) -> dict[str, Any]:
    """Decision and reasons, with the compared figures where there was a comparison."""
    if release is None:
        return {"decision": Decision.NONE, "reasons": ["the run was set to end before the release"]}
    if "verdict" not in found:
        return {"decision": Decision.KEPT, "reasons": ["nothing new: the candidate is the champion itself"]}
    artifact = found["verdict"].artifact
    assert artifact is not None
    record: dict[str, Any] = json.loads((artifact["verdict"] / "verdict.json").read_bytes())
    return {
        "decision": _decision(record["promote"], ref, champion),
        **{name: value for name, value in record.items() if name != "promote"},
    }


def _decision(promote: bool, ref: Ref | None, champion: Champion | None) -> Decision:
    """What a verdict does to the champion: an intact one, a damaged one that only `ref` names, or none."""
    if champion is not None:
        return Decision.PROMOTED if promote else Decision.KEPT
    if ref is not None:
        return Decision.REPLACED if promote else Decision.SPARED
    return Decision.FIRST if promote else Decision.REFUSED
