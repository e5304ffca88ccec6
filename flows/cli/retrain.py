"""`llmill retrain`, and the champion by hand: `llmill champion`, `promote`, `rollback`."""

import argparse
from functools import partial
from typing import Any

from flows.cli.options import add_json_option, add_recipe_options, home_store, recipe_and_options, show


def add_commands(commands: Any) -> None:
    """Declare the commands of this module."""
    retrain = commands.add_parser(
        "retrain",
        help="go on from the champion on new text; promote what is better",
        description="Collect again, reuse what did not change, go on from the champion's weights on new and old text "
        "(or from scratch: retrain.start), evaluate both models on the same items, and promote the new one only if "
        "its bits per byte are better beyond the paired interval and no guard is worse beyond its own. Without a "
        "champion the model is trained from scratch and becomes the champion if it is sound. `plan --retrain` shows "
        "what would be done.",
    )
    add_recipe_options(retrain)
    retrain.add_argument("--plain", action="store_true", help="without Prefect and MLflow")
    retrain.add_argument(
        "--only-if-new", action="store_true", help="no run where the last retraining has seen all of it"
    )
    retrain.set_defaults(command=_retrain)

    champion = commands.add_parser(
        "champion",
        help="which model is the champion, since when, and why",
        description="The champion and the one before it, why they became it, and whether MLflow's aliases `champion` "
        "and `previous` say the same. Exit status 1 where they disagree or the champion is damaged.",
    )
    champion.add_argument("--fix", action="store_true", help="set MLflow's aliases to what the store says")
    add_json_option(champion)
    champion.set_defaults(command=_champion)

    promote = commands.add_parser(
        "promote",
        help="make a release the champion by hand",
        description="Make the release of a run, or the one of a digest, the champion; the champion becomes previous.",
    )
    promote.add_argument("release", metavar="RUN|DIGEST", help="a run (latest, or as `runs` shows it), or a digest")
    add_json_option(promote)
    promote.set_defaults(command=_promote)

    rollback = commands.add_parser(
        "rollback",
        help="make the previous champion the champion again",
        description="Swap the champion and the previous one; a second rollback takes the first back.",
    )
    add_json_option(rollback)
    rollback.set_defaults(command=_rollback)


def _retrain(options: argparse.Namespace) -> int:
    from flows.champion.retrain_run import execute_retraining
    from flows.cli.run import carry_out

    recipe, run_options = recipe_and_options(options)
    retrain = partial(execute_retraining, only_if_new=options.only_if_new)
    return carry_out(recipe, run_options, plain=options.plain, as_json=options.json, execute=retrain)


def _champion(options: argparse.Namespace) -> int:
    from flows.champion.show import champion_state, champion_text
    from flows.mlflow.champion_aliases import compare_with_mlflow

    store = home_store()
    found = champion_state(store) | {"mlflow": compare_with_mlflow(store, fix=options.fix)}
    show(found, lambda: champion_text(found), options)
    return 1 if found["damage"] or found["mlflow"]["disagreements"] else 0


def _promote(options: argparse.Namespace) -> int:
    from flows.champion.champion import find_release, promote

    store = home_store()
    with store.unswept():
        release, run = find_release(store, options.release)
        changed = promote(store, release, run=run, by="hand", reasons=["promoted by hand"])
    return _show_change(store, changed, options)


def _rollback(options: argparse.Namespace) -> int:
    from flows.champion.champion import rollback

    store = home_store()
    rollback(store)
    return _show_change(store, True, options)


def _show_change(store: Any, changed: bool, options: argparse.Namespace) -> int:
    """What is the champion now; MLflow's aliases follow where MLflow is in use."""
    from flows.champion.show import champion_state, champion_text
    from flows.mlflow.champion_aliases import compare_with_mlflow

    found = {"changed": changed, **champion_state(store), "mlflow": compare_with_mlflow(store, fix=changed)}
    head = "" if changed else "it is the champion already\n"
    show(found, lambda: head + champion_text(found), options)
    return 0
