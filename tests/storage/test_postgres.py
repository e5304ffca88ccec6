"""A PostgreSQL database that cannot be used is named, with what to correct and without its password."""

import socket

import pytest

from storage.errors import ConfigError
from storage.postgres import check_database, check_driver, is_postgres


@pytest.mark.parametrize(
    ("url", "postgres"),
    [
        ("postgresql://host/name", True),
        ("postgresql+asyncpg://host/name", True),
        ("sqlite:///file", False),
        ("http://postgresql/", False),
        ("mysql+postgresql://host", False),
    ],
)
def test_a_postgres_database_is_known_by_its_scheme(url: str, postgres: bool) -> None:
    assert is_postgres(url) is postgres


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg"])
def test_a_database_that_does_not_answer_is_named_without_its_password(scheme: str) -> None:
    with socket.socket() as closed:  # bound and not listening: whoever connects is refused
        closed.bind(("127.0.0.1", 0))
        port = str(closed.getsockname()[1])
        url = f"{scheme}://ada:s3cret@127.0.0.1:{port}/name"
        check_driver("MLFLOW_TRACKING_URI", url)
        with pytest.raises(
            ConfigError, match=r"MLFLOW_TRACKING_URI=.*the database cannot be used .*Correct user"
        ) as raised:
            check_database("MLFLOW_TRACKING_URI", url)
    assert "s3cret" not in str(raised.value) and str(raised.value).count(port) == 2 and "\n" not in str(raised.value)


def test_a_driver_that_is_missing_is_named_with_the_way_to_install_it() -> None:
    url = "postgresql+pg8000://ada:s3cret@host/name"
    with pytest.raises(ConfigError, match=r"package pg8000 is missing\. pip install 'llmill\[postgres\]'") as raised:
        check_driver("PREFECT", url)
    assert "s3cret" not in str(raised.value)
