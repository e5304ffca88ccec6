"""Signals of Gopher's quality rules (arXiv 2112.11446, A.1), of C4's document rules and of FineWeb's line rules.

Words and sentences are those of `tasks/words.py`: where punctuation marks count as words of their own, the rule that
80 % of words hold a letter drops one clean novel in seven. Lines without text do not count. Stop words are matched as
written, small letters only, as in datatrove and dolma, and by the language of the text.

Word lengths and line breaks are by the words that a reader would count; line breaks are those between lines that hold
text, so that blank lines between paragraphs are none (web pages as datatrove extracts them have no blank lines).

The rules were made for Latin type. Elsewhere a line ends with the end marks of its script, and with any letter where
no mark ends a sentence (Thai, Lao); in Chinese and Japanese, where a line of 30 characters is not short, 8 are as
many words.
"""

import re
from collections.abc import Sequence
from itertools import filterfalse

from tasks.filter.languages import stop_words_in
from tasks.words import END_MARKS, ETHIOPIC_SPACE, HAN_LETTERS, ends_by_space, is_european, sentences

BULLETS = ("•", "‣", "▪", "●", "-", "*")
ELLIPSES = ("...", "…")
TERMINAL_PUNCTUATION = frozenset(END_MARKS + ETHIOPIC_SPACE + "\"'”’»」』》】")
SHORT_LINE_CHARACTERS = 30
SHORT_LINE_LETTERS = 8  # where each letter is a word

_SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*(?=\s|$)")
_FIRST_PICTOGRAM = "\u25ff"
_PICTOGRAMS_BEHIND = re.compile("[\\s\u2600-\u27bf\ufe0f\u200d\U0001f000-\U0001faff]+$")  # and what joins them
_OTHER_END_MARKS = "".join(sorted(set(END_MARKS) - set(".!?…")))
_OTHER_SENTENCE_END = re.compile(f"[{_OTHER_END_MARKS}]+|{ETHIOPIC_SPACE}{{2,}}")


def ends_a_sentence(line: str) -> bool:
    """Whether a stripped line that holds text ends as a sentence does in its script; a pictogram may stand behind."""
    if line[-1] > _FIRST_PICTOGRAM:
        line = _PICTOGRAMS_BEHIND.sub("", line) or line
    return line[-1] in TERMINAL_PUNCTUATION or (not line.isascii() and ends_by_space(line[-3:]))  # a letter, two marks


def sentence_count(text: str) -> int:
    """Number of sentences that are ended: by an end mark of any script, by a space in Thai and its like."""
    count = len(_SENTENCE_END.findall(text))
    if is_european(text):
        return count
    if ends_by_space(text):
        return sum(1 for _ in sentences(text))
    others = any(mark in text for mark in (*_OTHER_END_MARKS, ETHIOPIC_SPACE))  # each a fast search
    return count + (len(_OTHER_SENTENCE_END.findall(text)) if others else 0)


def _alphabetic(words: Sequence[str]) -> int:
    """How many words hold a letter."""
    others = [word for word in filterfalse(str.isalpha, words) if not word[0].isalpha()]
    return len(words) - len([word for word in others if not any(map(str.isalpha, word))])


def quality_signals(
    text: str, words: Sequence[str], lines: Sequence[str], letters: float, language: str
) -> dict[str, float | None]:
    """Counts, ratios to words, and shares of words or lines. `lines` are the stripped lines that hold text.

    `letters` as `tasks.words.letters_a_word` says. `stop_words` is None where the language has no list of them.
    """
    word_count, line_count = max(len(words), 1), max(len(lines), 1)
    short = SHORT_LINE_LETTERS if letters == HAN_LETTERS else SHORT_LINE_CHARACTERS
    return {
        "words": len(words),
        "mean_word_length": letters * sum(map(len, words)) / word_count,
        "hashes_per_word": text.count("#") / word_count,
        "ellipses_per_word": sum(text.count(mark) for mark in ELLIPSES) / word_count,
        "bullet_lines": sum(line.startswith(BULLETS) for line in lines) / line_count,
        "ellipsis_lines": sum(line.endswith(ELLIPSES) for line in lines) / line_count,
        "alphabetic_words": _alphabetic(words) / word_count,
        "stop_words": stop_words_in(text, words, language),
        "sentences": sentence_count(text),
        "lorem_ipsum": text.lower().count("lorem ipsum"),
        "curly_brackets": text.count("{"),
        "punctuated_lines": sum(map(ends_a_sentence, lines)) / line_count,
        "short_lines": sum(len(line) < short for line in lines) / line_count,
        "newlines_per_word": letters * max(len(lines) - 1, 0) / word_count,
    }
