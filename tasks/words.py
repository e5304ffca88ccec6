"""Words and sentences of a text in any script.

Most scripts part words by white space, and a word is a run between white space. Chinese, Japanese, Yi, Thai, Lao,
Khmer, Burmese and Tibetan do not: by that rule a paragraph would be one word. There a word is one letter with the marks
that stand on it, the convention of sacreBLEU's `zh` tokenization (Post 2018, arXiv 1804.08771), and one that needs no
dictionary. So a Chinese word counts as about 1.5 of these and a Thai one as about 4; `length_in_words` says how many
words a reader would count.

Old Ethiopic print parts words by a mark of its own, `፡`, which is white space here, and two of them end a sentence.

A sentence ends with an end mark of any script. A full stop in Latin type must have white space behind it, since it
stands in numbers and names; `。`, `।` and their like need none. Thai, Lao, Khmer and Burmese part sentences by spaces.

Cost: a text in Latin, Greek or Cyrillic type costs one pass over its UTF-8 bytes and `str.split`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

_SPACE_ENDS = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F))
_MIXED = (  # blocks of letters, marks and signs
    *_SPACE_ENDS,  # Thai and Lao, Burmese, Khmer, Burmese extended B and A
    (0x0F00, 0x0FFF),  # Tibetan
    (0x3005, 0x3007),  # the repetition mark, the closing mark and the zero of Han
    (0x3040, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0xFF66, 0xFF9F),  # Katakana of half width
)
_LETTERS_ALONE = (
    (0x31F0, 0x31FF),  # Katakana extensions
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xA000, 0xA48C),  # Yi
    (0xF900, 0xFAFF),  # Han, compatibility
    (0x1B000, 0x1B16F),  # Kana supplements
    (0x20000, 0x3FFFF),  # Han, extensions B and later
)
# Unicode's Sentence_Terminal in the scripts that are written today, and the Greek question mark.
END_MARKS = (
    ".!?…。．｡！？।॥؟۔\u061d\u061e።፧፨။།"
    "\u0f0e\u17d4\u17d5\u0589\u1803\u1809\u037e"  # Tibetan, Khmer, Armenian, Mongolian, Manchu, Greek
    "\u0700\u0701\u0702\u07f9\u166e\u1735\u1736\u1944\u1945"  # Syriac, N'Ko, Canadian, Philippine, Limbu
    "\u1aa8\u1aa9\u1aaa\u1aab\u1b5a\u1b5b\u1b5e\u1b5f\u1c3b\u1c3c\u1c7e\u1c7f"  # Tai Tham, Balinese, Lepcha, Santali
    "\ua4ff\ua60e\ua60f\ua8ce\ua8cf\ua92f\ua9c8\ua9c9"  # Lisu, Vai, Saurashtra, Kayah, Javanese
    "\uaa5d\uaa5e\uaa5f\uaaf0\uaaf1\uabeb\U00011141\U00011142\U00011143"  # Cham, Meetei, Chakma
)
ETHIOPIC_SPACE = "\u1361"
_SPACED_END_MARKS = ".!?…"  # an end only before white space; the others end a sentence anywhere
HAN_LETTERS, THAI_LETTERS = 1.5, 4.0  # of a word, about: in Chinese and Japanese; in Thai, Lao, Khmer, Burmese
CLOSING_MARKS = "\"'”’»)]）」』】》"
_CLOSING = re.escape(CLOSING_MARKS)


# First bytes in UTF-8 of what follows Cyrillic, except E2: U+2000 to U+2FFF are punctuation and signs.
_OTHER_LEADS = bytes(byte for byte in range(0xD6, 0xF5) if byte != 0xE2)


def _class(categories: str, mixed: Iterable[tuple[int, int]], whole: Iterable[tuple[int, int]] = ()) -> str:
    """The inside of a character class: what of mixed blocks has these general categories, and whole blocks."""
    codes = (code for start, end in mixed for code in range(start, end + 1))
    chosen = "".join(chr(code) for code in codes if unicodedata.category(chr(code))[0] in categories)
    return chosen + "".join(f"{chr(start)}-{chr(end)}" for start, end in whole)


_LETTERS = _class("L", _MIXED, _LETTERS_ALONE)
_MARKS = _class("M", _MIXED)
_SPACE_ENDED = _class("LM", _SPACE_ENDS)
_UNSPACED_LETTER = re.compile(f"[{_LETTERS}]")
_SPACE_ENDED_LETTER = re.compile(f"[{_class('L', _SPACE_ENDS)}]")
_WORD = re.compile(f"[^\\s\\w]*[{_LETTERS}][{_MARKS}]*[^\\s\\w]*|[^\\s{_LETTERS}]+")
_LETTER_OR_REST = re.compile(f"[{_LETTERS}][{_MARKS}]*|[^{_LETTERS}]+")
_SENTENCE_END = re.compile(
    f"[{re.escape(_SPACED_END_MARKS)}]+[{_CLOSING}]*(?=\\s|$)"
    f"|[{re.escape(''.join(set(END_MARKS) - set(_SPACED_END_MARKS)))}]+[{_CLOSING}]*"
    f"|{ETHIOPIC_SPACE}{{2,}}"
    f"|(?<=[{_SPACE_ENDED}])(?=\\s)"
)


def is_european(text: str) -> bool:
    """Whether all of a text is Latin, Greek, Cyrillic, or the punctuation that goes with them."""
    if text.isascii():
        return True
    encoded = text.encode(errors="surrogatepass")
    return len(encoded.translate(None, _OTHER_LEADS)) == len(encoded)


def is_unspaced(text: str) -> bool:
    """Whether a letter of a script without spaces between words is in the text."""
    return not is_european(text) and _UNSPACED_LETTER.search(text) is not None


def words(text: str) -> list[str]:
    """The words of a text, by the rule of each letter's script; punctuation stays with a word that it touches."""
    if ETHIOPIC_SPACE in text:
        text = text.replace(ETHIOPIC_SPACE, " ")
    return _WORD.findall(text) if is_unspaced(text) else text.split()


