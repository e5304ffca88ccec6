"""`llmill datasheet`: the corpus of a run by itself, for those who use it or the model."""

import argparse
from pathlib import Path
from typing import Any

from flows.cli.options import add_json_option, home_store, show


def add_commands(commands: Any) -> None:
    """Declare the command of this module."""
    datasheet = commands.add_parser(
        "datasheet",
        help="write what a run's corpus is, from what and how it was made, as HTML and JSON",
        description="The datasheet of a run's corpus, after Gebru et al. 2021: one HTML file that opens offline and "
        "one JSON file. Sources, licences and languages; what each stage dropped and why, with ids and examples "
        "without personal data; personal data, duplicates and benchmarks found; mix, settings, versions, digests; and "
        "the questions that only a person can answer. Equal corpora give equal bytes.",
    )
    datasheet.add_argument(
        "run", nargs="?", default="latest", metavar="RUN", help="a run, as `runs` shows it (default: latest)"
    )
    where = datasheet.add_mutually_exclusive_group()
    where.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="a folder, or the .html or .json file: the other one goes beside it (default: in the home)",
    )
    where.add_argument(
        "--into",
        type=Path,
        metavar="FOLDER",
        help="a copy of the run's release, which gets it and its checksums; it is made where there is none",
    )
    add_json_option(datasheet)
    datasheet.set_defaults(command=_datasheet)


def _datasheet(options: argparse.Namespace) -> int:
    from flows.report.datasheet.sheet import datasheet, into_release, place_of, write_datasheet
    from storage.runs import find_run

    store = home_store()
    store.sync_runs()
    run = find_run(store.home, options.run)
    if options.into is not None:
        files = into_release(store, run, datasheet(store, run), options.into.expanduser())
    else:
        files = place_of(store, run, options.output.expanduser() if options.output else None)
        write_datasheet(datasheet(store, run), files)
    show({"run": run["run"], **files._asdict()}, lambda: "\n".join(map(str, files)), options)
    return 0
