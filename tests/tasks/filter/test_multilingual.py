"""Limits and stop words by language: which are published, what is done without, what is said, what good text keeps."""

import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from document_sets import rows_of, run, texts_of
from support import cost_in_loops, shared_data

from storage.documents import TRAIN
from tasks.filter import FilterConfig, filter_documents
from tasks.filter.languages import language_code
from tasks.filter.presets import PRESETS
from tasks.filter.published import RULES
from tasks.filter.rules import judge, threshold
from tasks.filter.signals import SIGNALS_SCHEMA, measured, signals_of
from tasks.filter.stage import job_settings

NOTHING = FilterConfig(preset="none")
NOUNS = "Haus Baum Straße Wiese Fluss Gebirge Wolke Regen Sonne Garten Küche Fenster Schlüssel Bücher Freundschaft "
GERMAN = "Der Müller ging an den Fluss und suchte das Rad, das er nicht mehr fand. "
LATIN = "Umuntu ngumuntu ngabantu {number}. "


def stated(*rows: tuple[str, str]) -> list[tuple[str, ...]]:
    """Rows of training text with the language that their source states."""
    return [(text, TRAIN, "test", language) for text, language in rows]


def test_the_published_limits_are_those_of_the_preset_fineweb_2() -> None:
    config = FilterConfig(preset="fineweb-2")
    found = {
        (rule, language): threshold(rule, getattr(config, rule), language, config.limits_by_language)
        for rule in RULES
        for language in ("en", "de", "zh")
    }
    assert found["max_top_2_gram", "de"] == 0.169
    assert found["min_punctuated_lines", "de"] == 0, "no line of German has to end in punctuation"
    assert found["max_mean_word_length", "zh"] == 5
    assert found["max_duplicate_10_grams", "zh"] == 0.127
    english = PRESETS["fineweb"] | {"max_newlines_per_word": 0.3}
    assert all(found[rule, "en"] == english[rule] for rule in RULES)


def test_a_limit_of_ones_own_moves_with_the_language_and_one_without_does_not(home: Path) -> None:
    """Two line breaks in 45 words: .044 a word. The published limits are .3 for English, .152 for German."""
    text = "\n".join([GERMAN] * 3)
    for by_language, kept in ((True, ["en"]), (False, ["de", "en"])):
        config = NOTHING.model_copy(update={"max_newlines_per_word": 0.08, "limits_by_language": by_language})
        artifact, _ = run(home, filter_documents, config, stated((text, "de"), (text + " ", "en")))
        assert [row["lang"] for row in rows_of(artifact, "documents")] == kept
    config = NOTHING.model_copy(update={"max_newlines_per_word": 0.08, "limits_by_language": True})
    artifact, _ = run(home, filter_documents, config, stated((text, "de"), (text + " ", "en")))
    (row,) = rows_of(artifact, "ledger")
    assert (row["rule"], row["language"], round(row["threshold"], 4)) == ("max_newlines_per_word", "de", 0.0405)


def test_what_a_rule_cannot_judge_is_said_by_language(home: Path) -> None:
    swati = "".join(LATIN.format(number=number) for number in range(20))
    rows = stated((swati, "ss"), (swati + "a", "ss"), (GERMAN * 5, "de"), ("I sing. You wave.", "en"))
    config = NOTHING.model_copy(update={"min_stop_words": 1, "limits_by_language": True, "line_phrases": True})
    artifact, summary = run(home, filter_documents, config, rows)
    assert len(texts_of(artifact)) == 4
    assert summary["notices"] == [
        "filter: 2 of 4 documents kept were not judged by min_stop_words, which has no list for ss (2)",
        "filter: 2 of 4 documents kept were judged by limits for English, since none are published for ss (2)",
        "filter: 3 of 4 documents kept were searched by line_phrases for English phrases alone, though in "
        "ss (2), de (1)",
    ]
    _, summary = run(home, filter_documents, NOTHING, rows)
    assert summary["notices"] == []


