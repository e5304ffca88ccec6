"""`llmill tune`: search over fields of a recipe."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from flows.cli.options import add_json_option, add_recipe, between


def add_commands(commands: Any) -> None:
    """Declare the command of this module."""
    tune = commands.add_parser(
        "tune",
        help="search for better settings; every trial is a run, reused like any other",
        description="Try other values in fields of the recipe, by the figure and over the ranges that a space file "
        "names. The first trial has the recipe's own settings. Each trial runs to the stage of the figure; what was "
        "built once is reused. The same command goes on with a search that was interrupted; started twice, both "
        "share its trials. The best recipe is written as a file that `llmill run` takes. See docs/tuning.md.",
    )
    add_recipe(tune)
    tune.add_argument("--space", type=Path, required=True, metavar="FILE", help="what is searched: a YAML file")
    tune.add_argument(
        "--trials",
        type=between(1, 10_000, int),
        default=20,
        metavar="N",
        help="trials in all, those of earlier calls counted; default: 20",
    )
    tune.add_argument(
        "--minutes",
        type=between(0.01, 525_600, float),
        metavar="M",
        help="end after so many minutes; the trial under way can go on later",
    )
    tune.add_argument("--plain", action="store_true", help="without Prefect and MLflow")
    add_json_option(tune, "one JSON object on stdout, all else on stderr")
    tune.set_defaults(command=_tune)


def _tune(options: argparse.Namespace) -> int:
    from flows.cli.run import carry_out
    from flows.recipe import load_recipe
    from flows.tune.space import load_space
    from flows.tune.tune_run import execute_tuning
    from tasks.engine.planner import Options

    recipe, space = load_recipe(options.recipe, options.set), load_space(options.space)
    search = partial(
        execute_tuning, space=space, trials=options.trials, minutes=options.minutes, where=str(options.space)
    )
    return carry_out(recipe, Options(), plain=options.plain, as_json=options.json, execute=search)
