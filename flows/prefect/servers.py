"""Prefect's servers: the one that the user has set, the one that `llmill ui` runs, and the temporary one of a run."""

import atexit
import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from flows.prefect.database import VARIABLES as DATABASES
from flows.prefect.database import check_server_database, url_under_home
from storage.addresses import check_form, no_answer, redacted, without_credentials
from storage.errors import ConfigError, StoreError, refusal
from storage.files import locked, read_json
from storage.home import ensure_user_home, ui_file
from storage.runs import COMPLETED, FAILED, INTERRUPTED, attempts_of

VARIABLE = "PREFECT_API_URL"
UI_PORT = 4200
LOOPBACK = "127.0.0.1"
# uvicorn imports from the current folder first: it may have a flows.py
APP_FOLDER = Path(__file__).resolve().parents[2]
POOL = "llmill"  # the work pool that our workers serve
WORKER = ("prefect", "worker", "start", "--pool", POOL, "--type", "process", "--install-policy", "never")
TAG = "llmill"  # of every flow run of ours: what watches over runs on a shared server ignores others
HEARTBEAT, HEARTBEAT_SECONDS = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY", 30  # of a flow run; the least that Prefect takes
SILENCE_SECONDS = 3 * HEARTBEAT_SECONDS  # a run whose process is gone turns Crashed after so long
POLL_SECONDS = 2  # a worker asks so often for runs; Prefect's own 10 are long after a click
PASSWORD, USER = "LLMILL_UI_PASSWORD", "LLMILL_UI_USER"  # of the UIs that `llmill ui` serves
LEAST_PASSWORD = 8  # characters
CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
START_SECONDS = 120.0  # two runs that start at once on a busy machine need this much
SERVER_BYTES = 16 * 2**20  # free on the disk of the home: the databases of Prefect and MLflow begin with 3 MB


def prefect_environment(home: Path) -> None:
    """Set what Prefect reads at its first import: everything under the home, no analytics, the user's address kept.

    The user's profiles stay in force (they may hold the address and key of a server), but nothing is written there.
    """
    ensure_user_home()
    users = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or users / "profiles.toml")
    if profiles.is_file():
        os.environ["PREFECT_PROFILES_PATH"] = str(profiles)
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    temporary = home / "cache" / "temporary"  # of servers, workers and their runs; MLflow's lock files stay in it
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(temporary)
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ[HEARTBEAT] = str(HEARTBEAT_SECONDS)
    secret = credentials()
    if secret and not os.environ.get(VARIABLE):  # the server of the home's own UI, if one is up
        os.environ.setdefault("PREFECT_API_AUTH_STRING", secret)
    os.environ.setdefault(CONSOLE_LEVEL, "CRITICAL")  # its console lines repeat ours; the log in the UI stays


def credentials() -> str | None:
    """`NAME:PASSWORD` of the UIs, None where they are open; raises ConfigError for a password that is too short."""
    password = os.environ.get(PASSWORD)
    if not password:
        return None
    name = os.environ.get(USER) or "llmill"
    if len(password) < LEAST_PASSWORD or ":" in name:
        raise ConfigError(f"{PASSWORD}: at least {LEAST_PASSWORD} characters, and no colon in {USER}")
    return f"{name}:{password}"


