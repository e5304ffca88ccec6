"""Where MLflow's records go: a database under the home, or the address that the user has set.

Nothing here imports mlflow, which takes seconds, except what says so.
"""

import importlib
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from flows.mlflow.moved import ARTIFACTS, follow_home
from storage.addresses import check_form, no_answer
from storage.files import locked
from storage.home import ensure_user_home
from storage.postgres import check_database, check_driver, is_postgres, sqlite_url

VARIABLE = "MLFLOW_TRACKING_URI"
ARTIFACTS_VARIABLE = "MLFLOW_DEFAULT_ARTIFACT_ROOT"  # as `mlflow server` calls it
UI_VARIABLE = "LLMILL_MLFLOW_UI"  # where a browser finds the UI of a server that has another name inside
EXPERIMENT = "llmill"
TRAINING_VIEW = "?workflowType=machine_learning"  # of MLflow's UI; without it the UI opens its view of traces
# A server that goes away while a run is under way: a call is given up after this, not after MLflow's own minutes.
REQUEST_SECONDS, REQUEST_RETRIES = 10, 1


def tracking_uri(home: Path) -> str:
    """The address that the user has set, or a database under the home."""
    return os.environ.get(VARIABLE) or sqlite_url(_database(home))


def _database(home: Path) -> Path:
    return home / "mlflow" / "mlflow.db"


def is_own(home: Path) -> bool:
    """Whether records go to the database under the home."""
    return tracking_uri(home) == sqlite_url(_database(home))


def artifact_root(home: Path) -> str | None:
    """Where the artifacts of MLflow runs are kept; None where its server decides."""
    if tracking_uri(home).startswith("http"):
        return None
    return os.environ.get(ARTIFACTS_VARIABLE) or (home / ARTIFACTS).as_uri()


def prepare_database(home: Path) -> None:
    """Make the database under the home, where records go there and there is none; one that is there follows its home.

    MLflow makes its tables in a hundred steps that are not one transaction: a process that is killed among them leaves
    a file that no later one can use. So the file gets its name when it is whole. Imports mlflow where there is work.
    """
    path = _database(home)
    if not is_own(home):
        return
    if path.exists():
        follow_home(path, home, EXPERIMENT)
        return
    silence_mlflow()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with locked(path.with_suffix(".lock")):
        if path.exists():  # another run was faster
            return
        unfinished = path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        SqlAlchemyStore(sqlite_url(unfinished), artifact_root(home)).engine.dispose()
        unfinished.rename(path)


def own_models(home: Path) -> Path | None:
    """The folder of the logged models under the home, where there are any and records go to the home's own database."""
    folder = home / ARTIFACTS / "models"
    return folder if is_own(home) and _database(home).exists() and folder.is_dir() and any(folder.iterdir()) else None


def own_client(home: Path) -> Any:
    """A client of the database under the home. Imports mlflow."""
    silence_mlflow()
    import mlflow

    return mlflow.MlflowClient(sqlite_url(_database(home)))


def check_tracking_uri(home: Path) -> str | None:
    """Why nobody answers at the tracking address, None where it can be used.

    Raises ConfigError for what is not an address, and for a database that is there and does not let us in.
    """
    uri = tracking_uri(home)
    check_form(VARIABLE, uri)
    if is_postgres(uri):
        check_driver(VARIABLE, uri)
    silence = no_answer(uri)
    if silence is None and is_postgres(uri):
        check_database(VARIABLE, uri)
    return silence


def silence_mlflow() -> None:
    """No analytics leave the machine, no call hangs; must be called before mlflow is imported."""
    ensure_user_home()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_SECONDS))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(REQUEST_RETRIES))
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # we report ourselves what was not recorded
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # stdout is ours: `--json`
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


def import_meanwhile() -> None:
    """Begin to import mlflow, which takes seconds, while something else is waited for."""
    silence_mlflow()
    threading.Thread(target=importlib.import_module, args=("mlflow",), name="import-mlflow", daemon=True).start()


def experiment_page(home: Path, ui: str) -> str:
    """The page with the table of all runs, in the view that shows training; `ui` is the address of MLflow's UI."""
    found = None
    if is_own(home) and _database(home).exists():
        with closing(sqlite3.connect(_database(home))) as connection:
            found = connection.execute("select experiment_id from experiments where name = ?", (EXPERIMENT,)).fetchone()
    return f"{ui}/#/experiments{f'/{found[0]}' if found else ''}{TRAINING_VIEW}"
