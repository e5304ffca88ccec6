"""The commands that keep a home in order: `llmill verify`, `gc` and `doctor`."""

import argparse
from typing import Any

from flows.cli.options import add_json_option, between, home_store, show


def add_commands(commands: Any) -> None:
    """Declare the commands of this module."""
    verify = commands.add_parser(
        "verify",
        help="re-hash everything in the store; exit status 1 if damaged",
        description="Read every file of the store and compare its SHA-256. What is damaged is marked, so that the next "
        "run that needs it rebuilds it. Exit status 1 if anything is.",
    )
    add_json_option(verify)
    verify.set_defaults(command=_verify)

    gc = commands.add_parser(
        "gc",
        help="delete what nothing reaches",
        description="Delete what nothing reaches. Kept are: all that the last runs have made or reused, the newest "
        "completed run, runs under way and what they may resume, every release, and named references (the champion). "
        "Versions in the home's MLflow whose "
        "release is gone go too, with their files. Safe while runs go on. A shared store (LLMILL_STORE) is left "
        "as it is: only this home is cleared.",
    )
    gc.add_argument(
        "--keep-runs", type=between(0, 1_000_000, int), default=5, metavar="N", help="keep the last N runs (default: 5)"
    )
    gc.add_argument("--dry-run", action="store_true", help="only say what would go, and how many bytes of each stage")
    add_json_option(gc)
    gc.set_defaults(command=_gc)

    doctor = commands.add_parser(
        "doctor",
        help="is this machine ready? what is set? exit status 1 for a problem",
        description="Is this machine ready: Python, package versions, torch and device, memory, disk, locks, ports; "
        "and what is set. Each line is ok, a note or a problem with its fix. Asks the network only for a shared "
        "store that is set. Exit status 1 for a problem.",
    )
    add_json_option(doctor)
    doctor.set_defaults(command=_doctor)


def _verify(options: argparse.Namespace) -> int:
    from flows.maintain.verify import verify_store, verify_text

    result = verify_store(home_store())
    show(result, lambda: verify_text(result), options)
    return 1 if result["damaged"] else 0


def _gc(options: argparse.Namespace) -> int:
    from flows.champion.verdict import rejected_releases
    from flows.maintain.garbage import garbage_report, garbage_text
    from flows.mlflow.champion_aliases import forget_releases
    from storage.home import home
    from storage.runs import mark_dead_runs, runs
    from storage.store.garbage import collect_garbage
    from storage.store.local import Store

    store = Store(home())
    mark_dead_runs(store.home)
    rejected = rejected_releases(runs(store.home))
    found = collect_garbage(
        store,
        options.keep_runs,
        lambda artifact: artifact.stage == "release" and artifact.digest not in rejected,
        dry_run=options.dry_run,
    )
    forgotten, fault = forget_releases(store, found, dry_run=options.dry_run)
    report = garbage_report([*found, *forgotten], dry_run=options.dry_run) | ({"mlflow": fault} if fault else {})
    show(report, lambda: "\n".join([garbage_text(report), *filter(None, [fault])]), options)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from flows.maintain.doctor import doctor_report, doctor_text, examine

    findings = examine()
    report = doctor_report(findings)
    show(report, lambda: doctor_text(findings), options)
    return 1 if report["problems"] else 0
