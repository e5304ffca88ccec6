"""Documents that a rule has kept without a judgement, since it knows too little of their language.

Three settings need more than a script: stop words need a list, limits by language published ones, and the phrases of
C4's line rule are English. Documents of other languages pass them. That is no loss, so it is said and not refused.
"""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from storage.documents import UNDETERMINED
from storage.listing import first_few
from tasks.filter import published
from tasks.filter.config import FilterConfig
from tasks.filter.languages import PROSE_WORDS

LEAST_SHARE = 0.02  # of the documents kept: fewer are not worth a sentence
MOST_LANGUAGES = 5  # named in one sentence
_SAID = {
    "min_stop_words": "not judged by min_stop_words, which has no list for",
    "limits_by_language": "judged by limits for English, since none are published for",
    "line_phrases": "searched by line_phrases for English phrases alone, though in",
}


class Unjudged:
    """Counts kept documents by language, for each setting that is in force and knows nothing of it."""

    def __init__(self, config: FilterConfig) -> None:
        self.kept = 0
        self.languages = {name: Counter[str]() for name in _SAID if getattr(config, name) not in (None, False)}

    def count(self, signals: pa.Table) -> None:
        """Add the documents kept of a shard."""
        self.kept += len(signals)
        languages = signals["language"]
        long = pc.greater_equal(signals["words"], PROSE_WORDS)
        chosen = {
            "min_stop_words": pc.and_(pc.is_null(signals["stop_words"]), long),
            "limits_by_language": pc.invert(pc.is_in(languages, pa.array(sorted(published.languages())))),
            "line_phrases": pc.not_equal(languages, "en"),
        }
        for name, counts in self.languages.items():
            counts.update(languages.filter(chosen[name]).to_pylist())

    def notices(self) -> list[str]:
        """A sentence for each of these settings that leaves LEAST_SHARE of the documents kept to the others."""
        return [
            f"filter: {counts.total():,} of {self.kept:,} documents kept were {_SAID[name]} {_listed(counts)}"
            for name, counts in self.languages.items()
            if counts and counts.total() >= LEAST_SHARE * self.kept
        ]


def _listed(counts: Counter[str]) -> str:
    """The languages with most documents first."""
    ordered = sorted(counts, key=lambda language: (-counts[language], language))
    named = [f"{'no known language' if name == UNDETERMINED else name} ({counts[name]:,})" for name in ordered]
    return ", ".join(first_few(named, MOST_LANGUAGES, "languages"))
