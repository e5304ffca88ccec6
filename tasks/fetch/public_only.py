"""An HTTP client that connects to public addresses only, after each look-up and each redirect.

Where a proxy of the environment is in between, it does the look-up: then hosts that are written as private addresses
are refused, and what names resolve to is the proxy's to judge.
"""

import functools
import http.client
import ipaddress
import socket
import urllib.request
from typing import Any, NoReturn
from urllib.parse import urlsplit

from storage.addresses import LOOPBACK, proxies
from storage.errors import ConfigError
from tasks.fetch.addresses import is_public, literal_address
from tasks.fetch.agent import user_agent


def opener(allow_private: bool) -> urllib.request.OpenerDirector:
    """What opens addresses; one that is not public raises ConfigError, unless private ones are allowed."""
    handlers: list[urllib.request.BaseHandler] = [] if allow_private else [_PublicHTTP(), _PublicHTTPS(), _Literal()]
    handlers.append(_NoFTP())
    made = urllib.request.build_opener(*handlers)
    made.addheaders = [("User-Agent", user_agent())]
    return made


def _refused(host: str) -> ConfigError:
    return ConfigError(
        f"{host} is an address of this machine or a private network: set allow_private of the source to fetch from it"
    )


def _connect(address: tuple[str, int], *arguments: Any, **settings: Any) -> socket.socket:
    """As socket.create_connection, to the addresses that were checked."""
    host, port = address
    if host in {urlsplit(url).hostname for url in proxies().values()}:
        return socket.create_connection(address, *arguments, **settings)
    failed: OSError | None = None
    for *_, found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not is_public(ipaddress.ip_address(str(found[0]).partition("%")[0])):
            raise _refused(host)
        try:
            return socket.create_connection((str(found[0]), port), *arguments, **settings)
        except OSError as error:
            failed = error
    raise failed or OSError(f"{host} has no address")


class _PublicConnection(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._create_connection = _connect


class _PublicSecureConnection(http.client.HTTPSConnection):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._create_connection = _connect


class _PublicHTTP(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PublicConnection, request)


class _PublicHTTPS(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_PublicSecureConnection, context=self._context), request)  # type: ignore[attr-defined]


class _NoFTP(urllib.request.FTPHandler):
    """A redirect may lead to FTP, which nobody checks."""

    def ftp_open(self, request: urllib.request.Request) -> NoReturn:
        raise ConfigError(f"{request.full_url}: only http and https are fetched")


class _Literal(urllib.request.BaseHandler):
    """Refuses hosts that are private addresses as they are written, before a proxy is asked."""

    handler_order = 1

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        host = urlsplit(request.full_url).hostname or ""
        address = literal_address(host)
        if host in LOOPBACK or (address is not None and not is_public(address)):
            raise _refused(host)
        return request

    https_request = http_request
