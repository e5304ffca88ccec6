"""`llmill ui`: the Prefect and MLflow UIs of a home and a worker, until Ctrl-C, leaving nothing behind.

On another address than the loopback they are behind a name and a password, or not served.
"""

import os
import shlex
import signal
import sys
import time
from pathlib import Path

from flows.mlflow.place import (
    VARIABLE,
    artifact_root,
    check_tracking_uri,
    experiment_page,
    prepare_database,
    silence_mlflow,
    tracking_uri,
)
from flows.prefect.database import check_server_database
from flows.prefect.servers import (
    APP_FOLDER,
    LOOPBACK,
    PASSWORD,
    START_SECONDS,
    WORKER,
    Server,
    credentials,
    prefect_environment,
    start_child,
    start_server,
    stop,
    tail,
    wait_healthy,
    worker_environment,
    worker_folder,
)
from storage.addresses import check_free
from storage.errors import ConfigError, StoreError
from storage.files import locked, write_json
from storage.home import ui_file
from storage.runs import mark_dead_runs

WORKER_SECONDS = 15.0  # a worker that dies sooner would die again


def serve_ui(home: Path, prefect_port: int, mlflow_port: int, host: str) -> None:
    """Start both servers and a worker, print the addresses, wait; raises ConfigError for a port that is in use."""
    host = LOOPBACK if host == "localhost" else host
    if host != LOOPBACK and credentials() is None:
        raise ConfigError(
            f"--host {host}: anyone who can reach these UIs can run code here. Set {PASSWORD} (and LLMILL_UI_USER, by "
            "default llmill), which both will ask for, or reach them through `ssh -L 4200:127.0.0.1:4200`"
        )
    if tracking_uri(home).startswith("http"):
        raise ConfigError(
            "MLFLOW_TRACKING_URI names a server of your own: its UI is there. Unset it to see the one of this home"
        )
    if prefect_port == mlflow_port:
        raise ConfigError(f"--prefect-port and --mlflow-port are both {mlflow_port}: give each a port of its own")
    for name, port in (("--prefect-port", prefect_port), ("--mlflow-port", mlflow_port)):
        check_free(name, host, port)
    prefect_environment(home)
    check_server_database()
    silence = check_tracking_uri(home)
    if silence:
        raise ConfigError(f"{VARIABLE}: {silence}. Start the database, or unset it to see the UI of this home")
    silence_mlflow()
    processes = []
    worker = None
    try:
        prefect_log, mlflow_log = home / "prefect" / "ui.log", home / "mlflow" / "ui.log"
        worker_log = home / "prefect" / "worker.log"
        _say("starting Prefect's server and MLflow's: 10 to 30 s (the first time they make\ntheir databases)")
        with locked(home / "prefect" / "start.lock"):
            prefect = start_server(home, prefect_port, prefect_log, ui=True, host=host)
            processes.append(prefect)
            mlflow = _start_mlflow(home, host, mlflow_port, mlflow_log)
            processes.append(mlflow)
            reached = LOOPBACK if host == "0.0.0.0" else host
            prefect_url, mlflow_url = f"http://{reached}:{prefect_port}", f"http://{reached}:{mlflow_port}"
            wait_healthy(f"{prefect_url}/api/health", prefect, prefect_log, START_SECONDS)
            _say("Prefect answers; waiting for MLflow")
            wait_healthy(f"{mlflow_url}/health", mlflow, mlflow_log, START_SECONDS)
        write_json(ui_file(home), {"prefect": prefect_url, "mlflow": mlflow_url, "process": os.getpid()})
        server = Server(f"{prefect_url}/api", prefect_url)
        for crashed in mark_dead_runs(home):
            server.close_dead(home, crashed)
        worker = _Worker(server, worker_log, worker_folder(home))
        runs_url = experiment_page(home, mlflow_url)
        print(f"Prefect  {prefect_url}\nMLflow   {runs_url}\nWorker   {worker_log}", flush=True)
        print(f"For Prefect's own commands:  export PREFECT_API_URL={prefect_url}/api", flush=True)
        print("Forms and schedules come with `llmill deploy`, once. Ctrl-C ends all three", flush=True)
        while all(process.poll() is None for process in processes):
            worker.keep_alive()
            time.sleep(0.5)
        raise StoreError(f"a server ended by itself; see {prefect_log} and {mlflow_log}")
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ui_file(home).unlink(missing_ok=True)
        for process in [*([worker.process] if worker else []), *processes]:
            stop(process)


class _Worker:
    """The worker beside the servers; one that dies is replaced, and its runs turn Crashed and can be retried."""

    def __init__(self, server: Server, log: Path, folder: Path) -> None:
        self._environment, self._log, self._folder = worker_environment(server.api), log, folder
        self._start()

    def _start(self) -> None:
        self.process = start_child(WORKER, self._log, self._environment, self._folder)
        self._started = time.monotonic()

    def keep_alive(self) -> None:
        """Start another where the last has died; raises StoreError for one that does not come up."""
        status = self.process.poll()
        if status is None:
            return
        if time.monotonic() - self._started < WORKER_SECONDS:
            raise StoreError(f"the worker ended at once, with status {status}. End of {self._log}:\n{tail(self._log)}")
        print(f"the worker ended by itself (status {status}); another one starts", flush=True)
        self._start()


def _start_mlflow(home: Path, host: str, port: int, log: Path):  # type: ignore[no-untyped-def]
    prepare_database(home)
    arguments = ["mlflow", "server", "--workers", "1", "--default-artifact-root", str(artifact_root(home))]
    arguments += ["--host", host, "--port", str(port)]
    if credentials():
        arguments += ["--app-name", "llmill", "--uvicorn-opts", f"--app-dir {shlex.quote(str(APP_FOLDER))}"]
    if host != LOOPBACK:  # they may be reached under any name of this machine; each request needs the password
        arguments += ["--allowed-hosts", "*"]
    return start_child(arguments, log, {**os.environ, "MLFLOW_BACKEND_STORE_URI": tracking_uri(home)})


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
