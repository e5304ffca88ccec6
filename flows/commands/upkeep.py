"""The commands that keep a home in order: `llmill ui` and `verify`."""

import argparse
from typing import Any

from flows.commands.options import between


def add_commands(commands: Any) -> None:
    """Declare the commands of this module."""
    ui = commands.add_parser("ui", help="open the Prefect and MLflow pages of this home, until Ctrl-C")
    ui.add_argument("--prefect-port", type=between(1, 65535, int), default=4200, help="default: 4200")
    ui.add_argument("--mlflow-port", type=between(1, 65535, int), default=5000, help="default: 5000")
    ui.set_defaults(command=_ui)

    verify = commands.add_parser("verify", help="re-hash everything in the store")
    verify.set_defaults(command=_verify)


def _ui(options: argparse.Namespace) -> int:
    from flows.pages import serve_pages
    from storage.home import prepare_home

    serve_pages(prepare_home(), options.prefect_port, options.mlflow_port)
    return 0


def _verify(options: argparse.Namespace) -> int:
    from storage.home import home
    from storage.store import Store

    store = Store(home())
    damaged = artifacts = 0
    for digest in store.artifacts():
        artifacts += 1
        artifact = store.artifact(digest)
        wrong = store.artifact_damage(artifact, full=True) if artifact else ["manifest damaged"]
        for line in wrong:
            damaged += 1
            print(f"{artifact.stage if artifact else 'artifact'} {digest[:12]}: {line}")
    print(f"{artifacts} artifacts, {damaged} damaged parts" + (": the next run rebuilds them" if damaged else ""))
    return 1 if damaged else 0
