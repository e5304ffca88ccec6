"""Versions of the libraries that decide the text of some sources only.

What every recipe depends on stands in the stage's `libraries`. A recipe without a dump must not be built anew for a new
parser of wikitext, so these are observed with the sources that need them, and the jobs that use them name them.
"""

import importlib.metadata
from collections.abc import Iterable

PAGES = ("trafilatura", "lxml", "lxml_html_clean", "resiliparse", "charset-normalizer")
WARC = ("fastwarc", *PAGES)
WIKITEXT = ("mwparserfromhell",)


def versions(names: Iterable[str]) -> dict[str, str]:
    """The installed version of each library."""
    return {name: importlib.metadata.version(name) for name in names}
