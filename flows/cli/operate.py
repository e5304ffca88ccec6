"""The commands of an operator: `llmill ui`, `worker`, `deploy` and `retry`."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from flows.cli.options import add_json_option, add_recipe, between, show
from storage.errors import ConfigError


def add_commands(commands: Any) -> None:
    """Declare the commands of this module."""
    ui = commands.add_parser("ui", help="serve the Prefect and MLflow UIs of this home, and a worker, until Ctrl-C")
    ui.add_argument("--prefect-port", type=between(1, 65535, int), default=4200, help="default: 4200")
    ui.add_argument("--mlflow-port", type=between(1, 65535, int), default=5000, help="default: 5000")
    ui.add_argument(
        "--host", default="127.0.0.1", help="address to serve at; any but the loopback needs LLMILL_UI_PASSWORD"
    )
    ui.set_defaults(command=_ui)

    worker = commands.add_parser(
        "worker",
        help="a worker for deployments' runs, until Ctrl-C; `ui` starts one of its own",
        description="Take runs of deployments from the Prefect server that PREFECT_API_URL names (or that `llmill ui` "
        "serves on this home) and carry them out here, on this home.",
    )
    worker.add_argument(
        "--health-port",
        type=between(1, 65535, int),
        metavar="PORT",
        help="answer GET /health there while it asks for runs (on the loopback, or on PREFECT_WORKER_WEBSERVER_HOST)",
    )
    worker.set_defaults(command=_worker)

    deploy = commands.add_parser(
        "deploy",
        help="set up deployments: the form in Prefect's UI, and the schedule",
        description="Set up, or renew, the work pool, the deployments of a file and the automation that marks our runs "
        "whose process is gone as Crashed; schedules that the file does not have are removed. RECIPE is what the forms "
        "begin with, --set their settings; a recipe file is kept in the home under its name. Can be repeated safely.",
    )
    add_recipe(deploy)
    deploy.add_argument("--file", type=Path, metavar="FILE", help="deployments; default: the prefect.yaml that ships")
    add_json_option(deploy)
    deploy.set_defaults(command=_deploy)

    retry = commands.add_parser(
        "retry",
        help="continue a run that did not end well",
        description="Run again what is left of a run: what it has built is reused. A run of a deployment is handed to "
        "Prefect, and a worker continues it; any other continues here.",
    )
    retry.add_argument("run", metavar="RUN", help="its name, or the digits at its end")
    retry.add_argument("--plain", action="store_true", help="without Prefect and MLflow")
    add_json_option(retry, "one JSON object on stdout, all else on stderr")
    retry.set_defaults(command=_retry)


def _ui(options: argparse.Namespace) -> int:
    from flows.prefect.ui import serve_ui
    from storage.home import prepare_home

    serve_ui(prepare_home(), options.prefect_port, options.mlflow_port, options.host)
    return 0


def _worker(options: argparse.Namespace) -> NoReturn:
    from flows.prefect.servers import WORKER, known_server, worker_environment, worker_folder
    from storage.home import prepare_home

    home = prepare_home()
    server = known_server(home)
    if server is None:
        raise ConfigError("no Prefect server in reach: set PREFECT_API_URL, or start `llmill ui` (it has a worker)")
    print(f"worker for {server.ui}; Ctrl-C ends it", flush=True)
    os.chdir(worker_folder(home))
    environment = worker_environment(server.api)
    command = [sys.executable, "-P", "-m", *WORKER]
    if options.health_port is not None:
        command.append("--with-healthcheck")
        environment["PREFECT_WORKER_WEBSERVER_PORT"] = str(options.health_port)
        environment.setdefault("PREFECT_WORKER_WEBSERVER_HOST", "127.0.0.1")  # Prefect's own is every interface
    os.execve(sys.executable, command, environment)


def _deploy(options: argparse.Namespace) -> int:
    from flows.prefect.deployments import SHIPPED, deploy, deployments_text, read_deployments
    from flows.prefect.servers import prefect_server
    from flows.recipe import known_recipes, load_recipe, named_recipe, save_recipe
    from storage.home import prepare_home
    from storage.store.shared import open_store

    home, name = prepare_home(), options.recipe
    store = open_store(home)
    deployments = read_deployments(options.file or SHIPPED)
    store.sync_recipes()
    if name not in known_recipes():
        path = save_recipe(load_recipe(name))
        store.share_recipe(path)
        name = path.stem
        print(f"the recipe {name!r} is saved: {path}", file=sys.stderr)
    recipe = named_recipe(name, options.set)
    with prefect_server(home) as server:
        rows = deploy(server, deployments, recipe, options.set)
    show({"deployments": rows}, lambda: deployments_text(rows), options)
    return 0


def _retry(options: argparse.Namespace) -> int:
    from flows.cli.run import carry_out
    from flows.retry import hand_over, handed_text, unfinished_run, what_is_left
    from storage.home import prepare_home

    home = prepare_home()
    run = unfinished_run(home, options.run)
    handed = None if options.plain else hand_over(home, run)
    if handed is not None:
        show(handed, lambda: handed_text(handed), options)
        return 0
    recipe, run_options, execute = what_is_left(run)
    return carry_out(recipe, run_options, plain=options.plain, as_json=options.json, execute=execute)
