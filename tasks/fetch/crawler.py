"""The program that crawls one source: `python -m tasks.fetch.crawler JOB.json`, a process of its own around Scrapy.

It writes each answer into the source's PageStore as it comes, so it can be killed at any moment, and a line of JSON on
stdout a few times a second: pages, addresses waiting, bytes; at the end why it ended.
"""

import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlsplit

from scrapy import signals
from scrapy.crawler import CrawlerProcess
from scrapy.exceptions import CloseSpider, IgnoreRequest, StopDownload
from scrapy.http import Headers, HtmlResponse, Request, Response, TextResponse
from scrapy.linkextractors import LinkExtractor
from scrapy.spiders.sitemap import SitemapSpider
from scrapy.utils.sitemap import Sitemap

from tasks.fetch.agent import AGENT, user_agent
from tasks.fetch.config import CrawlSource
from tasks.fetch.page_store import FETCHED, UNCHANGED, PageStore, StoredPage, Visit, header
from tasks.fetch.politeness import SiteRules, reason_of

PAGES = ("text/html", "application/xhtml+xml", "text/plain")
SITEMAPS = ("application/xml", "text/xml", "application/gzip", "application/x-gzip")
GONE = (404, 410)
NOT_NOW = (408, 425, 429, *range(500, 600))  # a server in trouble: they say nothing of the page
HANDLED = tuple(code for code in range(200, 600) if code not in (301, 302, 303, 307, 308))  # without redirects
REPORT_SECONDS = 0.5
SHORTEST_DELAY_SECONDS = 0.001  # without any, Scrapy sends all that waits for a host at once
MOST_SITEMAPS = 1000
MET_AT_ONCE = 1000  # addresses of a sitemap that are noted in one transaction


