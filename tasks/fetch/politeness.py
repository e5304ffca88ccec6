"""What a crawl may ask for: Scrapy's robots middleware by RFC 9309, the rules of the source, and public addresses only.

Imported by the crawler's process alone (crawler.py): Scrapy and Twisted take a second to import.
"""

import asyncio
import fnmatch
import ipaddress
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from scrapy import signals
from scrapy.downloadermiddlewares.robotstxt import RobotsTxtMiddleware
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Request, Response
from scrapy.resolver import CachingThreadedResolver
from scrapy.spidermiddlewares.httperror import HttpError
from scrapy.utils.asyncio import call_later
from twisted.python.failure import Failure

from storage.addresses import proxies
from tasks.fetch.addresses import IPAddress, is_public, literal_address
from tasks.fetch.agent import AGENT
from tasks.fetch.retry_after import seconds_asked

ROBOTS_BYTES = 500 * 2**10  # of a robots.txt that are read at least and, by us, at most (RFC 9309, 2.5)
MOST_ADDRESS_CHARACTERS = 2000
BUSY = (429, 503)  # the answers that may ask to wait


class Refused(IgnoreRequest):
    """An address that is not asked, and why."""


class SiteRules:
    """Refuses what the source does not allow, before anything is sent; redirects pass here too."""

    def __init__(self, hosts: frozenset[str], settings: Any) -> None:
        self.hosts, self.settings = hosts, settings
        self._queries: dict[str, set[str]] = {}

    @classmethod
    def from_crawler(cls, crawler: Any) -> "SiteRules":
        return cls(crawler.settings["LLMILL_HOSTS"], crawler.settings)

    async def process_request(self, request: Request) -> None:
        url = urlsplit(request.url)
        host = url.hostname or ""
        if url.scheme not in ("http", "https"):
            raise Refused(f"{url.scheme}: is not fetched")
        of_robots = request.meta.get("dont_obey_robotstxt", False)  # led to other hosts, too (RFC 9309, 2.3.1.2)
        if host not in self.hosts and not of_robots:
            raise Refused(f"leads to another host, {host}: `hosts` of the source allows it")
        if len(request.url) > MOST_ADDRESS_CHARACTERS:
            raise Refused(f"its address has more than {MOST_ADDRESS_CHARACTERS:,} characters")
        if not self.settings["LLMILL_PRIVATE"]:
            await check_public(host, proxied=url.scheme in proxies())

    def why_not(self, url: str) -> str:
        """Why a link is not followed by the rules of the source; empty for one that is."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return "it is no address"
        path = parts.path or "/"
        include, exclude = self.settings["LLMILL_INCLUDE"], self.settings["LLMILL_EXCLUDE"]
        if parts.scheme not in ("http", "https"):
            return f"{parts.scheme}: is not fetched"
        if parts.hostname not in self.hosts:
            return f"it is on another host, {parts.hostname}: `hosts` of the source allows it"
        if include and not any(fnmatch.fnmatchcase(path, rule) for rule in include):
            return "its path is none of include"
        left_out = next((rule for rule in exclude if fnmatch.fnmatchcase(path, rule)), "")
        return f"its path is one of exclude ({left_out})" if left_out else ""

    def is_one_too_many(self, url: str) -> bool:
        """Whether a link is of a trap, and was not followed before."""
        parts = urlsplit(url)
        followed = self._queries.setdefault(f"{parts.netloc}{parts.path}", set()) if parts.query else set()
        if not parts.query or parts.query in followed:
            return False
        if len(followed) >= self.settings.getint("LLMILL_QUERIES"):
            return True
        followed.add(parts.query)
        return False


async def check_public(host: str, *, proxied: bool) -> None:
    """Raise Refused for an address that is not public; of a name that a proxy will look up, as far as we can too."""
    address = literal_address(host)
    if address is not None:
        check_address(host, address)
    elif proxied:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            return
        for *_, place in found:
            check_address(host, ipaddress.ip_address(str(place[0]).partition("%")[0]))


def check_address(host: str, address: IPAddress) -> None:
    """Raise Refused for an address that is not public."""
    if not is_public(address):
        raise Refused(f"{host} is at {address}, which is private: allow_private of the source allows it")


_refused: dict[str, str] = {}  # names that lead to private addresses -> why they were refused


class PublicResolver(CachingThreadedResolver):
    """Looks names up and refuses private addresses: what is checked is what will be connected to."""

    def getHostByName(self, name: str, timeout: Any = ()) -> Any:
        found = super().getHostByName(name, timeout)
        exempt = {urlsplit(proxy).hostname for proxy in proxies().values()}

        def checked(address: str) -> str:
            if name not in exempt:
                try:
                    check_address(name, ipaddress.ip_address(address))
                except Refused as refused:
                    _refused[name] = str(refused)  # Twisted says of any failed look-up that there are no results
                    raise
            return address

        return found.addCallback(checked)


class Busy:
    """Leaves a host alone for as long as it asks to (429, 503), and for good where that is longer than the crawl."""

    def __init__(self, crawler: Any) -> None:
        self._crawler = crawler
        self._ends = time.monotonic() + crawler.settings.getfloat("CLOSESPIDER_TIMEOUT")
        self._given_up: dict[str, str] = {}  # host -> why it is not asked any more

    @classmethod
    def from_crawler(cls, crawler: Any) -> "Busy":
        made = cls(crawler)
        crawler.signals.connect(made.answered, signals.response_downloaded)  # before the next request is sent
        return made

    def answered(self, response: Response, request: Request, spider: Any) -> None:
        """Hold back the requests that wait for the host."""
        asked = seconds_asked((response.headers.get("Retry-After") or b"").decode("latin-1"))
        if response.status not in BUSY or not asked:
            return
        downloader = self._crawler.engine.downloader
        slot = downloader.slots[request.meta[downloader.DOWNLOAD_SLOT]]
        if time.monotonic() + asked <= self._ends:
            slot.close()  # the call that would send the next request
            slot.latercall = call_later(asked, downloader._latercall, slot)
            return
        host = urlsplit(request.url).hostname or ""
        why = f"{host} asks to wait {asked:,.0f} s, and the crawl ends before (max_minutes)"
        self._given_up[host] = why
        while slot.queue:
            slot.queue.popleft()[1].errback(Failure(Refused(why)))

    def process_request(self, request: Request) -> None:
        if why := self._given_up.get(urlsplit(request.url).hostname or ""):
            raise Refused(why)


class Robots(RobotsTxtMiddleware):
    """RFC 9309: no file (4xx) allows all, a server that fails or is silent allows nothing; a crawl-delay is kept."""

    async def _parse_robots(self, response: Response, netloc: str, request: Request) -> None:
        if response.status >= 500:
            self._robots_error(OSError(f"HTTP {response.status}"), netloc)
            return
        body = b"" if response.status >= 400 else response.body[:ROBOTS_BYTES]
        await super()._parse_robots(response.replace(status=200, body=body), netloc, request)
        parser: Any = self._parsers[netloc]
        delay = parser.rp.crawl_delay(AGENT)
        slot: Any = self.crawler.engine.downloader.slots.get(urlsplit(request.url).hostname or "")
        if delay and slot is not None and delay > slot.delay:
            slot.delay = float(delay)

    def process_request_2(self, rp: Any, request: Request) -> None:
        if isinstance(rp, _Unreachable):
            raise Refused(rp.reason)
        super().process_request_2(rp, request)

    def _robots_error(self, exc: Exception, netloc: str) -> None:
        host = netloc.rpartition("@")[2].partition(":")[0]
        known = _refused.get(host) or (str(exc) if isinstance(exc, Refused) else "")
        known = known or f"robots.txt cannot be reached ({reason_of(exc)})"
        parsers: dict[str, Any] = self._parsers
        waiting, parsers[netloc] = parsers[netloc], _Unreachable(known)
        waiting.callback(parsers[netloc])


@dataclass(frozen=True, slots=True)
class _Unreachable:
    """The rules of a host whose robots.txt cannot be reached: nothing is allowed."""

    reason: str


_TOO_LONG = "its answer has more than max_page_bytes"
_REASONS = {  # of errors that say nothing, or too much
    "DownloadCancelledError": _TOO_LONG,
    "DownloadTimeoutError": "its answer took longer than timeout_seconds",
    "DownloadFailedError": "the connection was closed before the answer was whole",
    "ResponseDataLossError": "the connection was closed before the answer was whole",
}


def reason_of(error: BaseException) -> str:
    """Why there was no answer, in one line."""
    if isinstance(error, HttpError):  # a redirect that Scrapy does not follow
        location = (error.response.headers.get("Location") or b"").decode("latin-1")
        return f"it leads to {location or 'nowhere'}, which is not fetched"
    text = str(error).strip()
    if "DOWNLOAD_MAXSIZE" in text:
        return f"{_TOO_LONG}, unpacked"
    return _REASONS.get(type(error).__name__) or (text.splitlines()[0] if text else type(error).__name__)[:200]
