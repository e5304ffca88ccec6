"""What a page says of itself: title, language, licence, day, address. From its head and marks, never guessed."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

TITLE_CHARACTERS = 300
_DAY = re.compile(r"((?:19|20)\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?=[-_]|$)")
_TITLES = ("og:title", "dc.title", "citation_title", "twitter:title")
_DAYS = (
    *("article:published_time", "citation_publication_date", "dc.date.issued", "dcterms.created", "dcterms.date"),
    *("datepublished", "dc.date", "date", "pubdate", "publishdate", "parsely-pub-date", "article:modified_time"),
)
_LICENSES = ("dcterms.license", "dc.rights.license", "dcterms.rights", "dc.rights", "license")


@dataclass(frozen=True, slots=True)
class Facts:
    """Each empty where the page does not say it."""

    title: str
    lang: str
    license: str
    date: str
    url: str


def facts_of(tree: Any, url: str) -> Facts:
    """The facts of a parsed page; addresses are made whole by `url`, which is also the page's, where it is given."""
    metas = {name.lower(): value for name, value in _metas(tree)}
    found = next(_jsons(tree), {})
    titles = [*(metas.get(name, "") for name in _TITLES), *_titles(tree)]
    license_links = [
        href
        for href in tree.xpath("//*[self::a or self::link or self::area][@rel]/@href")
        if "license" in (href.getparent().get("rel") or "").lower().split()
    ]
    days = [*(metas.get(name, "") for name in _DAYS), str(found.get("datePublished", ""))]
    days += tree.xpath("//time[@pubdate]/@datetime | //article//time/@datetime")
    canonical = tree.xpath("//link[@rel='canonical']/@href")
    return Facts(
        title=_first(" ".join(title.split())[:TITLE_CHARACTERS] for title in titles),
        lang=_first(
            map(
                _language,
                [
                    *tree.xpath("/html/@lang | /html/@*[name()='xml:lang']"),
                    metas.get("content-language", ""),
                    metas.get("og:locale", ""),
                ],
            )
        ),
        license=_first(
            [
                *(_joined(url, link) for link in license_links),
                str(found.get("license", "") or ""),
                *(metas.get(name, "") for name in _LICENSES),
            ]
        ),
        date=_first(map(_day, days)),
        url=url or _first(link for link in canonical if urlsplit(link).scheme in ("http", "https")),
    )


def _first(values: Any) -> str:
    return next((value for value in values if value), "")


def _metas(tree: Any) -> Iterator[tuple[str, str]]:
    """Name and content of the head's meta elements, the first of a name last, so that it counts."""
    for meta in reversed(tree.xpath("//meta[@content]")):
        name = meta.get("property") or meta.get("name") or meta.get("itemprop") or meta.get("http-equiv")
        if name:
            yield name, meta.get("content").strip()


def _titles(tree: Any) -> list[str]:
    """The heading that the title begins with, which goes on with the name of the site; the title; any heading."""
    title, heading = (
        " ".join("".join("".join(element.itertext()) for element in tree.xpath(path)[:1]).split())
        for path in ("//title", "//h1")
    )
    return [heading if title.startswith(heading) else "", title, heading]


def _jsons(tree: Any) -> Iterator[dict[str, Any]]:
    """The objects of JSON-LD that say when something was published."""
    for text in tree.xpath("//script[@type='application/ld+json']/text()"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        waiting = [value]
        while waiting:
            one = waiting.pop(0)
            if isinstance(one, list):
                waiting += one
            elif isinstance(one, dict):
                if isinstance(one.get("datePublished"), str):
                    yield one
                waiting += [one["@graph"]] if isinstance(one.get("@graph"), list) else []


def _language(text: str) -> str:
    found = _LANGUAGE.match(text.strip())
    return found[0].lower() if found else ""


def _day(text: str) -> str:
    found = _DAY.match(text.strip())
    return f"{found[1]}-{found[2]}-{found[3]}" if found else ""


def _joined(url: str, link: str) -> str:
    try:
        return urljoin(url, link.strip()) if url else link.strip()
    except ValueError:  # an address that is none
        return link.strip()
