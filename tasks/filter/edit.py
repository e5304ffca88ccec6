"""What the filter changes in a text before it is judged: C4's line rules, citation marks, personal data.

C4's rules (Raffel et al. 2020, section 2.2; the code of TensorFlow Datasets and datatrove) work line by line. Empty
lines stay where they separate what is left, so that paragraphs survive.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.filter.quality import ELLIPSES, TERMINAL_PUNCTUATION
from tasks.filter.redact import redact

_CITATION = re.compile(r"\[(?:[0-9]{1,4}|edit|citation needed)\]", re.IGNORECASE)
_PHRASES = re.compile(
    r"javascript|terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies", re.IGNORECASE
)
_BLANK_LINES = re.compile(r"\n{3,}")


def edit(text: str, config: Mapping[str, Any]) -> tuple[str, dict[str, int]]:
    """The edited text and what was done to it: counts of lines removed and of replacements by kind."""
    if config["remove_citations"]:
        text = _CITATION.sub("", text)
    lines = text.split("\n")
    kept = list(_kept_lines(lines, config))
    if len(kept) < len(lines):
        text = _BLANK_LINES.sub("\n\n", "\n".join(kept)).strip("\n")
    text, replaced = redact(text, tuple(config["redact"]))
    counts = {"lines_removed": len(lines) - len(kept)}
    counts |= {f"{kind}s_redacted": replaced.get(kind, 0) for kind in ("email", "phone", "ip")}
    return text, counts


def _kept_lines(lines: list[str], config: Mapping[str, Any]) -> Iterator[str]:
    min_words, max_characters = config["line_min_words"], config["line_max_word_characters"]
    for line in lines:
        stripped = line.strip()
        if not stripped:
            yield line
            continue
        if config["line_phrases"] and _PHRASES.search(stripped):
            continue
        if config["line_terminal_punctuation"] and (
            not stripped.endswith(TERMINAL_PUNCTUATION) or stripped.endswith(ELLIPSES)
        ):
            continue
        if min_words is not None or max_characters is not None:
            words = stripped.split()
            if min_words is not None and len(words) < min_words:
                continue
            if max_characters is not None and max(map(len, words)) > max_characters:
                continue
        yield line
