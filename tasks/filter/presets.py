"""Named sets of filter settings, as data. A preset gives every field that a recipe leaves out.

| preset | source |
|---|---|
| none | nothing is dropped or edited |
| general | for text of one's own in any language: what is not text goes; see below |
| multilingual | general, with limits that go by the language as FineWeb-2's do; see below |
| gopher | MassiveText's quality and repetition rules, English (arXiv 2112.11446, appendix A.1, table A1) |
| c4 | the line and document rules of C4 with the numbers of TensorFlow Datasets: 5 words a line, 3 sentences |
| c4-datatrove | the same with datatrove's numbers: 3 words a line, 5 sentences |
| fineweb | Gopher, C4 without terminal punctuation, and FineWeb's own rules as in arXiv 2406.17557, section 3.6 |
| fineweb-datatrove | the same with datatrove's tenfold stricter share of duplicated characters (.01) |
| fineweb-2 | FineWeb-2's rules and its limits of each language, for web pages (arXiv 2506.20920); see below |
| refinedweb | Gopher, and RefinedWeb's corrections by line (arXiv 2306.01116, appendix G.2) |
| books | Gopher without an upper limit of words: a book is one document |
| docstrings | Gopher for short technical prose; see below |

The preset general asks for no language and has no upper limit of words. Gopher's other limits are loosened until
children's stories, which say one thing again and again, novels and laws of 90 languages stay, and encoded data, tables
of numbers and what repeats for more than half of its length go. What each preset keeps is in benchmarks/README.md.

The preset fineweb-2 asks for Gopher's and FineWeb's rules without those for paragraphs, short lines and C4's, as
published; the limits here are those for English, and `limits_by_language` makes of them the published ones of each
language (published.py). A language without published ones is judged by those for English, one without stop words not
by them; both are said. FineWeb-2's least language scores are those of another identifier (GlotLID) and left out.

Its limits were set on pages as trafilatura extracts them, and drop a quarter of good stories and a fifth of good
documentation in Markdown. So the preset multilingual takes the level from general and the differences between
languages from FineWeb-2: a limit for Zulu stands to one for English as the published ones do. It adds three rules to
general: one stop word of the language, a line in fifty that ends as a sentence does, at most .8 line breaks a word (a
list of single words has 1).

The preset docstrings was set by reading what it drops of 5,832 modules: 8 words in place of 50 (below is a single
label), no stop words (a short sentence may do without), a lower language score (names are not English), and twice
Gopher's limits for repeated n-grams: modules say similar things of similar functions, and Gopher's limits took a
tenth of the text, scikit-learn's and asyncio's best among it. What is left to drop, read again for 7,541 modules, is
labels, generated modules, and mostly what repeats one sentence with another name in it.
"""

from typing import Any

ALL_PII = ("email", "phone", "ip", "card", "iban", "ssn", "secret")

_NOTHING: dict[str, Any] = {
    "languages": (),
    "limits_by_language": False,
    "redact": (),
    "redact_with": "placeholders",
    "phone_regions": (),
    "remove_citations": False,
    "line_phrases": False,
    "line_terminal_punctuation": False,
    "line_min_words": None,
    "line_max_word_characters": None,
    "line_interface": False,
    "blocked_urls": (),
    "url_words": (),
    "quality": None,
    "reference": None,
    "max_blocked_url": 0,
    "max_url_words": 0,
    "min_language_score": None,
    "min_words": None,
    "max_words": None,
    "min_mean_word_length": None,
    "max_mean_word_length": None,
    "max_hashes_per_word": None,
    "max_ellipses_per_word": None,
    "max_bullet_lines": None,
    "max_ellipsis_lines": None,
    "min_alphabetic_words": None,
    "min_stop_words": None,
    "max_duplicate_lines": None,
    "max_duplicate_paragraphs": None,
    "max_duplicate_line_characters": None,
    "max_duplicate_paragraph_characters": None,
    "max_top_2_gram": None,
    "max_top_3_gram": None,
    "max_top_4_gram": None,
    "max_duplicate_5_grams": None,
    "max_duplicate_6_grams": None,
    "max_duplicate_7_grams": None,
    "max_duplicate_8_grams": None,
    "max_duplicate_9_grams": None,
    "max_duplicate_10_grams": None,
    "max_removed_words": None,
    "min_sentences": None,
    "max_lorem_ipsum": None,
    "max_curly_brackets": None,
    "min_punctuated_lines": None,
    "max_short_lines": None,
    "max_newlines_per_word": None,
    "min_quality": None,
    "min_bits_per_byte": None,
    "max_bits_per_byte": None,
}

_ENGLISH: dict[str, Any] = {"languages": ("en",), "min_language_score": 0.65, "redact": ALL_PII}

