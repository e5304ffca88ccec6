"""Versions of the libraries that decide the text of some sources only.

What every recipe depends on stands in the stage's `libraries`. A recipe without a dump must not be built anew for a new
parser of wikitext, so these are observed with the sources that need them, and the jobs that use them name them.
"""

import importlib.metadata
from collections.abc import Iterable

from tasks.collect.config import FilesSource
from tasks.collect.discover import ARCHIVES, DOCUMENT_FORMATS, kind_of

PAGES = ("trafilatura", "lxml", "lxml_html_clean", "resiliparse", "charset-normalizer")
WARC = ("fastwarc", *PAGES)
WIKITEXT = ("mwparserfromhell",)

_PAGES = ("lxml", "charset-normalizer")
_BY_FORMAT = {
    **dict.fromkeys(("html", "xhtml", "xml", "eml", "epub"), _PAGES),
    **{"pdf": ("pypdfium2",), "docx": ("python-docx",)},
}
_EXTRACTED = ("html", "xhtml", "xml", "eml")  # by the extractor of the source


def versions(names: Iterable[str]) -> dict[str, str]:
    """The installed version of each library."""
    return {name: importlib.metadata.version(name) for name in names}


def libraries_of(source: FilesSource, names: Iterable[str]) -> dict[str, str]:
    """Name -> version of what decides the text of a source's files; empty where it is our own code alone."""
    formats = {kind.format for kind in map(kind_of, names) if kind is not None}
    if not formats.isdisjoint(ARCHIVES):  # what they hold shows when they are read
        formats.update(DOCUMENT_FORMATS)
    used = {library for name in formats for library in _BY_FORMAT.get(name, ())}
    if not formats.isdisjoint(_EXTRACTED):
        used |= {source.pages.extractor, "lxml"}
    if source.repairs:
        used.add("ftfy")
    return versions(sorted(used))
