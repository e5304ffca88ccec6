"""The database of a Prefect server that llmill starts itself: SQLite under the home, or what the user has set."""

import os
from pathlib import Path

from storage.addresses import redacted
from storage.errors import ConfigError
from storage.postgres import check_database, is_postgres, sqlite_url

VARIABLES = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
SCHEMES = ("sqlite+aiosqlite", "postgresql+asyncpg")


def check_server_database() -> None:
    """Raise ConfigError where the database that the user has set for Prefect's server cannot be used.

    Where the connection needs more than its URL (certificates), the server itself finds out.
    """
    from prefect.settings import get_current_settings

    database = get_current_settings().server.database
    url = _url_in_force()
    setting = next((name for name in VARIABLES if os.environ.get(name)), VARIABLES[0])
    check_scheme(setting, url)
    if is_postgres(url) and not database.sqlalchemy.connect_args.tls.enabled:
        check_database(setting, url)


def url_under_home(home: Path) -> str | None:
    """The URL of the file under the home, where its runs go there. Prefect's own is cut off at a `?`."""
    path = home / "prefect" / "prefect.db"
    return sqlite_url(path, SCHEMES[0]) if _url_in_force() == f"{SCHEMES[0]}:///{path}" else None


def _url_in_force() -> str:
    from prefect.settings import get_current_settings

    url = get_current_settings().server.database.connection_url
    return url.get_secret_value() if url else ""


def check_scheme(setting: str, url: str) -> None:
    """Raise ConfigError where Prefect's server cannot keep its runs in a database of this kind."""
    if url.partition("://")[0] not in SCHEMES:
        raise ConfigError(
            f"{setting}={redacted(url)}: Prefect's server keeps its runs in {' or '.join(SCHEMES)}. "
            "Write postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE, or unset it"
        )
