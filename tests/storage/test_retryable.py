"""What a retry can cure, by real errors: of sockets, HTTP clients, databases and our own."""

import errno
import http.server
import socket
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage.errors import ConfigError, DataError, UnavailableError
from storage.retryable import http_status, is_transient


def caught(action: Callable[[], object]) -> Exception:
    """The error that an action ends with."""
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("no error")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Answers `/503` with status 503, and so on; hangs up at `/0`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = int(self.path[1:])
            if status:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


def with_urllib(url: str) -> object:
    return urllib.request.urlopen(url, timeout=10)


def with_requests(url: str) -> object:
    import requests

    answer = requests.get(url, timeout=10)
    answer.raise_for_status()
    return answer


def with_httpx(url: str) -> object:
    import httpx

    return httpx.get(url, timeout=10).raise_for_status()


CLIENTS = [with_urllib, with_requests, with_httpx]


@pytest.mark.parametrize("ask", CLIENTS)
def test_answers_of_a_server_are_distinguished_by_their_status(server: str, ask: Callable[[str], object]) -> None:
    for status, transient in {0: True, 404: False, 401: False, 429: True, 500: True, 501: False, 503: True}.items():
        error = caught(partial(ask, f"{server}/{status}"))
        assert is_transient(error) is transient, (status, error)
        assert http_status(error) == (status or None)


def test_what_mlflow_s_server_answers_is_distinguished_by_its_code() -> None:
    from mlflow.exceptions import RestException

    for code, status in {"TEMPORARILY_UNAVAILABLE": 503, "RESOURCE_DOES_NOT_EXIST": 404}.items():
        error = RestException({"error_code": code, "message": "no"})
        assert (http_status(error), is_transient(error)) == (status, status == 503)


@pytest.mark.parametrize("ask", CLIENTS)
def test_nobody_at_an_address_may_come_back_and_an_unknown_name_does_not(ask: Callable[[str], object]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert is_transient(caught(lambda: ask(f"http://127.0.0.1:{taken.getsockname()[1]}/")))
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert not is_transient(urllib.error.URLError(unknown))
    assert is_transient(urllib.error.URLError(socket.gaierror(socket.EAI_AGAIN, "Temporary failure")))


def test_a_locked_database_is_busy_and_a_broken_statement_is_not(tmp_path: Path) -> None:
    import sqlalchemy

    path = tmp_path / "data.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("create table numbers (number integer)")
        holder.execute("begin exclusive")
        engine = sqlalchemy.create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})

        def ask(statement: str) -> None:
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text(statement))

        assert is_transient(caught(lambda: ask("select * from numbers")))
        with closing(sqlite3.connect(path, timeout=0)) as other:
            assert is_transient(caught(lambda: other.execute("select * from numbers")))
        holder.execute("rollback")
        assert not is_transient(caught(lambda: ask("select * from nothing")))


def wrapped(cause: Exception, outer: Exception, *, chained: bool) -> Exception:
    """An error raised from another, or while the other was handled."""

    def fail() -> None:
        try:
            raise cause
        except Exception as error:
            if chained:
                raise outer from error
            raise outer  # noqa: B904  (that nothing is said of the cause is what is tested)

    return caught(fail)


def test_the_chain_of_causes_decides_and_what_rules_out_a_retry_wins() -> None:
    reset = ConnectionResetError(errno.ECONNRESET, "reset")
    assert is_transient(wrapped(reset, RuntimeError("download failed"), chained=True))
    assert is_transient(wrapped(reset, OSError("download failed"), chained=False))
    assert is_transient(wrapped(reset, ValueError("no data set"), chained=True))
    assert not is_transient(wrapped(reset, KeyError("a bug in the handler"), chained=False))
    assert not is_transient(wrapped(reset, OSError(errno.ENOSPC, "full"), chained=True))
    assert not is_transient(wrapped(reset, DataError("hub: nobody answers"), chained=True))
    assert not is_transient(wrapped(ConfigError("wrong"), ConnectionError("sent back"), chained=True))
    assert is_transient(wrapped(reset, UnavailableError("hub: nobody answers now"), chained=True))


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionRefusedError("refused"), True),
        (TimeoutError("late"), True),
        (OSError(errno.EAGAIN, "again"), True),
        (OSError(errno.ETIMEDOUT, "late"), True),
        (OSError(errno.ENOSPC, "full"), False),
        (FileNotFoundError(errno.ENOENT, "gone"), False),
        (MemoryError(), False),
        (ValueError("bad"), False),
        (TypeError("a bug"), False),
        (KeyboardInterrupt(), False),
        (ExceptionGroup("both", [ConnectionError("one"), TimeoutError("two")]), True),
        (ExceptionGroup("both", [ConnectionError("one"), DataError("two")]), False),
    ],
)
def test_single_errors(error: BaseException, transient: bool) -> None:
    assert is_transient(error) is transient


def test_of_all_statuses_of_http_and_numbers_of_the_system_these_may_pass() -> None:
    answers = [urllib.error.HTTPError("http://host/", status, "", Message(), None) for status in range(400, 600)]
    assert [error.code for error in answers if is_transient(error)] == [408, 425, 429, 500, 502, 503, 504]
    numbers = {name for number, name in errno.errorcode.items() if is_transient(OSError(number, "failed"))}
    assert numbers == {
        *("EAGAIN", "EINTR", "EBUSY", "ESTALE", "ETIMEDOUT", "EPIPE", "ESHUTDOWN"),
        *("ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "EHOSTUNREACH", "EHOSTDOWN"),
        *("ENETUNREACH", "ENETDOWN", "ENETRESET", "EREMOTEIO"),
    }


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("aiohttp", "ServerDisconnectedError", ()),
        ("aiohttp", "ClientPayloadError", ()),
        ("botocore.exceptions", "EndpointConnectionError", {"endpoint_url": "u"}),
        ("botocore.exceptions", "HTTPClientError", {"error": "e"}),
        ("botocore.exceptions", "IncompleteReadError", {"actual_bytes": 1, "expected_bytes": 2}),
        ("botocore.parsers", "ResponseParserError", ()),
        ("http.client", "IncompleteRead", (b"",)),
        ("http.client", "BadStatusLine", ("",)),
        ("httpcore", "ConnectTimeout", ()),
        ("httpcore", "ReadError", ()),
        ("httpcore", "RemoteProtocolError", ()),
        ("httpcore", "ProxyError", ()),
        ("httpx", "ReadTimeout", ("",)),
        ("httpx", "ConnectError", ("",)),
        ("httpx", "RemoteProtocolError", ("",)),
        ("httpx", "ProxyError", ("",)),
        ("requests.exceptions", "ProxyError", ()),
        ("requests.exceptions", "ReadTimeout", ()),
        ("requests.exceptions", "ChunkedEncodingError", ()),
        ("urllib3.exceptions", "ReadTimeoutError", (None, "u", "late")),
        ("urllib3.exceptions", "NewConnectionError", (None, "refused")),
        ("urllib3.exceptions", "ProtocolError", ("cut",)),
        ("urllib3.exceptions", "ProxyError", ("refused", OSError("refused"))),
    ],
)
def test_errors_of_transport_of_each_library_may_pass(module: str, name: str, arguments: Any) -> None:
    kind = getattr(pytest.importorskip(module), name)
    error = kind(**arguments) if isinstance(arguments, dict) else kind(*arguments)
    assert is_transient(error)


def test_a_certificate_and_an_address_that_is_none_do_not_pass() -> None:
    import requests

    assert not is_transient(requests.exceptions.SSLError("certificate"))
    assert not is_transient(requests.exceptions.InvalidURL("no host"))