@dataclass(frozen=True, slots=True)
class Server:
    """A Prefect server in reach. `ui` is the address of its UI, or will be once `llmill ui` runs."""

    api: str
    ui: str

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A client of this server: where no address is set, Prefect's own would start a server of its own, whose
        events nobody hears."""
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: self.api}), get_client(sync_client=True) as client:
            yield client

    def rename(self, flow_run: str, name: str) -> None:
        """Give a flow run a name of ours in place of the one that Prefect made up."""
        with self.client() as client:
            client.update_flow_run(UUID(flow_run), name=name)

    def tag(self, flow_run: str, tags: Sequence[str]) -> None:
        """Give a flow run these tags in place of those that it has."""
        with self.client() as client:
            client.update_flow_run(UUID(flow_run), tags=tags)

    def retry(self, flow_run: str) -> str | None:
        """Schedule a flow run that has ended for another attempt; returns why that cannot be, or None."""
        from prefect.exceptions import ObjectNotFound
        from prefect.states import AwaitingRetry

        with self.client() as client:
            try:
                state = client.read_flow_run(UUID(flow_run)).state
            except ObjectNotFound:
                return f"the server at {self.ui} does not know its flow run"
            if state is not None and not state.is_final():
                return f"its flow run is {state.name}"
            again: Any = AwaitingRetry(message="Retried from the command line.")
            client.set_flow_run_state(UUID(flow_run), again, force=True)
        return None

    def workers(self) -> int:
        """How many workers of our pool are online."""
        from prefect.exceptions import ObjectNotFound

        with self.client() as client:
            try:
                return sum(worker.status == "ONLINE" for worker in client.read_workers_for_work_pool(POOL))
            except ObjectNotFound:
                return 0

    def failure(self, error: BaseException) -> StoreError | None:
        """The error for the user where this server or its database is gone; None for any other error."""
        import httpx

        lost = isinstance(error, httpx.TransportError)
        if isinstance(error, httpx.HTTPStatusError):
            lost = error.response.status_code >= 500
        if not lost:
            return None
        return StoreError(
            f"Prefect's server at {self.api} does not work any more ({type(error).__name__}): it is gone, or its "
            "database. What was built is stored. Restart it and run the same command again, or add --plain"
        )

    def close_dead(self, home: Path, dead: Mapping[str, Any]) -> None:
        """Set the end of a run that could not set it itself, unless a later attempt continues its flow run."""
        from prefect.context import FlowRunContext
        from prefect.exceptions import ObjectNotFound
        from prefect.states import Cancelled, Completed, Crashed, Failed

        ends: dict[str, Any] = {COMPLETED: Completed, FAILED: Failed, INTERRUPTED: Cancelled}
        flow_run, context = dead.get("prefect", {}).get("flow_run"), FlowRunContext.get()
        ours = str(context.flow_run.id) if context is not None and context.flow_run is not None else None
        if flow_run in (None, ours) or attempts_of(home, flow_run)[-1]["run"] != dead["run"]:
            return
        with self.client() as client:
            try:
                state = client.read_flow_run(UUID(flow_run)).state
            except ObjectNotFound:
                return
            if state is None or not state.is_final():
                ended = ends.get(dead["status"])
                if ended is None:
                    end: Any = Crashed(message="The process of this run is gone.")
                else:
                    end = ended(message=f"It ended as {dead['status']}, while the server could not be reached.")
                client.set_flow_run_state(UUID(flow_run), end, force=True)


@contextmanager
def prefect_server(home: Path) -> Iterator[Server]:
    """The server that the user has set, or the one that `llmill ui` runs on this home, or a temporary one."""
    server = known_server(home)
    if server is None:
        server = Server(f"{temporary_server(home)}/api", f"http://127.0.0.1:{UI_PORT}")
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: server.api}):
        yield server


def known_server(home: Path) -> Server | None:
    """The server that the user has set, or the one that `llmill ui` runs on this home.

    Raises ConfigError for one that does not answer, or does not let us in.
    """
    prefect_environment(home)
    if os.environ.get(VARIABLE):
        check_form(VARIABLE, os.environ[VARIABLE], ("http", "https"))  # Prefect's import fails on a malformed one
    from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL

    address = PREFECT_API_URL.value()
    if not address:
        running = running_server(home)
        return (
            _open(Server(f"{running}/api", running), f"{PASSWORD} is not the one of `llmill ui`") if running else None
        )
    silence = no_answer(address)
    if silence:
        raise ConfigError(
            f"{VARIABLE} (of the environment or of a Prefect profile): {silence}. "
            "Start the server, unset the address to use a temporary one, or run with --plain"
        )
    ui = without_credentials(PREFECT_UI_URL.value() or address.removesuffix("/api"))
    return _open(Server(address, ui), "set PREFECT_API_AUTH_STRING=NAME:PASSWORD, or PREFECT_API_KEY")


def _open(server: Server, otherwise: str) -> Server:
    """The server, if it lets us in; ConfigError that says what to do `otherwise`."""
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    with server.client() as client:
        try:
            with suppress(httpx.TransportError):  # a server that is gone by now is reported when it is used
                client.hello()
        except PrefectHTTPStatusError as error:
            if error.response.status_code in (401, 403):
                refusal_text = f"refuses us ({error.response.status_code}): {otherwise}"
                raise ConfigError(f"the Prefect server at {redacted(server.api)} {refusal_text}") from None
    return server


def temporary_server(home: Path) -> str:
    """Run a Prefect server on the home's database for as long as this process lives; returns its address.

    It is stopped at exit, after Prefect's threads have sent their last logs and events: without a server they would
    try for more than a minute. However this process dies, the server dies with it.
    """
    if shutil.disk_usage(home).free < SERVER_BYTES:  # it would not say so, but try for two minutes
        raise refusal(OSError(errno.ENOSPC, ""), home) or StoreError(f"{home}: full")
    check_server_database()
    with locked(home / "prefect" / "start.lock"):  # two servers must not migrate one new database at once
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        log = home / "prefect" / "server.log"
        process = start_server(home, port, log, ui=False)
        atexit.register(stop, process)
        wait_healthy(f"{url}/api/health", process, log, START_SECONDS)
    return url


def start_server(home: Path, port: int, log: Path, *, ui: bool, host: str = LOOPBACK) -> "subprocess.Popen[bytes]":
    """Start a Prefect server as a child that ends itself when this process is gone."""
    environment = {**os.environ, "PREFECT_UI_ENABLED": "1" if ui else "0", "PYTHONSAFEPATH": "1"}
    environment["PREFECT_UI_API_URL"] = f"http://{LOOPBACK}:{port}/api" if host == LOOPBACK else "/api"
    if ui and (secret := credentials()):
        environment["PREFECT_SERVER_API_AUTH_STRING"] = secret
    own_database = url_under_home(home)
    if own_database:
        environment[DATABASES[0]] = own_database
    for name in ("PREFECT_API_URL", CONSOLE_LEVEL):
        environment.pop(name, None)
    if not ui:
        environment |= {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    environment |= {"PREFECT_SERVER_UI_V2_ENABLED": "false", "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false"}
    application = ["uvicorn", "--factory", "flows.prefect.server_app:create_app", "--app-dir", str(APP_FOLDER)]
    application += ["--lifespan", "on"]
    return start_child([*application, "--host", host, "--port", str(port), "--log-level", "warning"], log, environment)


def worker_environment(api: str) -> dict[str, str]:
    """What a worker, and each flow run that it starts, finds in its environment. The home is there already."""
    environment = {**os.environ, "PREFECT_API_URL": api, "PYTHONSAFEPATH": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    environment.setdefault("PREFECT_WORKER_QUERY_SECONDS", str(POLL_SECONDS))
    return environment


def worker_folder(home: Path) -> Path:
    """Where a worker starts: to report a cancelled run it imports the flow, from the current folder first.

    In the user's own one that could be a `flows.py` of the user's.
    """
    folder = home / "prefect"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def start_child(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path | None = None
) -> "subprocess.Popen[bytes]":
    """Run `python -m ARGUMENTS` in its own process group, dying with this process; output goes to a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "storage.processes", str(os.getpid()), *arguments],
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path, seconds: float) -> None:
    """Wait until a server answers; raises StoreError with the end of its log where it does not."""
    import httpx

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=5.0).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    how = "ended while it was starting" if process.poll() is not None else f"did not start within {seconds:.0f} s"
    raise StoreError(f"the server at {url} {how}. End of {log}:\n{tail(log)}")


def tail(log: Path) -> str:
    """The last 1,500 characters of a log, without secrets; empty where there is no log."""
    return redacted(log.read_text(errors="replace")[-1500:]) if log.exists() else ""


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a child: SIGTERM first, then SIGKILL."""
    process.terminate()
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def running_server(home: Path) -> str | None:
    """The address of the server that `llmill ui` runs on this home, if it answers."""
    import httpx

    address = (read_json(ui_file(home)) or {}).get("prefect")
    if not address:
        return None
    try:
        return address if httpx.get(f"{address}/api/health", timeout=2.0).status_code == 200 else None
    except httpx.HTTPError:
        return None
