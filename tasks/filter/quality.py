"""Signals of Gopher's quality rules (arXiv 2112.11446, A.1), of C4's document rules and of FineWeb's line rules.

A word is a run between white space: where punctuation marks count as words of their own, the rule that 80 % of
words hold a letter drops one clean novel in seven. Lines without text do not count. Stop words are matched as
written, small letters only, as in datatrove and dolma.
"""

import re
from collections.abc import Sequence

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
BULLETS = ("•", "‣", "▪", "●", "-", "*")
ELLIPSES = ("...", "…")
TERMINAL_PUNCTUATION = (".", "!", "?", '"', "'", "”", "’", "…", "。", "！", "？")
SHORT_LINE_CHARACTERS = 30

_SENTENCE_END = re.compile(r"[.!?。！？][\"'”’)\]]*(?=\s|$)")


def quality_signals(text: str, words: Sequence[str], lines: Sequence[str]) -> dict[str, float]:
    """Counts, ratios to words, and shares of words or lines. `lines` are the stripped lines that hold text."""
    word_count, line_count = max(len(words), 1), max(len(lines), 1)
    return {
        "words": len(words),
        "mean_word_length": sum(map(len, words)) / word_count,
        "hashes_per_word": text.count("#") / word_count,
        "ellipses_per_word": sum(text.count(mark) for mark in ELLIPSES) / word_count,
        "bullet_lines": sum(line.startswith(BULLETS) for line in lines) / line_count,
        "ellipsis_lines": sum(line.endswith(ELLIPSES) for line in lines) / line_count,
        "alphabetic_words": sum(word.isalpha() or any(map(str.isalpha, word)) for word in words) / word_count,
        "stop_words": len(STOP_WORDS.intersection(words)),
        "sentences": len(_SENTENCE_END.findall(text)),
        "lorem_ipsum": text.lower().count("lorem ipsum"),
        "curly_brackets": text.count("{"),
        "punctuated_lines": sum(line.endswith(TERMINAL_PUNCTUATION) for line in lines) / line_count,
        "short_lines": sum(len(line) < SHORT_LINE_CHARACTERS for line in lines) / line_count,
        "newlines_per_word": text.count("\n") / word_count,
    }
