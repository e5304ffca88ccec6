"""The commands that show what is inside: `llmill runs`, `report`, `diff`, `inspect`, `cat`, `explain`."""

import argparse
import json
import sys
from typing import Any

from flows.cli.options import add_json_option, between, home_store, print_json, say, show
from storage.runs import STATUSES

REFERENCES = "REF: RUN/STAGE, latest/STAGE or the start of a digest; /PART after it names one part, /FILE one file."


def add_commands(commands: Any) -> None:
    """Declare the commands of this module."""
    for add in (_add_runs, _add_report, _add_diff, _add_inspect, _add_cat, _add_explain):
        add(commands)


def _add_runs(commands: Any) -> None:
    runs = commands.add_parser(
        "runs",
        help="what ran: when, recipe, status, built and reused",
        description="What ran, the newest last: when, recipe, status, time, stages built of those reached, and the "
        "headline scores in bits per byte. Of a retraining its verdict too, and the scores are its candidate's. The "
        "four digits in front name a run to the other commands.",
    )
    runs.add_argument("--limit", type=between(1, 1_000_000, int), metavar="N", help="the newest N (default: all)")
    runs.add_argument(
        "--status",
        action="append",
        default=[],
        metavar="STATUS",
        help=f"only such runs; can be repeated: {', '.join(STATUSES)}",
    )
    runs.add_argument(
        "--recipe", action="append", default=[], metavar="NAME", help="only runs of this recipe; can be repeated"
    )
    add_json_option(runs, "one JSON list on stdout")
    runs.set_defaults(command=_runs)


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="write the HTML report of a run again and print its path",
        description="The report of a run, one HTML file beside its run file that opens offline: plan, documents, "
        "training, scores with their baselines, samples, time, digests. Every run ends with one; this writes it again.",
    )
    report.add_argument(
        "run", nargs="?", default="latest", metavar="RUN", help="a run, as `runs` shows it (default: latest)"
    )
    add_json_option(report)
    report.set_defaults(command=_report)


def _add_diff(commands: Any) -> None:
    diff = commands.add_parser(
        "diff",
        help="what changed between two runs: recipe, stages, scores",
        description="What changed between two runs: recipe, code and inputs of each stage, its figures, and the models "
        "compared item by item, with the paired difference of every score and its 95 % interval.",
    )
    for name in ("old", "new"):
        diff.add_argument(name, metavar="RUN", help=f"the {name} run: its name, its digits as `runs` shows, or latest")
    diff.add_argument("--model", metavar="MODEL", help="whose scores: tuned or base (default: tuned)")
    diff.add_argument(
        "--items", metavar="NAME", help="list the items of one score that changed most: cloze, answers/bits_per_byte"
    )
    diff.add_argument(
        "--limit",
        type=between(1, 1_000_000, int),
        default=10,
        metavar="N",
        help="list N items of a score (default: 10)",
    )
    add_json_option(diff)
    diff.set_defaults(command=_diff)


def _add_inspect(commands: Any) -> None:
    inspect = commands.add_parser(
        "inspect",
        help="an artifact: figures, first rows, what it was made from",
        description=f"An artifact or one part of it: figures, first rows, what it was made from. {REFERENCES}",
    )
    inspect.add_argument("reference", metavar="REF", help="such as latest/filter or latest/filter/ledger")
    add_json_option(inspect)
    inspect.set_defaults(command=_inspect)


def _add_cat(commands: Any) -> None:
    cat = commands.add_parser(
        "cat",
        help="the rows of an artifact as JSON lines",
        description="The rows of a part, one JSON value a line: documents, ledgers, items, scores; token shards as "
        f"text, weights as names and shapes. Without /PART the stage's first part. {REFERENCES}",
    )
    cat.add_argument("reference", metavar="REF", help="such as latest/filter/ledger")
    cat.add_argument("--limit", type=between(0, 10**15, int), metavar="N", help="at most N rows (default: all)")
    cat.add_argument("--ids", action="store_true", help="token shards as numbers instead of text")
    cat.add_argument("--json", action="store_true", help="one JSON list instead of lines")
    cat.set_defaults(command=_cat)


def _add_explain(commands: Any) -> None:
    explain = commands.add_parser(
        "explain",
        help="a document's way through all stages, and why",
        description="What every stage of a run has done with one document, and why: where it was collected, its twin, "
        "each rule with its value and threshold, redactions, its tokens, its scores. Of a pair, preference or labelled "
        "text too.",
    )
    explain.add_argument("run", metavar="REF", help="RUN or latest; with /STAGE: no further than this stage")
    explain.add_argument(
        "document",
        metavar="DOC",
        help="a document's id or the start of it, the id of its record, its title or URL; a pair's id or words of a "
        "question in it",
    )
    add_json_option(explain)
    explain.set_defaults(command=_explain)


def _runs(options: argparse.Namespace) -> int:
    from flows.inspect.runs import chosen_runs, runs_text
    from storage.home import home
    from storage.runs import damaged_runs, runs

    home_store().sync_runs()
    known = runs(home())
    for path in damaged_runs(home()):
        say(f"{path}: not a run file that this llmill can read: skipped", sys.stderr)
    chosen = chosen_runs(known, options.status, options.recipe, options.limit)
    if options.json:
        print_json(chosen)
    elif chosen:
        say(runs_text(chosen))
    else:
        print(f"none of {len(known)} runs matches" if known else "no run yet; start one with `llmill run`")
    return 0


def _report(options: argparse.Namespace) -> int:
    from flows.report.page import write_report
    from storage.runs import find_run

    store = home_store()
    store.sync_runs()
    run = find_run(store.home, options.run)
    path = write_report(store, run)
    show({"run": run["run"], "report": path}, lambda: str(path), options)
    return 0


def _diff(options: argparse.Namespace) -> int:
    from flows.inspect.diff import compare_runs, difference_text

    store = home_store()
    found = compare_runs(store, options.old, options.new, model=options.model, items=options.items, limit=options.limit)
    show(found, lambda: difference_text(found), options)
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from flows.inspect.artifact import describe, inspect_text

    description = describe(home_store(), options.reference)
    show(description, lambda: inspect_text(description), options)
    return 0


def _cat(options: argparse.Namespace) -> int:
    from itertools import islice

    from flows.inspect.rows import referenced_rows

    rows = islice(referenced_rows(home_store(), options.reference, ids=options.ids), options.limit)
    if options.json:
        print_json(list(rows))
        return 0
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))
    return 0


def _explain(options: argparse.Namespace) -> int:
    from flows.inspect.explain import explain
    from flows.inspect.explain_text import explain_text

    found = explain(home_store(), options.run, options.document)
    show(found, lambda: explain_text(found), options)
    return 0