def cutter(text: str) -> Callable[[str], list[str]]:
    """`words` for parts of this text: `str.split`, which is much faster, where it has no letter that needs more."""
    return words if ETHIOPIC_SPACE in text or is_unspaced(text) else str.split


def folded(text: str) -> str:
    """A text without regard to case and spacing: texts that are the same so are one question, and one label."""
    return " ".join(text.casefold().split())


def length_in_words(text: str) -> float:
    """About how many words a reader would count: where no space parts them, a word has 1.5 letters, in Thai four."""
    if not is_unspaced(text):
        return float(len(words(text)))
    han, thai = _letter_counts(text)
    return len(words(text)) - han - thai + han / HAN_LETTERS + thai / THAI_LETTERS


def letters_a_word(text: str, count: int) -> float:
    """How many of a text's `count` words make what a reader calls a word: 1, or more where most are single letters."""
    if not is_unspaced(text):
        return 1.0
    han, thai = _letter_counts(text)
    if 2 * (han + thai) < count:
        return 1.0
    return HAN_LETTERS if han >= thai else THAI_LETTERS


def _letter_counts(text: str) -> tuple[int, int]:
    """Letters of scripts without spaces: those of Han, Kana and Tibetan, and those of Thai and its like."""
    unspaced, thai = (len(pattern.findall(text)) for pattern in (_UNSPACED_LETTER, _SPACE_ENDED_LETTER))
    return unspaced - thai, thai


def ends_by_space(text: str) -> bool:
    """Whether a letter of a script that parts its sentences by spaces is in the text: Thai, Lao, Khmer, Burmese."""
    return not is_european(text) and _SPACE_ENDED_LETTER.search(text) is not None


def without_end(sentence: str) -> str:
    """A sentence without its end marks, and the quotation marks and brackets that close there."""
    return sentence.rstrip(END_MARKS + CLOSING_MARKS)


def letters(word: str) -> str:
    """The letters of a word with the marks on them: no digit, no punctuation."""
    return "".join(character for character in word if unicodedata.category(character)[0] in "LM")


def spaced(text: str) -> str:
    """The text with a space between each letter of an unspaced script and what is beside it: its words are apart."""
    return " ".join(_LETTER_OR_REST.findall(text)) if is_unspaced(text) else text


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence, its end mark included; what follows the last end mark is one too."""
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if span := _stripped(text, start, match.end()):
            yield span
            start = match.end()
    if span := _stripped(text, start, len(text)):
        yield span


def sentence_end(text: str, start: int = 0) -> int | None:
    """Where the first sentence from `start` on ends, behind its end mark; None where no end mark is."""
    match = _SENTENCE_END.search(text, start)
    return match.end() if match else None


def _stripped(text: str, start: int, end: int) -> tuple[int, int] | None:
    """A span without the white space at its ends; None where nothing is left."""
    inner = text[start:end]
    start += len(inner) - len(inner.lstrip())
    end -= len(inner) - len(inner.rstrip())
    return (start, end) if start < end else None
