"""What a recipe can set for the stage filter.

A rule is a field `min_SIGNAL` or `max_SIGNAL`: a document is dropped where the signal is below or above it; the
bound itself is kept. `None` switches the rule off. A field that is left out has the value of the preset.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from tasks.engine.config import LOCATION, StageConfig
from tasks.filter.languages import language_code
from tasks.filter.presets import PRESETS

# fmt: off
PresetName = Literal[
    "none", "general", "multilingual", "gopher", "c4", "c4-datatrove", "fineweb", "fineweb-datatrove", "fineweb-2",
    "refinedweb", "books", "docstrings",
]
# fmt: on


def _known_language(stated: str) -> str:
    code = language_code(stated)
    if not code:
        raise ValueError(f"{stated!r} is not a language: give its ISO 639 code, such as de or zh")
    return code


def _known_region(stated: str) -> str:
    from phonenumbers import SUPPORTED_REGIONS

    code = stated.upper()
    if code not in SUPPORTED_REGIONS:
        raise ValueError(f"{stated!r} is not a country: give its ISO 3166 code, such as DE or GB")
    return code


Language = Annotated[str, AfterValidator(_known_language)]
Region = Annotated[str, AfterValidator(_known_region)]
Text = Annotated[str, StringConstraints(min_length=1)]
Pii = Literal["secret", "email", "iban", "card", "ssn", "phone", "ip"]


def _setting(name: str, description: str, **bounds: Any) -> Any:
    """A field whose default is the preset's value: a form or `--set` needs to state only what differs."""
    return Field(default_factory=lambda data: PRESETS[data["preset"]][name], description=description, **bounds)


def _share(name: str, what: str) -> Any:
    return _setting(name, f"{what} (share, 0-1).", ge=0, le=1)


class QualityRows(StageConfig):
    """Texts of the user's own, good and bad, that teach a classifier what a good text is."""

    good: tuple[Text, ...] = Field(
        (),
        max_length=100,
        description="Texts like those that are wanted: folders, globs or files of .txt, .jsonl, .csv, .parquet, ...",
        json_schema_extra=LOCATION,
    )
    bad: tuple[Text, ...] = Field(
        (),
        max_length=100,
        description="Texts like those that are not wanted; pages as they come are usual (GPT-3's, CCNet's).",
        json_schema_extra=LOCATION,
    )
    text_field: Text = Field("text", description="Field with the text, in files of records.")
    most_rows: int = Field(
        10_000,
        ge=10,
        le=200_000,
        description="Pieces (4,000 characters) of each kind that are learned from, by hashes; 15 kB of memory each.",
    )


class ReferenceText(StageConfig):
    """A text of the user's own by whose n-grams others are measured."""

    paths: tuple[Text, ...] = Field(
        (),
        max_length=100,
        description="Texts in the languages that are wanted: folders, globs or files of .txt, .jsonl, .parquet, ...",
        json_schema_extra=LOCATION,
    )
    text_field: Text = Field("text", description="Field with the text, in files of records.")
    most_megabytes: int = Field(
        16, ge=1, le=256, description="Megabytes of them that are read, in order; 60 MB of memory each."
    )