class Revalidation:
    """Answers from the store what this crawl has asked already; asks for the rest with ETag and Last-Modified."""

    def __init__(self, crawler: Any) -> None:
        self.crawler = crawler

    @classmethod
    def from_crawler(cls, crawler: Any) -> "Revalidation":
        return cls(crawler)

    @property
    def _spider(self) -> "PageSpider":
        return self.crawler.spider

    def process_request(self, request: Request) -> Response | None:
        if "asked" not in request.meta:  # robots.txt
            return None
        self._spider.store.begin_visit(request.meta["asked"], request.meta["depth_of_page"])
        kept = self._spider.store.page(request.url)
        if kept is None:
            return None
        if kept.checked >= self._spider.began:
            return _response(kept, request, "stored")
        for name, field in (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified")):
            value = header(kept.headers, field)
            if value:
                request.headers[name] = value
        return None

    def process_response(self, request: Request, response: Response) -> Response:
        store = self._spider.store
        if response.status == 304 and (kept := store.page(request.url)) is not None:
            store.confirm(request.url)
            return _response(kept, request, "unchanged")
        is_page = "asked" in request.meta  # robots.txt is not
        if is_page and response.status == 200 and not {"stored", "download_stopped"} & set(response.flags):
            store.keep(request.url, response.status, list(_pairs(response.headers)), response.body)
        return response


class PageSpider(SitemapSpider):
    """Follows links from the starts, breadth first, and the sitemaps; notes what became of each address."""

    name = AGENT

    def __init__(self, source: CrawlSource, store: PageStore, began: float) -> None:
        super().__init__()
        self.source, self.store, self.began = source, store, began
        self.pages = self.bytes = 0
        self._sitemaps = 0
        self._reported = 0.0
        self._links = LinkExtractor(unique=True, canonicalize=False, tags=("a", "area"), strip=True)

    @classmethod
    def from_crawler(cls, crawler: Any, *arguments: Any, **named: Any) -> "PageSpider":
        spider = super().from_crawler(crawler, *arguments, **named)
        crawler.signals.connect(spider.headers_received, signals.headers_received)
        crawler.signals.connect(spider.broke, signals.spider_error)
        crawler.signals.connect(spider.repeated, signals.request_dropped)
        return spider

    async def start(self) -> AsyncIterator[Request]:
        for url in self.source.sitemaps:
            yield self._request(url, 0, self.parse_sitemap)
        for url in self.source.urls:
            yield self._request(url, 0, self.parse_page)

    def headers_received(self, headers: Headers, body_length: int, request: Request, spider: Any) -> None:
        """Not a byte more of what is not a page."""
        kinds = PAGES if request.callback == self.parse_page else (*PAGES, *SITEMAPS)
        if _content_type(headers) not in (*kinds, "") and not request.meta.get("dont_obey_robotstxt"):
            raise StopDownload(fail=False)

    def parse_page(self, response: Any) -> Iterator[Request]:
        url, depth = response.meta["asked"], response.meta["depth_of_page"]
        problem = self._problem(response)
        if problem and response.status in NOT_NOW:
            self._without_answer(url, response.url, problem[1], depth)
            return
        if problem:
            self._note(url, *problem, depth)
            return
        if self.pages >= self.source.max_pages or self.bytes >= self.source.max_bytes:  # was under way at the end
            self._note(url, "left out", "the crawl had met its limit", depth)
            return
        outcome = UNCHANGED if {"unchanged", "stored"} & set(response.flags) and not self._is_new(response) else FETCHED
        self.pages, self.bytes = self.pages + 1, self.bytes + len(response.body)
        self._note(url, outcome, "", depth, response.url)
        self._report()
        self._check_limits(response, depth)
        if isinstance(response, HtmlResponse):
            yield from self._followed(response, depth)

    def _check_limits(self, response: Any, depth: int) -> None:
        """Raise CloseSpider where the crawl has met a limit; where its last page leads is noted."""
        for limit, count in (("max_pages", self.pages), ("max_bytes", self.bytes)):
            if count >= getattr(self.source, limit):
                if isinstance(response, HtmlResponse):
                    self._wanted_links(response, depth)
                raise CloseSpider(limit)

    def parse_sitemap(self, response: Any) -> Iterator[Request]:
        """Pages of a sitemap (sitemaps.org), and of the sitemaps that an index names."""
        asked = response.meta["asked"]
        if response.status != 200:
            self._note(asked, "failed", f"HTTP {response.status}", 0)
            return
        body = self._get_sitemap_body(response)
        entries = Sitemap(body) if body else None
        if entries is None or entries.type not in ("urlset", "sitemapindex"):
            self._note(asked, "failed", "not a sitemap", 0)
            return
        self._note(asked, "sitemap", "it names no page", 0)
        named = left_out = 0
        met: list[str] = []
        for entry in entries:
            url = str(entry["loc"])
            named += 1
            if entries.type == "urlset":
                met.append(url)
            if len(met) >= MET_AT_ONCE:
                self._meet(met)
                met.clear()
            if entries.type == "sitemapindex":
                yield from self._further_sitemap(url)
            elif not self._rules.why_not(url):
                yield self._request(url, 0, self.parse_page)
            else:
                left_out += 1
        self._meet(met)
        if named:
            reason = f"{left_out:,} of its {named:,} pages are left out by hosts, include or exclude"
            self._note(asked, "sitemap", reason if left_out else "", 0)

    def _further_sitemap(self, url: str) -> Iterator[Request]:
        self._sitemaps += 1
        if self._sitemaps <= MOST_SITEMAPS:
            yield self._request(url, 0, self.parse_sitemap)
        else:
            self._note(url, "left out", f"more than {MOST_SITEMAPS:,} sitemaps", 0)

    def broke(self, failure: Any, response: Any, spider: Any) -> None:
        """What we could not read is said, and not lost unseen."""
        self.store.broke(response.meta["asked"], f"it could not be read ({reason_of(failure.value)})")

    def repeated(self, request: Request, spider: Any) -> None:
        """A redirect to an address that was asked already is not asked again."""
        asked = request.meta.get("asked", request.url)
        if request.url != asked:
            self.store.led(asked, request.url)

    def failed(self, failure: Any) -> None:
        """An address that gave no answer; the page that it gave in the crawl before is kept, unless it is refused."""
        request = failure.request
        url, depth = request.meta["asked"], request.meta["depth_of_page"]
        reason = reason_of(failure.value)
        if isinstance(failure.value, IgnoreRequest):
            self._note(url, "refused", reason, depth)
        else:
            self._without_answer(url, request.url, reason, depth)

    def _without_answer(self, url: str, final: str, reason: str, depth: int) -> None:
        if self.store.page(final) is not None:
            self.pages += 1
            self._note(url, UNCHANGED, f"kept from before: {reason}", depth, final)
        else:
            self._note(url, "failed", reason, depth)

    def _followed(self, response: HtmlResponse, depth: int) -> Iterator[Request]:
        for url in self._wanted_links(response, depth):
            if self._rules.is_one_too_many(url):
                most = self.source.max_queries
                why = f"more than {most:,} addresses differ from it in their query alone (max_queries)"
                self.store.visit_once(Visit(urldefrag(url).url, "left out", why, depth + 1))
            else:
                yield self._request(url, depth + 1, self.parse_page)

    def _wanted_links(self, response: HtmlResponse, depth: int) -> list[str]:
        """The links of a page that the source wants; why others are not asked is noted."""
        links = self._links.extract_links(response)
        self._meet([link.url for link in links if not link.nofollow], depth + 1)
        self.store.met({urldefrag(link.url).url: "the link asks not to follow it" for link in links if link.nofollow})
        wanted = [link.url for link in links if not link.nofollow and not self._rules.why_not(link.url)]
        return wanted if depth < self.source.max_depth else []

    def _meet(self, urls: Iterable[str], depth: int = 0) -> None:
        """Note addresses before they are asked, each with why it will not be, if it will not."""
        deep = f"it is more than {self.source.max_depth} links from a start (max_depth)"
        late = deep if depth > self.source.max_depth else "the crawl ended before it was asked (its limits)"
        self.store.met({urldefrag(url).url: self._rules.why_not(url) or late for url in urls})

    @property
    def _rules(self) -> SiteRules:
        return next(one for one in self.crawler.engine.downloader.middleware.middlewares if isinstance(one, SiteRules))

    def _request(self, url: str, depth: int, callback: Any) -> Request:
        plain = urldefrag(url).url
        meta = {"asked": plain, "depth_of_page": depth, "handle_httpstatus_list": HANDLED}
        return Request(plain, callback, errback=self.failed, meta=meta, priority=-depth)

    def _is_new(self, response: Response) -> bool:
        """Whether the body came in this crawl: before it was cut off, where it comes from the store now."""
        kept = self.store.page(response.url)
        return kept is not None and kept.received >= self.began

    def _problem(self, response: Response) -> tuple[str, str] | None:
        if response.status in GONE:
            return "gone", f"HTTP {response.status}"
        if response.status != 200:
            return "failed", f"HTTP {response.status}"
        kind = _content_type(response.headers)
        if kind not in (*PAGES, ""):
            return "left out", f"{kind} is not a page"
        if not response.body.strip():
            return "left out", "empty page"
        if not isinstance(response, TextResponse):
            return "left out", "not text"
        return None

    def _note(self, url: str, outcome: str, reason: str, depth: int, final: str = "") -> None:
        self.store.visit(Visit(url, outcome, reason, depth, final))

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._reported >= REPORT_SECONDS:
            self._reported = now
            slot: Any = self.crawler.engine._slot
            waiting = len(slot.scheduler) if slot else 0
            _say({"pages": self.pages, "waiting": waiting, "bytes": self.bytes})


def crawl(source: CrawlSource, store: PageStore, began: float) -> str:
    """Crawl a source to its end; returns why it ended: `finished`, or the limit that it met."""
    process = CrawlerProcess(_settings(source), install_root_handler=False)
    crawler = process.create_crawler(PageSpider)
    process.crawl(crawler, source=source, store=store, began=began)
    process.start()
    return str(crawler.stats.get_value("finish_reason"))


def _settings(source: CrawlSource) -> dict[str, Any]:
    starts = {urlsplit(url).hostname or "" for url in (*source.urls, *source.sitemaps)}
    package = "tasks.fetch"
    settings = {
        "LLMILL_HOSTS": frozenset({*starts, *source.hosts}),
        "LLMILL_PRIVATE": source.allow_private,
        "LLMILL_INCLUDE": source.include,
        "LLMILL_EXCLUDE": source.exclude,
        "LLMILL_QUERIES": source.max_queries,
        "USER_AGENT": user_agent(source.contact),
        "ROBOTSTXT_OBEY": True,
        "ROBOTSTXT_USER_AGENT": AGENT,
        "DOWNLOADER_MIDDLEWARES": {
            f"{package}.politeness.SiteRules": 50,
            "scrapy.downloadermiddlewares.robotstxt.RobotsTxtMiddleware": None,
            f"{package}.politeness.Robots": 100,
            f"{package}.politeness.Busy": 110,
            f"{package}.crawler.Revalidation": 585,  # behind the decompression
        },
        "CONCURRENT_REQUESTS_PER_DOMAIN": 1,
        "DOWNLOAD_DELAY": max(source.delay_seconds, SHORTEST_DELAY_SECONDS),
        "DOWNLOAD_DELAY_JITTER": 0.0,
        "DOWNLOAD_TIMEOUT": source.timeout_seconds,
        "DOWNLOAD_MAXSIZE": source.max_page_bytes,
        "DOWNLOAD_WARNSIZE": 0,
        "DOWNLOAD_VERIFY_CERTIFICATES": True,
        "CLOSESPIDER_TIMEOUT": 60 * source.max_minutes,
        "REDIRECT_MAX_TIMES": 5,
        "METAREFRESH_ENABLED": False,
        "COOKIES_ENABLED": False,
        "SCHEDULER_MEMORY_QUEUE": "scrapy.squeues.FifoMemoryQueue",  # breadth first
        "TELNETCONSOLE_ENABLED": False,
        "LOG_LEVEL": "ERROR",
        "LOG_SHORT_NAMES": True,
    }
    if not source.allow_private:
        settings["TWISTED_DNS_RESOLVER"] = f"{package}.politeness.PublicResolver"
    return settings


def _content_type(headers: Any) -> str:
    value = headers.get("Content-Type") or b""
    return value.decode("latin-1").partition(";")[0].strip().lower()


def _pairs(headers: Headers) -> Iterator[tuple[str, str]]:
    for name, values in headers.items():
        for value in values or ():
            yield name.decode("latin-1").lower(), value.decode("latin-1")


def _response(kept: StoredPage, request: Request, flag: str) -> Response:
    """A stored answer as Scrapy's, of the class that its headers and body say."""
    from scrapy.responsetypes import responsetypes

    headers = Headers([(name, value) for name, value in kept.headers if name not in ("content-encoding",)])
    kind = responsetypes.from_args(headers=headers, url=kept.url, body=kept.body)
    return kind(kept.url, status=kept.status, headers=headers, body=kept.body, flags=[flag], request=request)


def _say(line: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    except OSError:  # our parent is gone: the crawl is cut off, and has not come to its end
        os._exit(1)


def main(arguments: list[str]) -> None:
    """Carry out a job: `source` as the recipe has it, `store` and `crawl` as crawl.py gives them."""
    job = json.loads(Path(arguments[0]).read_bytes())
    source = CrawlSource.model_validate(job["source"])
    with PageStore(Path(job["store"])) as store:
        began = store.begin(job["crawl"])
        end = crawl(source, store, began)
        if end != "shutdown":
            store.end(job["crawl"])
        _say({"end": end})


if __name__ == "__main__":
    main(sys.argv[1:])
