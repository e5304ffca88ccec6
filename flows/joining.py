"""`llmill join`: a machine that trains with others, for the run of one of them."""

import sys

from flows.build import Recipe
from flows.terminal.columns import for_stderr
from storage.home import prepare_home
from tasks.train.joined import take_part


def join(recipe: Recipe) -> int:
    """Take part in the trainings of the run at `execution.node_address` until it is over; returns its exit status."""
    prepare_home()
    return take_part(recipe.execution, lambda line: print(for_stderr(f"llmill: {line}"), file=sys.stderr, flush=True))
