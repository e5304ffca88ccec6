"""The URL of a SQLite file, and whether a PostgreSQL server lets us in: asked once, before anything is built.

The server's clients themselves would try for a minute, or end in a traceback. What they want to know is in the URL, so
it is opened by SQLAlchemy, which both Prefect and MLflow use, with the driver that the URL names.
"""

import asyncio
from pathlib import Path
from urllib.parse import quote, urlsplit

from storage.addresses import ANSWER_SECONDS, redacted
from storage.errors import ConfigError

INSTALL = "pip install 'llmill[postgres]'"


def sqlite_url(path: Path, driver: str = "sqlite") -> str:
    """The URL of a database file, as SQLAlchemy reads it.

    Nothing in such a URL is unquoted, and a `?` ends the path: a path that has one is quoted as SQLite's own URI.
    """
    if "?" not in str(path):
        return f"{driver}:///{path}"
    named = driver if "+" in driver else f"{driver}+pysqlite"  # else MLflow makes the folder `file:` in the current one
    return f"{named}:///file:{quote(str(path))}?uri=true"


def is_postgres(url: str) -> bool:
    """Whether a URL is that of a PostgreSQL database, with or without the name of a driver."""
    return urlsplit(url).scheme.partition("+")[0] == "postgresql"


def check_driver(setting: str, url: str) -> None:
    """Raise ConfigError where the driver of a database is missing. `setting` is where its URL was set."""
    from sqlalchemy.engine import make_url

    try:
        make_url(url).get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        raise ConfigError(f"{setting}={redacted(url)}: the package {error.name} is missing. {INSTALL}") from None


def check_database(setting: str, url: str) -> None:
    """Raise ConfigError where a PostgreSQL database cannot be used. `setting` is where its URL was set."""
    from sqlalchemy.engine import make_url

    try:
        if make_url(url).get_dialect().is_async:
            asyncio.run(_open_asynchronously(url))
        else:
            _open(url)
    except Exception as error:  # each driver has its own kinds
        raise ConfigError(
            f"{setting}={redacted(url)}: the database cannot be used ({_reason(error, url)}). "
            "Correct user, password (@ is written %40, / is %2F), host and name of the database, or unset it"
        ) from None


def _open(url: str) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(url, connect_args={"connect_timeout": int(ANSWER_SECONDS)})
    try:
        engine.connect().close()
    finally:
        engine.dispose()


async def _open_asynchronously(url: str) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url)
    try:
        async with asyncio.timeout(ANSWER_SECONDS), engine.connect():
            pass
    finally:
        await engine.dispose()


def _reason(error: Exception, url: str) -> str:
    """What the driver says, on one line, without the password."""
    said = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    password = urlsplit(url).password
    line = said.splitlines()[0].strip()
    return redacted(line.replace(password, "***") if password else line)
