"""`llmill votes`: models ranked by the votes of people who saw two answers side by side."""

import argparse
from typing import Any

from flows.cli.keys import date_option, since_date
from flows.cli.options import add_json_option, home_store, print_json


def add_commands(commands: Any) -> None:
    """Declare the command of this module."""
    votes = commands.add_parser("votes", help="models ranked by people's votes between two answers, with intervals")
    date_option(votes)
    add_json_option(votes)
    votes.set_defaults(command=_votes)


def _votes(options: argparse.Namespace) -> int:
    from flows.votes import champion_digest, ranking, ranking_json, ranking_text
    from storage.feedback import open_feedback

    store = home_store()
    ranked = ranking(open_feedback(store.home), since_date(options.since))
    champion = champion_digest(store)
    if options.json:
        print_json(ranking_json(ranked, champion))
    elif not ranked.standings:
        since = f"since {options.since}" if options.since else "yet"
        print(f"no votes {since}: `llmill serve --beside REF` has people compare two models on its page")
    else:
        print(ranking_text(ranked, champion))
    return 0