def test_a_few_documents_of_other_languages_are_not_worth_a_sentence(home: Path) -> None:
    rows = [(f"I sing {number}.", "en") for number in range(99)] + [("Umuntu.", "ss")]
    config = NOTHING.model_copy(update={"line_phrases": True})
    assert run(home, filter_documents, config, stated(*rows))[1]["notices"] == []


def test_a_language_that_is_found_but_whose_stop_words_are_not_is_not_known(home: Path) -> None:
    """Most of 7,000 languages are taken for one of 139; where the language is named or stated, the text fails as it."""
    nouns = NOUNS * 4
    wanted, named = NOTHING.model_copy(update={"min_stop_words": 1}), ("de",)
    artifact, _ = run(home, filter_documents, wanted, [(nouns, TRAIN), (GERMAN * 4, TRAIN)])
    assert [row["language"] for row in rows_of(artifact, "signals")] == ["und", "de"]
    assert texts_of(artifact) == [nouns, GERMAN * 4]
    for config, rows in (
        (wanted.model_copy(update={"languages": named}), [(nouns, TRAIN), (GERMAN * 4, TRAIN)]),
        (wanted, stated((nouns, "de"), (GERMAN * 4, "de"))),
    ):
        artifact, _ = run(home, filter_documents, config, rows)
        assert texts_of(artifact) == [GERMAN * 4]


@pytest.mark.parametrize(
    ("language", "text", "times", "stop_words"),
    [
        ("en", "I sing. You wave. They clap. ", 8, None),  # 48 words
        ("en", "I sing. You wave. They clap. ", 9, 0),
        ("ms", "سموا مانسي دلاهيركن بيبس دان سامراتا. ", 9, None),  # the list is in Latin letters
        ("uz", "Барча одамлар эркин ва тенг туғиладилар. ", 9, 1),
        ("zu", "Umuntu ngumuntu ngabantu. ", 20, None),
    ],
)
def test_stop_words_are_counted_where_they_can_be(language: str, text: str, times: int, stop_words: int | None) -> None:
    assert signals_of(text * times, language, 1.0)["stop_words"] == stop_words


@pytest.mark.parametrize(
    "line",
    [
        *("यह वाक्य है।", "วันนี้อากาศดีมาก", "ഇത് ഒരു വാക്യമാണ്.", "ይህ ዓረፍተ ነገር ነው።", "ይህ ዓረፍተ ነገር ነው፡፡", "هل هذا جيد؟"),
        *("ᱱᱚᱣᱟ ᱫᱚ ᱠᱟᱱᱟ᱾", "ᜑᜎᜒᜋ᜵ ᜀᜅ᜔᜶", "ߒ ߓߘߊ ߣߊ߹", "ܫܠܡܐ܀", "Τι είναι αυτό\u037e", "ངའི་མིང་།", "ဒါဟာ စာကြောင်းပါ။"),
        *("これは文です。🤓", "Das ist gut. 🚀✨", "Kurz und gut! ❤️", "No way? 👨‍👩‍👧"),
    ],
)
def test_a_line_ends_with_the_end_marks_of_its_script(line: str) -> None:
    assert signals_of(line, "und", 1.0)["punctuated_lines"] == 1


@pytest.mark.parametrize("line", ["Ein Titel 🤓", "🚀", "見出し ✨"])
def test_a_pictogram_is_no_end_of_a_sentence(line: str) -> None:
    assert signals_of(line, "und", 1.0)["punctuated_lines"] == 0


def test_words_with_marks_are_words_with_letters() -> None:
    for text in ("मैं हिन्दी में लिखता हूँ", "நான் தமிழில் எழுதுகிறேன்", "ฉันเขียนภาษาไทย", "שָׁלוֹם עֲלֵיכֶם"):
        assert signals_of(text, "und", 1.0)["alphabetic_words"] == 1


@pytest.mark.parametrize(
    ("language", "text"),
    [("zh", "人人生而自由，在尊严和权利上一律平等。"), ("th", "มนุษย์ทั้งหลายเกิดมามีอิสระ"), ("my", "လူတိုင်းသည် လွတ်လပ်သည်။")],
)
def test_a_word_without_spaces_is_as_long_as_a_reader_takes_it(language: str, text: str) -> None:
    found = signals_of("\n".join([text] * 3), language, 1.0)
    assert 1.2 < found["mean_word_length"] < 10
    assert found["newlines_per_word"] > 2 / found["words"], "three lines of a few words each"


