"""`llmill run`, `llmill join` and `llmill plan`."""

import argparse
import sys
import traceback
from functools import partial
from typing import Any, TextIO

from flows.cli.options import add_recipe, add_recipe_options, home_store, print_json, recipe_and_options, show
from flows.terminal.columns import Folding
from storage.errors import LlmillError


def add_commands(commands: Any) -> None:
    """Declare the commands of this module."""
    run = commands.add_parser("run", help="build what cannot be reused, from sources to a released model")
    add_recipe_options(run)
    run.add_argument("--plain", action="store_true", help="without Prefect and MLflow")
    run.set_defaults(command=_run)

    join = commands.add_parser(
        "join",
        help="train on this machine too, for a run elsewhere (execution.nodes)",
        description="Take part in the trainings of a run on another machine, at execution.node_address of the recipe, "
        "until it is over. Takes the recipe and settings of that `llmill run`, and its home. See docs/scale.md.",
    )
    add_recipe(join)
    join.set_defaults(command=_join)

    plan = commands.add_parser("plan", help="what a run would do, why and how long; runs nothing")
    add_recipe_options(plan)
    plan.add_argument("--retrain", action="store_true", help="what `llmill retrain` would do")
    plan.set_defaults(command=_plan)


def _run(options: argparse.Namespace) -> int:
    recipe, run_options = recipe_and_options(options)
    return carry_out(recipe, run_options, plain=options.plain, as_json=options.json)


def carry_out(recipe: Any, options: Any, *, plain: bool, as_json: bool, execute: Any = None) -> int:
    """A run in this process; returns the exit status, and raises what the user can fix.

    `execute` carries it out; by default it is a run of the flow in `flows/build.py`.
    """
    from flows.build import building
    from flows.run import execute as run
    from flows.terminal.live import Unbroken

    out: TextIO = Folding(sys.stderr if as_json else Unbroken(sys.stdout))  # type: ignore[assignment,arg-type]
    report, error = (execute or partial(run, pipeline=building(recipe)))(recipe, options, out, plain=plain)
    if as_json:
        print_json(report)
        if isinstance(error, LlmillError):
            error.reported = True
    if isinstance(error, LlmillError | KeyboardInterrupt | SyntaxError):
        raise error
    if error is not None:
        traceback.print_exception(error)
        return 1
    return 0


def _join(options: argparse.Namespace) -> int:
    from flows.joining import join
    from flows.recipe import load_recipe

    return join(load_recipe(options.recipe, options.set))


def _plan(options: argparse.Namespace) -> int:
    from flows.terminal.plan_text import notice_lines, plan_text

    recipe, run_options = recipe_and_options(options)
    if options.retrain:
        from flows.champion.retrain_run import plan_retraining as make_plan
    else:
        from flows.plan import make_plan
    plan = make_plan(home_store(), recipe, run_options)
    show(
        {"stages": [line.record() for line in plan]}, lambda: "\n".join([plan_text(plan), *notice_lines(plan)]), options
    )
    return 0
