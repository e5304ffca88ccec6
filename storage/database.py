"""The database of the model server: SQLite in the home, or the PostgreSQL that the environment names.

What is kept in it stands beside this file: keys and ledger in service.py, feedback and votes in feedback.py.
"""

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.addresses import check_form, redacted
from storage.errors import ConfigError, StoreError
from storage.postgres import check_database, check_driver, is_postgres, sqlite_url

if TYPE_CHECKING:
    from sqlalchemy import Engine, MetaData, Table

VARIABLE = "LLMILL_SERVICE_DATABASE"
BUSY_SECONDS = 5


def database_url(home: Path) -> str:
    """The database that the environment names, else one in the home. ConfigError for one that cannot be used."""
    given = os.environ.get(VARIABLE)
    if not given:
        path = home / "service" / "service.db"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{path.parent}: cannot be made ({error.strerror}). Move what is in its way, or set LLMILL_HOME to a "
                "folder that you may write"
            ) from error
        return sqlite_url(path)
    check_form(VARIABLE, given, ("postgresql", "postgresql+psycopg2"))
    check_driver(VARIABLE, given)
    check_database(VARIABLE, given)
    return given


class Database:
    """Some tables of one database, made where they are missing."""

    def __init__(self, url: str, describe: "Callable[[], MetaData]") -> None:
        """`describe` is called once the tables are asked for: SQLAlchemy takes a while to import."""
        self._url, self._describe = url, describe

    def __getitem__(self, name: str) -> "Table":
        """The table of that name."""
        return self._tables.tables[name]

    def do(self, action: Callable[[Any], Any]) -> Any:
        """What an action makes of a connection, in one transaction.

        StoreError where the database refuses it; SQLAlchemy's IntegrityError for a row that is there already.
        """
        from sqlalchemy.exc import IntegrityError, SQLAlchemyError

        try:
            with self._engine.begin() as connection:
                return action(connection)
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise self.refusal(error) from error

    def refusal(self, error: Exception) -> StoreError:
        """What the database says, with its address and without its password."""
        return StoreError(f"{redacted(self._url)}: {str(getattr(error, 'orig', error)).strip()}")

    @cached_property
    def _engine(self) -> "Engine":
        from sqlalchemy import create_engine, event
        from sqlalchemy.exc import SQLAlchemyError

        if not is_postgres(self._url):
            engine = create_engine(self._url, connect_args={"timeout": BUSY_SECONDS})

            @event.listens_for(engine, "connect")
            def prepare(connection: Any, record: Any) -> None:  # readers and the writer do not wait for each other
                connection.execute("PRAGMA journal_mode=WAL")
        else:
            engine = create_engine(self._url, pool_pre_ping=True)
        for last in (False, True):  # another server may make them at the same moment
            try:
                self._tables.create_all(engine)
                break
            except SQLAlchemyError as error:
                if last:
                    raise self.refusal(error) from error
        return engine

    @cached_property
    def _tables(self) -> "MetaData":
        return self._describe()
