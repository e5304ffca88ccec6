"""`llmill feedback`: what users of the model server have said."""

import argparse
from typing import Any

from flows.cli.options import add_json_option, add_recipe, show


def add_commands(commands: Any) -> None:
    """Declare the command of this module."""
    feedback = commands.add_parser(
        "feedback",
        help="what users have said of answers, and what is learned from it",
        description="What users of `llmill serve` have said: thumbs, corrections, votes; and what a retraining by "
        "RECIPE makes of it: pairs and preferences, what is held out, and what is left out and why.",
    )
    add_recipe(feedback)
    add_json_option(feedback)
    feedback.set_defaults(command=_feedback)


def _feedback(options: argparse.Namespace) -> int:
    from flows.feedback import feedback_state, feedback_text
    from flows.recipe import load_recipe

    found = feedback_state(load_recipe(options.recipe, options.set))
    show(found, lambda: feedback_text(found), options)
    return 0
