"""The commands that look inside: `llmill runs` and `inspect`."""

import argparse
from typing import Any

from flows.commands.options import add_json_option, print_json


def add_commands(commands: Any) -> None:
    """Declare the commands of this module."""
    runs = commands.add_parser("runs", help="what ran: when, recipe, status, built and reused")
    add_json_option(runs, "one JSON list on stdout")
    runs.set_defaults(command=_runs)

    inspect = commands.add_parser("inspect", help="an artifact: summary, parts, lineage")
    inspect.add_argument("reference", metavar="REF", help="a digest's start, RUN/STAGE or latest/STAGE")
    add_json_option(inspect)
    inspect.set_defaults(command=_inspect)


def _runs(options: argparse.Namespace) -> int:
    from flows.text import runs_text
    from storage.home import home
    from storage.runs import runs

    known = runs(home())
    if options.json:
        print_json(known)
    else:
        print(runs_text(known))
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from flows.references import describe_reference
    from flows.text import inspect_text
    from storage.home import home
    from storage.store import Store

    description = describe_reference(Store(home()), options.reference)
    if options.json:
        print_json(description)
    else:
        print(inspect_text(description))
    return 0
