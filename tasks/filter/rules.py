"""Thresholds on columns: which documents each rule drops, and the first that does."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.filter.config import FilterConfig

# In the order in which they judge: a dropped document is put down to the first rule that it fails.
RULES = (
    "min_words",  # before the language, of which a few words tell little
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
    "min_sentences",
    "max_lorem_ipsum",
    "max_curly_brackets",
    "min_punctuated_lines",
    "max_short_lines",
    "max_newlines_per_word",
)
EMPTY = "empty"  # the last rule, not to be switched off: editing has left nothing


@dataclass(frozen=True)
class Verdicts:
    """The rows dropped (ascending), the first rule that each failed, its value and its threshold."""

    rows: npt.NDArray[np.int64]
    rules: list[str]
    values: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]


def judge(config: FilterConfig, signals: pa.Table) -> Verdicts:
    """Apply the thresholds to the signals of a shard."""
    names = [rule for rule in RULES if getattr(config, rule) is not None]
    checks: list[tuple[str, str, float]] = []
    for rule in names:
        side, _, signal = rule.partition("_")
        checks.append((side, signal, float(getattr(config, rule))))
    checks.append(("min", "bytes", 1.0))
    first = np.full(len(signals), -1)
    values, thresholds = np.zeros(len(signals)), np.zeros(len(signals))
    for number, (side, signal, threshold) in enumerate(checks):
        column = signals[signal].to_numpy().astype(np.float64)
        failed = (column < threshold if side == "min" else column > threshold) & (first < 0)
        first[failed], values[failed], thresholds[failed] = number, column[failed], threshold
    rows = np.flatnonzero(first >= 0)
    named = [*names, EMPTY]
    return Verdicts(rows, [named[number] for number in first[rows]], values[rows], thresholds[rows])