_GOPHER_QUALITY: dict[str, Any] = {
    "min_words": 50,
    "max_words": 100_000,
    "min_mean_word_length": 3.0,
    "max_mean_word_length": 10.0,
    "max_hashes_per_word": 0.1,
    "max_ellipses_per_word": 0.1,
    "max_bullet_lines": 0.9,
    "max_ellipsis_lines": 0.3,
    "min_alphabetic_words": 0.8,
    "min_stop_words": 2,
}

_GOPHER_REPETITION: dict[str, Any] = {
    "max_duplicate_lines": 0.30,
    "max_duplicate_paragraphs": 0.30,
    "max_duplicate_line_characters": 0.20,
    "max_duplicate_paragraph_characters": 0.20,
    "max_top_2_gram": 0.20,
    "max_top_3_gram": 0.18,
    "max_top_4_gram": 0.16,
    "max_duplicate_5_grams": 0.15,
    "max_duplicate_6_grams": 0.14,
    "max_duplicate_7_grams": 0.13,
    "max_duplicate_8_grams": 0.12,
    "max_duplicate_9_grams": 0.11,
    "max_duplicate_10_grams": 0.10,
}

_C4: dict[str, Any] = {
    "remove_citations": True,
    "line_phrases": True,
    "line_terminal_punctuation": True,
    "line_min_words": 5,
    "line_max_word_characters": 1000,
    "min_sentences": 3,
    "max_lorem_ipsum": 0,
    "max_curly_brackets": 0,
}

_DATATROVE_C4: dict[str, Any] = {"line_min_words": 3, "min_sentences": 5}

_FINEWEB: dict[str, Any] = {
    "line_terminal_punctuation": False,
    "min_punctuated_lines": 0.12,
    "max_duplicate_line_characters": 0.10,
    "max_short_lines": 0.67,
}

_DOCSTRINGS: dict[str, Any] = {
    "min_words": 8,
    "min_language_score": 0.3,
    "min_stop_words": None,
    "min_alphabetic_words": 0.75,
    "max_top_2_gram": 0.40,
    "max_top_3_gram": 0.36,
    "max_top_4_gram": 0.32,
    "max_duplicate_5_grams": 0.30,
    "max_duplicate_6_grams": 0.28,
    "max_duplicate_7_grams": 0.26,
    "max_duplicate_8_grams": 0.24,
    "max_duplicate_9_grams": 0.22,
    "max_duplicate_10_grams": 0.20,
}

_GENERAL: dict[str, Any] = {
    "redact": ALL_PII,
    "min_language_score": 0.5,  # counts once `languages` are given
    "min_words": 3,
    "min_mean_word_length": 2.0,
    "max_mean_word_length": 14.0,
    "max_hashes_per_word": 0.3,
    "max_ellipses_per_word": 0.5,
    "min_alphabetic_words": 0.3,
    "max_duplicate_lines": 0.6,
    "max_duplicate_paragraphs": 0.6,
    "max_duplicate_line_characters": 0.4,
    "max_duplicate_paragraph_characters": 0.4,
    **{rule: 0.5 for rule in _GOPHER_REPETITION if rule.endswith("_grams")},
}

_MULTILINGUAL: dict[str, Any] = {
    "limits_by_language": True,
    "min_stop_words": 1,
    "min_punctuated_lines": 0.02,
    "max_newlines_per_word": 0.8,
}

_FINEWEB_2: dict[str, Any] = {
    "languages": (),
    "limits_by_language": True,
    "max_duplicate_paragraphs": None,
    "max_duplicate_line_characters": 0.10,
    "max_duplicate_paragraph_characters": None,
    "min_punctuated_lines": 0.12,
    "max_newlines_per_word": 0.3,
}

_REFINEDWEB: dict[str, Any] = {"line_interface": True, "max_removed_words": 0.05}

_GOPHER = _NOTHING | _ENGLISH | _GOPHER_QUALITY | _GOPHER_REPETITION
_FINEWEB_PAPER = _GOPHER | _C4 | _FINEWEB

PRESETS: dict[str, dict[str, Any]] = {
    "none": _NOTHING,
    "general": _NOTHING | _GENERAL,
    "multilingual": _NOTHING | _GENERAL | _MULTILINGUAL,
    "gopher": _GOPHER,
    "c4": _NOTHING | _ENGLISH | _C4,
    "c4-datatrove": _NOTHING | _ENGLISH | _C4 | _DATATROVE_C4,
    "fineweb": _FINEWEB_PAPER,
    "fineweb-datatrove": _FINEWEB_PAPER
    | _DATATROVE_C4
    | {"max_duplicate_line_characters": 0.01, "max_newlines_per_word": 0.3},
    "fineweb-2": _GOPHER | _FINEWEB_2,
    "refinedweb": _GOPHER | _REFINEDWEB,
    "books": _GOPHER | {"max_words": None},
    "docstrings": _GOPHER | _DOCSTRINGS,
}