ODD = {
    "digits": "0123456789 " * 5_000,
    "emoji": "😀🎉👩‍👩‍👧 " * 5_000,
    "right to left with marks": "\u202bשָׁלוֹם עֲלֵיכֶם\u202c \u200fالسَّلَامُ عَلَيْكُمْ " * 3_000,
    "marks alone": "\u0301\u05b0\u0e34" * 5_000,
    "many languages": (GERMAN + "The mill was old. 人人生而自由。วันนี้อากาศดี มาก यह वाक्य है। ") * 500,
    "word marks alone": "፡" * 20_000,
}


@pytest.mark.parametrize("preset", PRESETS)
def test_odd_texts_are_judged_and_none_fails(home: Path, preset: str) -> None:
    rows = [(text, TRAIN) for text in (*ODD.values(), GERMAN)]
    config = FilterConfig.model_validate({"preset": preset, "min_words": None, "min_sentences": None, "languages": []})
    artifact, summary = run(home, filter_documents, config, rows)
    assert summary["kept"] + summary["dropped"] == len(rows)
    assert {row["rule"] for row in rows_of(artifact, "ledger")} <= {name.removeprefix("dropped_") for name in summary}


@pytest.mark.parametrize("letters", ["ก", "การบ้าน", "人人生而自由"])
def test_megabytes_without_a_space_cost_what_they_hold(letters: str) -> None:
    """A megabyte takes some 90 Python loops of 100,000 turns, so 8 MiB some seconds."""
    settings = job_settings(FilterConfig(preset="multilingual"))
    text = letters * (2**20 // (3 * len(letters)))
    assert cost_in_loops(lambda: measured(text, "", settings)) < 250


@pytest.mark.slow
def test_a_hundred_thousand_lines_are_a_hundred_thousand_documents(home: Path) -> None:
    rows = [
        (f"Wir zählen {number} Schafe.", TRAIN, "test", ("de", "fr", "xx")[number % 3]) for number in range(100_000)
    ]
    _, summary = run(home, filter_documents, FilterConfig(preset="multilingual", redact=()), rows)
    assert summary["kept"] == 100_000


CORPORA = ("udhr_multi", "stories_multi", "stories_en", "wiki_multi", "docs_fastapi_multi", "docs_fastapi_en")


def documents(corpus: str) -> Iterator[tuple[str, str]]:
    """Text and language of each document that states a known one."""
    data = shared_data("corpus", f"{corpus}.jsonl.zst").read_bytes()
    for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(data), "utf-8"):
        record = json.loads(line)
        if language := language_code(record["lang"]):
            yield record["text"], language


@cache
def signals_in(corpus: str, settings: str) -> tuple[list[str], pa.Table]:
    """Languages and signals of the documents, worked out once for all presets that measure with equal settings."""
    rows = list(documents(corpus))
    signals = [measured(text, language, json.loads(settings))[1] | {"id": ""} for text, language in rows]
    return [language for _, language in rows], pa.Table.from_pylist(signals, schema=SIGNALS_SCHEMA)


@pytest.mark.parametrize("preset", ["general", "multilingual"])
@pytest.mark.parametrize("corpus", CORPORA)
def test_good_text_of_every_language_is_kept(corpus: str, preset: str) -> None:
    """95 % of the documents of each language; what is dropped was read (benchmarks/README.md)."""
    config = FilterConfig.model_validate({"preset": preset, "redact": []})
    languages, signals = signals_in(corpus, json.dumps(job_settings(config), sort_keys=True))
    verdicts = judge(config, signals)
    read, dropped = Counter(languages), defaultdict[str, list[str]](list)
    for row, rule in zip(verdicts.rows.tolist(), verdicts.rules, strict=True):
        dropped[languages[row]].append(rule)
    losing = {language: rules for language, rules in dropped.items() if len(rules) > 0.05 * read[language]}
    assert not losing
