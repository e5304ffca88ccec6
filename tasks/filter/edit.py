"""What the filter changes in a text before it is judged: C4's line rules, citation marks, personal data.

C4's rules (Raffel et al. 2020, section 2.2; the code of TensorFlow Datasets and datatrove) work line by line. Empty
lines stay where they separate what is left, so that paragraphs survive. What they take of a document is counted, so
that a document which fails for want of text is put down to the line rule that took it.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from tasks.filter.interface import is_interface
from tasks.filter.phones import countries_of
from tasks.filter.quality import ELLIPSES, ends_a_sentence, sentence_count
from tasks.filter.redact import KINDS, Found, redacted_spans
from tasks.words import cutter

LINE_RULES = (
    "line_phrases",
    "line_interface",
    "line_terminal_punctuation",
    "line_min_words",
    "line_max_word_characters",
)

_CITATION = re.compile(r"\[(?:[0-9]{1,4}|edit|citation needed)\]", re.IGNORECASE)
_PHRASES = re.compile(
    r"javascript|terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies", re.IGNORECASE
)
_PHRASES_HOLD = ("javascript", "terms of use", "privacy policy", "cookie")  # in small letters: one is in each phrase
_FOLDED_LETTERS = "ıİſ"  # what a pattern without case takes for an i or an s, and `str.lower` does not
_BLANK_LINES = re.compile(r"\n{3,}")


def edit(text: str, config: Mapping[str, Any], stated: str = "") -> tuple[str, dict[str, Any]]:
    """The edited text and what was done to it; `stated` is the language that the source states, if any.

    Counts of lines removed and of replacements by kind; words and sentences of the lines removed, and `line_rule`, the
    rule that took most words of them (empty where none was removed); `redactions`, what was replaced
    where in the text as it was given.
    """
    given, text = text, _CITATION.sub("", text) if config["remove_citations"] else text
    unmarked, lines, cut = len(text), text.split("\n"), cutter(text)
    config = {**config, "line_phrases": config["line_phrases"] and _may_hold_phrases(text)}
    failed = [_failed_rule(stripped, config, cut) if (stripped := line.strip()) else "" for line in lines]
    taken = Counter[str]()
    removed = [line for line, rule in zip(lines, failed, strict=True) if rule]
    if removed:
        for line, rule in zip(lines, failed, strict=True):
            if rule:
                taken[rule] += len(cut(line))
        text = "\n".join(line for line, rule in zip(lines, failed, strict=True) if not rule)
        text = _BLANK_LINES.sub("\n\n", text).strip("\n")
    regions = tuple(config["phone_regions"]) or countries_of(stated)
    text, found = redacted_spans(text, tuple(config["redact"]), regions, config["redact_with"] == "stand-ins")
    if found and removed:
        found = _before_line_rules(found, lines, failed)
    if found and unmarked < len(given):
        found = _moved(found, [match.span() for match in _CITATION.finditer(given)])
    replaced = Counter(one.kind for one in found)
    done: dict[str, Any] = {f"{kind}s_redacted": replaced[kind] for kind in KINDS}
    return text, done | {
        "lines_removed": len(removed),
        "words_removed": taken.total(),
        "sentences_removed": sentence_count("\n".join(removed)) if removed else 0,
        "line_rule": taken.most_common(1)[0][0] if taken else "",
        "redactions": found,
    }


def _before_line_rules(found: Sequence[Found], lines: Sequence[str], failed: Sequence[str]) -> list[Found]:
    """Spans of what the line rules have left, as spans of the text that they read."""
    left = "\n".join(line for line, rule in zip(lines, failed, strict=True) if not rule)
    leading = len(left) - len(left.lstrip("\n"))
    ends = [(match.start() + 2, match.end()) for match in _BLANK_LINES.finditer(left) if match.start() >= leading]
    starts = accumulate((len(line) + 1 for line in lines), initial=0)
    cuts = [(start, start + len(line) + 1) for start, line, rule in zip(starts, lines, failed, strict=False) if rule]
    return _moved(_moved(found, [(0, leading), *ends]), cuts)


def _moved(found: Sequence[Found], cuts: Sequence[tuple[int, int]]) -> list[Found]:
    """Spans of a text, as spans of the one from which the cuts were taken; both ascend."""
    moved, number, shift = [], 0, 0
    for one in found:
        places = []
        for place in (one.start, one.end - 1):
            while number < len(cuts) and cuts[number][0] <= place + shift:
                shift += cuts[number][1] - cuts[number][0]
                number += 1
            places.append(place + shift)
        moved.append(Found(places[0], places[1] + 1, one.kind))
    return moved


def _may_hold_phrases(text: str) -> bool:
    """Whether a line may hold one of the phrases: the pattern, line by line, costs as much as all else here."""
    lowered = text.lower()
    return any(phrase in lowered for phrase in _PHRASES_HOLD) or any(letter in text for letter in _FOLDED_LETTERS)


def _failed_rule(line: str, config: Mapping[str, Any], cut: Callable[[str], list[str]]) -> str:
    """The first line rule that a line, stripped, fails; empty where it stays. `cut` parts it into words."""
    if config["line_phrases"] and _PHRASES.search(line):
        return "line_phrases"
    if config["line_interface"] and is_interface(line, cut(line)):
        return "line_interface"
    if config["line_terminal_punctuation"] and (not ends_a_sentence(line) or line.endswith(ELLIPSES)):
        return "line_terminal_punctuation"
    min_words, max_characters = config["line_min_words"], config["line_max_word_characters"]
    if min_words is not None and _is_shorter(line, min_words, cut):
        return "line_min_words"
    if max_characters is not None and len(line) > max_characters and max(map(len, cut(line))) > max_characters:
        return "line_max_word_characters"
    return ""


def _is_shorter(line: str, min_words: int, cut: Callable[[str], list[str]]) -> bool:
    """Whether a line, stripped, has fewer words; where white space parts them it is read no further than there."""
    return len(line.split(None, min_words) if cut is str.split else cut(line)) < min_words
