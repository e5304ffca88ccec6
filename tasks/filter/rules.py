"""Thresholds on columns: which documents each rule drops, and the first that does.

The rules for word lengths are widened for languages whose words are shorter or longer than English ones (languages.py).
With `limits_by_language` a limit is one for English, and moves for another language as FineWeb-2's published limits do
(published.py); for a language without published ones it stands as it is. A document that has nothing left, or too few
words or sentences only since lines were removed, is put down to the line rule that took most of them: the setting to
change is that one.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.filter import published
from tasks.filter.config import FilterConfig
from tasks.filter.languages import widening

# In the order in which they judge: a dropped document is put down to the first rule that it fails.
RULES = (
    "max_blocked_url",
    "max_url_words",
    "min_words",  # before the language, which a few words hardly show
    "max_words",
    "min_language_score",
    "min_mean_word_length",
    "max_mean_word_length",
    "max_hashes_per_word",
    "max_ellipses_per_word",
    "max_bullet_lines",
    "max_ellipsis_lines",
    "min_alphabetic_words",
    "min_stop_words",
    "max_duplicate_lines",
    "max_duplicate_paragraphs",
    "max_duplicate_line_characters",
    "max_duplicate_paragraph_characters",
    "max_top_2_gram",
    "max_top_3_gram",
    "max_top_4_gram",
    "max_duplicate_5_grams",
    "max_duplicate_6_grams",
    "max_duplicate_7_grams",
    "max_duplicate_8_grams",
    "max_duplicate_9_grams",
    "max_duplicate_10_grams",
    "max_removed_words",
    "min_sentences",
    "max_lorem_ipsum",
    "max_curly_brackets",
    "min_punctuated_lines",
    "max_short_lines",
    "max_newlines_per_word",
    "min_quality",
    "min_bits_per_byte",
    "max_bits_per_byte",
)
WIDENED = ("min_mean_word_length", "max_mean_word_length")  # by the document's language, with any preset
LANGUAGE_RULES = (*WIDENED, "min_stop_words")
EMPTY = "empty"  # not to be switched off: there was no text, or editing other than of lines has left none


Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdicts:
    """The rows dropped (ascending), the first rule that each failed, its value and its threshold."""

    rows: npt.NDArray[np.int64]
    rules: list[str]
    values: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]


def threshold(rule: str, value: float, language: str, by_language: bool) -> float:
    """The threshold of a rule for a document of this language; `by_language`: move it as the published ones do."""
    if by_language and rule in published.RULES:
        limit = published.scaled(rule, value, language)
        if limit is not None:
            return limit
    if rule in WIDENED:
        return value * widening(language)[WIDENED.index(rule)]
    return value


def judge(config: FilterConfig, signals: pa.Table) -> Verdicts:
    """Apply the thresholds to the signals of a shard. Under a line rule the value is how many lines were removed."""
    count = len(signals)
    first = np.full(count, -1)
    values, thresholds = np.zeros(count), np.zeros(count)
    names: list[str] = []

    def drop(rule: str, failed: npt.NDArray[np.bool_], column: Numbers, limits: Numbers) -> None:
        failed = failed & (first < 0)
        first[failed], values[failed], thresholds[failed] = len(names), column[failed], limits[failed]
        names.append(rule)

    size, line_rules = _column(signals, "bytes"), np.array(signals["line_rule"].to_pylist(), dtype=object)
    removed, nothing = _column(signals, "lines_removed"), np.zeros(count)
    short = size == 0
    for signal in ("words", "sentences"):
        if (least := getattr(config, f"min_{signal}")) is not None:
            left = _column(signals, signal)
            short |= (left < least) & (left + _column(signals, f"{signal}_removed") >= least)
    for line_rule in sorted(set(line_rules) - {""}):
        drop(line_rule, short & (line_rules == line_rule), removed, nothing)
    drop(EMPTY, size == 0, size, np.ones(count))

    for rule in RULES:
        if (value := getattr(config, rule)) is not None:
            side, _, signal = rule.partition("_")
            column = _column(signals, signal)
            limits = _limits(rule, float(value), signals, config.limits_by_language)
            drop(rule, column < limits if side == "min" else column > limits, column, limits)
    rows = np.flatnonzero(first >= 0)
    return Verdicts(rows, [names[number] for number in first[rows]], values[rows], thresholds[rows])


def _limits(rule: str, value: float, signals: pa.Table, by_language: bool) -> Numbers:
    if rule not in (published.RULES if by_language else WIDENED):
        return np.full(len(signals), value)
    languages = signals["language"].to_pylist()
    limits = {language: threshold(rule, value, language, by_language) for language in set(languages)}
    return np.array([limits[language] for language in languages], np.float64)


def _column(signals: pa.Table, name: str) -> Numbers:
    """Values of a signal; null, which no rule judges, is not a number."""
    return signals[name].to_numpy().astype(np.float64)
