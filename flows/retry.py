"""`llmill retry RUN`: go on with a run that did not end well. What it has built is reused, whoever goes on.

The retries of a stage within a run are in `tasks/engine/retries.py`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flows.build import BUILD, Recipe
from flows.champion.retrain_run import execute_retraining
from flows.recipe import validated_recipe
from flows.run import Execute, execute
from flows.tune.tune_run import NAME, execute_tuning, search_of
from storage.errors import ConfigError
from storage.runs import COMPLETED, REUSED, RUNNING, find_run, mark_dead_runs
from storage.store.shared import open_store
from tasks.engine.planner import Options


def unfinished_run(home: Path, reference: str) -> dict[str, Any]:
    """The run file of a run; raises ConfigError where there is nothing to go on with."""
    mark_dead_runs(home)
    open_store(home).sync_runs()
    run = find_run(home, reference)
    if run["status"] == RUNNING:
        raise ConfigError(f"run {run['run']}: is under way")
    if run["status"] in (COMPLETED, REUSED):
        raise ConfigError(f"run {run['run']}: {run['status']}, so nothing is left of it to do. `llmill run` starts one")
    return run


def hand_over(home: Path, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """Ask Prefect for another attempt of a deployment's run; None for a run that goes on in this process."""
    prefect = run.get("prefect", {})
    if not prefect.get("deployment"):
        return None
    from flows.prefect.servers import known_server

    server = known_server(home)
    if server is None:
        raise ConfigError(
            f"run {run['run']}: a worker is to go on with it, and no Prefect server is in reach. "
            "Start `llmill ui`, or go on here with --plain"
        )
    refused = server.retry(prefect["flow_run"])
    if refused:
        raise ConfigError(f"run {run['run']}: {refused}")
    return {"run": run["run"], "handed_to": server.ui, "url": prefect["url"], "workers": server.workers()}


def handed_text(handed: Mapping[str, Any]) -> str:
    """Who goes on with a run, and its address in Prefect's UI."""
    lines = [f"Prefect has {handed['run']} again; a worker goes on with it\n  {handed['url']}"]
    if not handed["workers"]:
        lines.append("no worker is online: start `llmill ui` or `llmill worker`")
    return "\n".join(lines)


def what_is_left(run: Mapping[str, Any]) -> tuple[Recipe, Options, Execute]:
    """The recipe of a run, its options, and how a run of its pipeline is carried out.

    What it was forced to build and has built is not built again.
    """
    recipe = validated_recipe(run["recipe"], f"run {run['run']}")
    return recipe, options_left(run["options"], [run]), _how(run)


def _how(run: Mapping[str, Any]) -> Execute:
    if run["pipeline"] == BUILD.name:
        return execute
    return partial(execute_tuning, **search_of(run)) if run["pipeline"] == NAME else execute_retraining


def options_left(options: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]]) -> Options:
    """Options for one more attempt: stages that an attempt has built are not forced again."""
    built = {row["stage"] for run in attempts for row in run["stages"] if row["outcome"] == "built"}
    force = frozenset(options.get("force", ())) - built
    return Options(options.get("to"), force, frozenset(options.get("keep", ())))
