"""What a recipe can set for what is fetched: the remote sources of its section `collect`."""

import re
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from storage.addresses import LOOPBACK
from tasks.engine.config import StageConfig
from tasks.fetch.address_forms import (
    COMMON_CRAWL,
    DATASET,
    PATH_RULE,
    fetched_address,
    named_dataset,
    named_host,
    path_rule,
)

SourceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Address = Annotated[
    str, StringConstraints(pattern=r"^https?://[^\s/]+\S*$", max_length=2000), BeforeValidator(fetched_address)
]
Host = Annotated[str, BeforeValidator(named_host)]
PathRule = Annotated[str, StringConstraints(pattern=PATH_RULE, max_length=500), BeforeValidator(path_rule)]

_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")

REFRESH_HOURS = Field(
    None,
    gt=0,
    le=24 * 366,
    description="Hours after which a run asks the source again for what has changed; empty: only --force fetch does.",
)


class CrawlSource(StageConfig):
    """Pages of web sites, crawled politely: robots.txt is obeyed, one request at a time to each host."""

    name: SourceName = Field("web", description="Name of this source in documents, ledgers and figures.")
    urls: tuple[Address, ...] = Field((), description="Addresses where the crawl starts; it stays on their hosts.")
    sitemaps: tuple[Address, ...] = Field((), description="Addresses of sitemaps whose pages are fetched.")
    hosts: tuple[Host, ...] = Field((), description="Further hosts whose pages are fetched where a link leads to them.")
    include: tuple[PathRule, ...] = Field(
        (), description="Paths that are fetched, such as /docs/* (* is any text); empty: all. Starts always are."
    )
    exclude: tuple[PathRule, ...] = Field((), description="Paths that are not fetched, such as /search*.")
    allow_private: bool = Field(
        False, description="Fetch from this machine and private networks too; otherwise such addresses are refused."
    )
    max_pages: int = Field(1000, ge=1, le=10_000_000, description="Most pages that are kept.")
    max_depth: int = Field(10, ge=0, le=1000, description="Most links from a start to a page; 0: the starts alone.")
    max_queries: int = Field(
        100,
        ge=1,
        le=10_000_000,
        description="Most addresses of a path that differ in their query (?...) alone; more are a calendar, a trap.",
    )
    max_bytes: int = Field(2**30, ge=1, le=2**44, description="Most bytes of all pages; the crawl ends there.")
    max_page_bytes: int = Field(10 * 2**20, ge=1, le=2**30, description="Most bytes of one page; a longer one is left.")
    max_minutes: float = Field(60.0, gt=0, le=60 * 24 * 31, description="Minutes after which the crawl ends.")
    delay_seconds: float = Field(
        1.0, ge=0, le=3600, description="Seconds between two requests to a host, at least; a longer crawl-delay counts."
    )
    timeout_seconds: float = Field(30.0, gt=0, le=3600, description="Seconds that one answer may take, whole.")
    contact: str = Field(
        "", max_length=200, description="Address of a page or mailbox that the crawler names as yours (User-Agent)."
    )
    refresh_hours: float | None = REFRESH_HOURS

    @model_validator(mode="after")
    def _has_a_start(self) -> Self:
        if not self.urls and not self.sitemaps:
            raise ValueError("no start: give urls or sitemaps")
        for address in (*self.urls, *self.sitemaps):
            if "@" in urlsplit(address).netloc:
                raise ValueError(f"{address.partition('//')[0]}//...: a recipe holds no passwords; leave user@ out")
            if urlsplit(address).hostname in LOOPBACK and not self.allow_private:
                raise ValueError(f"{address} is on this machine: set allow_private to fetch from it")
        return self


class HuggingFaceSource(StageConfig):
    """Files of a data set of the Hugging Face hub, at one commit.

    A token, where one is needed, is that of the environment (HF_TOKEN); a recipe holds none.
    """

    name: SourceName = Field("huggingface", description="Name of this source in documents, ledgers and figures.")
    dataset: Annotated[str, BeforeValidator(named_dataset)] = Field(
        pattern=DATASET,
        description="Data set as its page names it: OWNER/NAME.",
    )
    config: str = Field(
        "", max_length=200, description="Config (subset) of the data set; empty: the only one, or `default`."
    )
    split: str = Field(
        "train", pattern=r"^[A-Za-z0-9_.-]{1,100}$", description="Split of the data set whose files are fetched."
    )
    revision: str = Field(
        "main",
        pattern=r"^[A-Za-z0-9_./-]{1,200}$",
        description="Branch, tag or commit; only a commit stays the same. refs/convert/parquet: the hub's conversion.",
    )
    files: tuple[str, ...] = Field((), description="Globs of the files to fetch, instead of those of config and split.")
    total_bytes: int | None = Field(
        None, ge=0, le=2**50, description="Bytes of these files, as its page states them, for the plan; empty: unknown."
    )
    refresh_hours: float | None = REFRESH_HOURS

    def identity(self) -> dict[str, Any]:
        """Without what only the plan reads."""
        found = super().identity()
        del found["total_bytes"]
        return found

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"source {self.name} (data set {self.dataset})"

    @model_validator(mode="before")
    @classmethod
    def _no_token(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, dict) else ():
            if "token" in str(name).lower() or (isinstance(value, str) and _TOKEN.search(value)):
                raise ValueError("a recipe holds no token: take it out, and set HF_TOKEN in the environment")
        return values


class DownloadSource(StageConfig):
    """Files by their addresses, and lists of them."""

    name: SourceName = Field("files", description="Name of this source in documents, ledgers and figures.")
    urls: tuple[Address, ...] = Field((), description="Addresses of files, instead of `path`.")
    lists: tuple[Address, ...] = Field(
        (), description="Addresses of lists of files (warc.paths.gz), a path a line, instead of `path`."
    )
    base: Address = Field(COMMON_CRAWL, description="Address that the paths of lists are relative to.")
    max_files: int = Field(1, ge=1, le=1_000_000, description="Most files of each list; the first ones are taken.")
    allow_private: bool = Field(
        False, description="Fetch from this machine and private networks too; otherwise such addresses are refused."
    )


class FetchConfig(StageConfig):
    """All remote sources of a recipe."""

    web: tuple[CrawlSource, ...] = Field((), description="Web sites.")
    huggingface: tuple[HuggingFaceSource, ...] = Field((), description="Data sets of the Hugging Face hub.")

    files: tuple[DownloadSource, ...] = Field((), description="Files by their addresses.")

    @property
    def sources(self) -> bool:
        """Whether there is anything to fetch."""
        return bool(self.web or self.huggingface or self.files)
