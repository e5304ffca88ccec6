"""The errors worth a retry: of the network, a busy server, a busy database; never of data, settings or code.

Libraries wrap what went wrong into errors of their own, so that the whole chain of causes is examined. Their classes
are known by name, since importing them all would cost seconds. One answer for all who ask: the retries of a stage,
the records for MLflow and the shared store. How often a stage is retried, and after what wait, is in
`tasks/engine/retries.py`.
"""

import errno
import socket
import sqlite3
from collections.abc import Iterator
from typing import Any

from storage.errors import LlmillError, UnavailableError, refused_number

_NUMBERS = frozenset(
    (
        *(errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EPIPE),
        *(errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.EHOSTDOWN),
        *(errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EREMOTEIO),
    )
)
_STATUSES = frozenset((408, 425, 429, 500, 502, 503, 504))  # HTTP: late, early, too many, the server broken
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_CLASSES = {  # package -> its errors of transport, with those below them
    "aiohttp": {"ClientConnectionError", "ClientPayloadError"},
    "botocore": {"ConnectionError", "HTTPClientError", "IncompleteReadError", "ResponseParserError"},
    "http": {"IncompleteRead", "BadStatusLine"},
    "httpcore": {"TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"},
    "httpx": {"TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"},
    "requests": {"ConnectionError", "Timeout", "ChunkedEncodingError"},
    "urllib3": {"TimeoutError", "NewConnectionError", "ProtocolError", "ProxyError"},
}
# What a library raises while it handles another error is examined too; where our own code does, it has a bug there.
_OF_CODE = (TypeError, ValueError, LookupError, AttributeError, NameError, AssertionError, ArithmeticError, ImportError)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later: something in the chain says so, and nothing denies it."""
    verdicts = [_verdict(one) for one in _chain(error)]
    return False not in verdicts and True in verdicts


def http_status(error: BaseException) -> int | None:
    """The HTTP status that a server answered with, from anywhere in the chain; None where there is none."""
    return next((status for one in _chain(error) if (status := _status(one)) is not None), None)


def _verdict(error: BaseException) -> bool | None:
    """True: a retry may fix it. False: no retry can. None: this one does not decide."""
    if isinstance(error, UnavailableError):
        return True
    if isinstance(error, (LlmillError, MemoryError)) or not isinstance(error, Exception):
        return False
    if refused_number(error) is not None:  # a full disk, a forbidden file
        return False
    status = _status(error)
    if status is not None:
        return status in _STATUSES
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _LOCKED or "is locked" in str(error)
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN  # a name that is not known is misspelt
    classes = [(one.__module__.partition(".")[0], one.__name__) for one in type(error).__mro__]
    if any(name in ("SSLError", "SSLCertVerificationError") for _, name in classes):
        return False  # a certificate does not fix itself
    if isinstance(error, (ConnectionError, TimeoutError)) or getattr(error, "errno", None) in _NUMBERS:
        return True
    return True if any(name in _CLASSES.get(package, ()) for package, name in classes) else None


def _status(error: BaseException) -> int | None:
    """The status in the places where HTTP clients put it: httpx and requests, botocore, MLflow, aiohttp, urllib."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif response is not None:
        found = getattr(response, "status_code", None)
    elif type(error).__name__ == "RestException":  # MLflow's; its other errors say 500 for anything
        found = getattr(error, "get_http_status_code", int)()
    elif type(error).__name__ == "HTTPError":
        found = getattr(error, "code", None)
    else:
        found = getattr(error, "status", None)
    return found if isinstance(found, int) and 100 <= found < 600 else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what caused it."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [one.__cause__, getattr(one, "reason", None), getattr(one, "orig", None)]
        if not one.__suppress_context__ and not isinstance(one, _OF_CODE):
            inner.append(one.__context__)
        if isinstance(one, BaseExceptionGroup):
            inner += one.exceptions
        waiting += [next_one for next_one in inner if isinstance(next_one, BaseException)]