class FilterConfig(StageConfig):
    """Every setting of the filter; the sources of the rules are in presets.py."""

    preset: PresetName = Field("general", description="Name of the set of settings that fills what is left out.")

    languages: tuple[Language, ...] = _setting("languages", "ISO 639 codes of the languages wanted; empty: all are.")
    limits_by_language: bool = _setting(
        "limits_by_language", "Take limits as those for English, and move them by language as FineWeb-2 published."
    )
    redact: tuple[Pii, ...] = _setting("redact", "Personal data to replace: email, phone, ip, card, iban, ssn, secret.")
    redact_with: Literal["placeholders", "stand-ins"] = _setting(
        "redact_with", "What replaces it: the same for all of a kind, or for each value its own, the same everywhere."
    )
    phone_regions: tuple[Region, ...] = _setting(
        "phone_regions", "ISO 3166 codes of countries whose phone numbers are known; empty: by the stated language."
    )
    remove_citations: bool = _setting("remove_citations", "Remove marks such as [12], [edit], [citation needed].")
    line_phrases: bool = _setting("line_phrases", "Remove lines about JavaScript, cookies, privacy policy, terms.")
    line_terminal_punctuation: bool = _setting(
        "line_terminal_punctuation", "Remove lines that do not end as a sentence does: end mark of any script, quote."
    )
    line_min_words: int | None = _setting("line_min_words", "Remove lines of fewer words.", ge=0, le=1000)
    line_max_word_characters: int | None = _setting(
        "line_max_word_characters", "Remove lines that hold a word of more characters.", ge=1, le=1_000_000
    )

    line_interface: bool = _setting(
        "line_interface", "Remove lines of buttons, counters, numbers, capitals, single words (RefinedWeb's)."
    )
    blocked_urls: tuple[Text, ...] = _setting(
        "blocked_urls",
        "Lists of hosts and web addresses that are not wanted: files, or folders with domains and urls.",
        json_schema_extra=LOCATION,
    )
    url_words: tuple[Text, ...] = _setting(
        "url_words",
        "Lists of words that are not wanted in web addresses, one a line.",
        json_schema_extra=LOCATION,
    )
    quality: QualityRows | None = _setting(
        "quality", "Good and bad texts that a classifier learns from, for min_quality.", title="Quality"
    )
    reference: ReferenceText | None = _setting(
        "reference", "A text whose n-grams foretell others, for max_bits_per_byte.", title="Reference"
    )

    max_blocked_url: int | None = _setting(
        "max_blocked_url", "Most lists' verdicts on the address: 0 or 1.", ge=0, le=1
    )
    max_url_words: int | None = _setting("max_url_words", "Most listed words in the web address.", ge=0, le=1_000)
    min_language_score: float | None = _share("min_language_score", "Least probability of the languages wanted")
    min_words: int | None = _setting("min_words", "Fewest words.", ge=0, le=1_000_000_000)
    max_words: int | None = _setting("max_words", "Most words.", ge=1, le=1_000_000_000)
    min_mean_word_length: float | None = _setting(
        "min_mean_word_length", "Least mean word length, characters; by language.", ge=0, le=1_000_000
    )
    max_mean_word_length: float | None = _setting(
        "max_mean_word_length", "Most mean word length, characters; by language.", ge=0, le=1_000_000
    )
    max_hashes_per_word: float | None = _setting("max_hashes_per_word", "Most number signs a word.", ge=0, le=1_000)
    max_ellipses_per_word: float | None = _setting("max_ellipses_per_word", "Most ellipses a word.", ge=0, le=1_000)
    max_bullet_lines: float | None = _share("max_bullet_lines", "Most lines that start with a bullet")
    max_ellipsis_lines: float | None = _share("max_ellipsis_lines", "Most lines that end with an ellipsis")
    min_alphabetic_words: float | None = _share("min_alphabetic_words", "Fewest words that hold a letter")
    min_stop_words: int | None = _setting(
        "min_stop_words", "Fewest distinct stop words of its language (the, be, to, of, and, ...).", ge=0, le=8
    )

    max_duplicate_lines: float | None = _share("max_duplicate_lines", "Most lines that repeat an earlier one")
    max_duplicate_paragraphs: float | None = _share(
        "max_duplicate_paragraphs", "Most paragraphs that repeat an earlier one"
    )
    max_duplicate_line_characters: float | None = _share(
        "max_duplicate_line_characters", "Most characters in repeated lines"
    )
    max_duplicate_paragraph_characters: float | None = _share(
        "max_duplicate_paragraph_characters", "Most characters in repeated paragraphs"
    )
    max_top_2_gram: float | None = _share("max_top_2_gram", "Most characters in the most frequent 2 words")
    max_top_3_gram: float | None = _share("max_top_3_gram", "Most characters in the most frequent 3 words")
    max_top_4_gram: float | None = _share("max_top_4_gram", "Most characters in the most frequent 4 words")
    max_duplicate_5_grams: float | None = _share("max_duplicate_5_grams", "Most characters in repeated 5 words")
    max_duplicate_6_grams: float | None = _share("max_duplicate_6_grams", "Most characters in repeated 6 words")
    max_duplicate_7_grams: float | None = _share("max_duplicate_7_grams", "Most characters in repeated 7 words")
    max_duplicate_8_grams: float | None = _share("max_duplicate_8_grams", "Most characters in repeated 8 words")
    max_duplicate_9_grams: float | None = _share("max_duplicate_9_grams", "Most characters in repeated 9 words")
    max_duplicate_10_grams: float | None = _share("max_duplicate_10_grams", "Most characters in repeated 10 words")

    max_removed_words: float | None = _share("max_removed_words", "Most words in lines removed by line rules")
    min_sentences: int | None = _setting("min_sentences", "Fewest sentences.", ge=0, le=1_000_000_000)
    max_lorem_ipsum: int | None = _setting("max_lorem_ipsum", "Most occurrences of 'lorem ipsum'.", ge=0, le=1_000_000)
    max_curly_brackets: int | None = _setting(
        "max_curly_brackets", "Most opening curly brackets.", ge=0, le=1_000_000_000
    )

    min_punctuated_lines: float | None = _share("min_punctuated_lines", "Fewest lines that end in punctuation")
    max_short_lines: float | None = _share("max_short_lines", "Most lines of fewer than 30 characters")
    max_newlines_per_word: float | None = _setting("max_newlines_per_word", "Most line ends a word.", ge=0, le=1_000)

    min_quality: float | None = _share("min_quality", "Least probability to be like the good texts of quality")
    min_bits_per_byte: float | None = _setting(
        "min_bits_per_byte", "Least bits a byte by the n-grams of reference: below is what says one thing.", ge=0, le=64
    )
    max_bits_per_byte: float | None = _setting(
        "max_bits_per_byte", "Most bits a byte by the n-grams of reference: above is noise.", ge=0, le=64
    )

    @model_validator(mode="after")
    def _limits_have_a_judge(self) -> Self:
        for rule, judge in (
            ("min_quality", "quality"),
            ("min_bits_per_byte", "reference"),
            ("max_bits_per_byte", "reference"),
        ):
            if getattr(self, rule) is not None and getattr(self, judge) is None:
                raise ValueError(f"{rule} is set, but no texts to learn from: name them in filter.{judge}")
        return self
