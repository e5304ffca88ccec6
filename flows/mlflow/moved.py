"""MLflow's database in a home that was copied or moved: its addresses follow, so that nothing reaches the old place.

MLflow keeps whole addresses: where the artifacts of an experiment go, where those of runs, logged models and versions
are. They are changed in one transaction on the database itself, since MLflow has no call for it. A tag of our
experiment names the home that they belong to; a database without that tag was made for the home that holds its
artifacts.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from storage.errors import StoreError

HOME_TAG = "llmill.home"
ARTIFACTS = "mlflow/artifacts"  # below a home
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
BUSY_SECONDS = 30.0


def follow_home(database: Path, home: Path, experiment: str) -> None:
    """Make the addresses of a database under a home lead into that home; raises StoreError where that cannot be done.

    A database that cannot be read is left to MLflow, which says what is wrong with it.
    """
    with closing(sqlite3.connect(database, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        try:
            before = _home_of(connection, experiment)
        except sqlite3.DatabaseError:
            return
        if before in (None, home.as_uri()):
            return
        try:
            _change(connection, f"{before}/", f"{home.as_uri()}/", experiment)
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{database}: belongs to a home that was at {before}, and cannot be changed ({error}). End what uses "
                "it, or make it writable"
            ) from error


def _home_of(connection: sqlite3.Connection, experiment: str) -> str | None:
    """The address of the home that the database was last used in, as far as it says so."""
    tags = "select value from experiment_tags join experiments using (experiment_id) where name = ? and key = ?"
    for (address,) in connection.execute(tags, (experiment, HOME_TAG)):
        return str(address)
    for (location,) in connection.execute("select artifact_location from experiments where name = ?", (experiment,)):
        home, found, rest = str(location).rpartition(f"/{ARTIFACTS}")
        return home if found and not rest else None
    return None


def _change(connection: sqlite3.Connection, old: str, new: str, experiment: str) -> None:
    connection.execute("begin immediate")
    with connection:
        for table, column in ADDRESSES:
            connection.execute(
                f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
                (new, len(old) + 1, len(old), old),
            )
        connection.execute("update datasets set dataset_source = replace(dataset_source, ?, ?)", (f'"{old}', f'"{new}'))
        connection.execute(
            "insert or replace into experiment_tags (key, value, experiment_id) "
            "select ?, ?, experiment_id from experiments where name = ?",
            (HOME_TAG, new.removesuffix("/"), experiment),
        )
