"""Whether a server answers at an address that the user has set: asked once, before anything is built.

The clients themselves would try for minutes (MLflow: 7 retries a call, 15 for a database) or end in a traceback.
"""

import errno
import http.client
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlsplit, urlunsplit

from storage.errors import ConfigError

ANSWER_SECONDS = 5.0
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

LOOPBACK = ("localhost", "127.0.0.1", "::1")
BYPASSES = ("no_proxy", "NO_PROXY")  # clients read either, and differ in which they read first

_CREDENTIALS = re.compile(r"(\w://)(?:[^/\s@:]*:[^\s\"'<>]*|[^/\s@]*)@")
_SECRET_PARAMETER = re.compile(
    r"([?&;][^\s=&;]*(?:pass|pwd|token|secret|key|signature|credential)[^\s=&;]*=)[^\s&;\"'<>)]+", re.IGNORECASE
)


def proxies() -> dict[str, str]:
    """The proxies of the environment by the scheme of what is sent there: `{"https": "http://proxy.example:3128"}`."""
    return {scheme: url for scheme, url in urllib.request.getproxies_environment().items() if url and scheme != "no"}


def keep_loopback_direct() -> None:
    """Where a proxy is set, let all clients of this process and its children reach this machine without it.

    No proxy can reach the servers that a run starts on 127.0.0.1. What the user exempts from the proxy stays exempt.
    Where none is set nothing is changed: a `no_proxy` alone would hide the proxy settings of macOS.
    """
    if not proxies():
        return
    given = [os.environ.get(name, "") for name in BYPASSES]
    for name, own, other in zip(BYPASSES, given, reversed(given), strict=True):
        exempt = [host.strip() for host in (own or other).split(",") if host.strip()]
        if "*" not in exempt:
            os.environ[name] = ",".join([*exempt, *(host for host in LOOPBACK if host not in exempt)])


def check_free(option: str, host: str, port: int) -> None:
    """Raise ConfigError unless a server can be started there; `option` is where the port was given."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror:
            raise ConfigError(f"--host {host}: not an address of this machine; 0.0.0.0 means all of them") from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise ConfigError(f"--host {host}: not an address of this machine; 0.0.0.0 means all") from None
            raise ConfigError(f"port {port} is in use: end what uses it, or choose another with {option}") from None


def check_form(setting: str, address: str, schemes: tuple[str, ...] = ()) -> None:
    """Raise ConfigError for what is not an address, or not of these schemes. `setting` is where it was set."""
    try:
        parts = urlsplit(address)
        wrong = parts.port == 0 or (schemes and (parts.scheme not in schemes or not parts.hostname))
    except ValueError:  # no port number, half an IPv6 address
        wrong = True
    if wrong:
        form = "such as http://127.0.0.1:4200/api" if schemes else "such as http://127.0.0.1:5000"
        if "postgresql" in schemes:
            form = "such as postgresql://USER:PASSWORD@127.0.0.1:5432/DATABASE"
        problem = f"{setting}={redacted(address)}: this is not an address"
        raise ConfigError(f"{problem}. Write it in full, {form}, or unset it")


def no_answer(address: str) -> str | None:
    """Why nobody answers at an address of a server or a database server; None where somebody does, or it has none."""
    parts = urlsplit(address)
    kind = parts.scheme.partition("+")[0]
    try:
        if kind in ("http", "https"):
            _ask(without_credentials(address))
        elif kind in DATABASE_PORTS and parts.hostname:
            socket.create_connection((parts.hostname, parts.port or DATABASE_PORTS[kind]), ANSWER_SECONDS).close()
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return f"nobody answers at {without_credentials(address)} ({reason})"
    return None


def without_credentials(url: str) -> str:
    """A URL without its user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def redacted(text: str) -> str:
    """A text in which no URL carries its user and password, nor a secret among its parameters.

    A password may hold an unescaped / or @, which is a common mistake: what follows a colon goes up to the last @.
    """
    return _SECRET_PARAMETER.sub(r"\1***", _CREDENTIALS.sub(r"\1", text))


def _ask(address: str) -> None:
    """Any answer will do, a refusal too: whether we may come in is for the client to find out."""
    try:
        urllib.request.urlopen(address, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):
            raise
