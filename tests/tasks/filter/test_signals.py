"""What the filter measures: values that can be worked out by hand, and the traps of each rule."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import cost_in_loops

from tasks.filter import FilterConfig
from tasks.filter.edit import edit
from tasks.filter.judges import SIGNALS as LEARNED
from tasks.filter.language import language_of
from tasks.filter.presets import PRESETS
from tasks.filter.repetition import repetition_signals
from tasks.filter.rules import RULES
from tasks.filter.signals import SIGNALS_SCHEMA, signals_of

WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "d,"]), max_size=9)
REPETITIVE = st.builds(
    lambda start, block, times, end: start + block * times + end, WORDS, WORDS, st.integers(0, 5), WORDS
)


def signals(text: str) -> dict[str, float]:
    return signals_of(text, "en", 1.0)


def edited(text: str, **settings: object) -> str:
    return edit(text, PRESETS["none"] | settings)[0]


def test_quality_signals_by_hand() -> None:
    found = signals("- The cat and #1 dog...\n\nhave 22 hats!\nlorem Ipsum {x} of…\n")
    assert found["words"] == 13
    assert found["bullet_lines"] == 1 / 3
    assert found["ellipsis_lines"] == 2 / 3
    assert found["ellipses_per_word"] == 2 / 13
    assert found["hashes_per_word"] == 1 / 13
    assert found["stop_words"] is None  # of so short a text they say nothing
    assert found["alphabetic_words"] == 10 / 13  # all but -, #1, 22
    assert (found["lorem_ipsum"], found["curly_brackets"], found["sentences"]) == (1, 1, 2)
    assert found["punctuated_lines"] == 1.0
    assert found["short_lines"] == 1.0
    assert found["newlines_per_word"] == 2 / 13  # the blank line and the last one part no lines
    long = signals("- The cat and #1 dog...\n\nhave 22 hats!\nlorem Ipsum {x} of…\n" * 4)
    assert long["stop_words"] == 2  # and, have; "of…" is another word, "The" is not as written


def test_an_empty_text_has_signals_too() -> None:
    unmeasured = ("language", "language_score", "stop_words")
    assert {value for name, value in signals("").items() if name not in unmeasured} == {0}


def test_punctuation_does_not_count_against_the_share_of_words_with_letters() -> None:
    """Novels full of dialogue: with punctuation marks as words, one clean document in seven would be dropped."""
    dialogue = '"No," said he; "never!" -- "Why?" - "Because," said she, "I say so."'
    assert signals(dialogue)["alphabetic_words"] > 0.8


def reference_repeated(words: list[str], length: int) -> int:
    seen, position, characters = set(), 0, 0
    while position <= len(words) - length:
        gram = tuple(words[position : position + length])
        if gram in seen:
            characters += len("".join(gram))
            position += length
        else:
            seen.add(gram)
            position += 1
    return characters


@given(REPETITIVE)
def test_ngram_signals_equal_the_published_definitions(words: list[str]) -> None:
    text = " ".join(words)
    found = repetition_signals(text, words, [text] if text else [])
    for length in (2, 3, 4):
        grams = Counter(" ".join(words[start : start + length]) for start in range(len(words) - length + 1))
        top, count = grams.most_common(1)[0] if grams else ("", 0)
        assert found[f"top_{length}_gram"] == (len(top) * count / len(text) if count > 1 else 0)
    for length in range(5, 11):
        assert found[f"duplicate_{length}_grams"] == reference_repeated(words, length) / max(len(text), 1)


def test_repeated_lines_and_paragraphs_by_hand() -> None:
    found = repetition_signals(
        "one\ntwo\n\none\ntwo\n\nten", ["one", "two", "one", "two", "ten"], ["one", "two", "one", "two", "ten"]
    )
    assert found["duplicate_lines"] == 2 / 5
    assert found["duplicate_line_characters"] == 6 / 21
    assert found["duplicate_paragraphs"] == 1 / 3
    assert found["duplicate_paragraph_characters"] == 7 / 21


def test_c4_line_rules_and_both_numbers() -> None:
    text = (
        "A line of text with an end.\nA line without\nThree words here.\n\n"
        "We use cookies to spy on you.\nYes...\nHe left."
    )
    assert edited(text) == text
    c4 = {"line_terminal_punctuation": True, "line_phrases": True}
    assert edited(text, **c4, line_min_words=5) == "A line of text with an end."
    assert edited(text, **c4, line_min_words=3) == "A line of text with an end.\nThree words here."
    assert edited("ok ok\n" + "x" * 1001 + " ok", line_max_word_characters=1000) == "ok ok"
    assert edited("True[12] fact[edit] a[i] [citation needed].", remove_citations=True) == "True fact a[i] ."
    names = ("c4", "c4-datatrove", "fineweb", "fineweb-datatrove")
    numbers = {name: (PRESETS[name]["line_min_words"], PRESETS[name]["min_sentences"]) for name in names}
    assert numbers == {"c4": (5, 3), "c4-datatrove": (3, 5), "fineweb": (5, 3), "fineweb-datatrove": (3, 5)}


def test_paragraphs_survive_the_removal_of_lines() -> None:
    text = "One good line here.\n\nshort\n\nAnother good line here."
    assert edited(text, line_min_words=2) == "One good line here.\n\nAnother good line here."


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "The function returns the number of rows in the table and raises an error if there are none."),
        ("de", "Die Funktion gibt die Anzahl der Zeilen in der Tabelle zurück und meldet einen Fehler."),
        ("fr", "Cette fonction renvoie le nombre de lignes dans le tableau et signale une erreur."),
        ("ru", "Эта функция возвращает число строк в таблице и сообщает об ошибке."),
        ("zh", "该函数返回表中的行数，如果没有则引发错误。"),
    ],
)
def test_language(language: str, text: str) -> None:
    found, english = language_of(text, "", ("en",))
    assert found == language
    assert (english > 0.65) == (language == "en")
    assert language_of(text, "", tuple({"en", language}))[1] > 0.65


def test_every_preset_says_everything_and_every_rule_has_its_signal() -> None:
    fields = set(FilterConfig.model_fields) - {"preset"}
    for name, preset in PRESETS.items():
        assert set(preset) == fields, name
        assert FilterConfig(preset=name).model_dump(exclude={"preset"}) == preset
    bounds = {field for field in fields if field.startswith(("min_", "max_"))}
    assert set(RULES) == bounds
    assert {rule.split("_", 1)[1] for rule in RULES} <= {*SIGNALS_SCHEMA.names, *LEARNED}


def test_a_field_that_is_given_wins_over_the_preset_and_null_switches_a_rule_off() -> None:
    config = FilterConfig.model_validate({"preset": "gopher", "min_words": 7, "max_words": None})
    assert (config.min_words, config.max_words, config.min_stop_words) == (7, None, 2)
    assert FilterConfig.model_validate(config.model_dump(mode="json")) == config


def test_quality_and_repetition_are_fast() -> None:
    """100 documents of 2.8 kB take 12 Python loops of 100,000 turns; twice that is allowed."""
    words = ("the quick brown fox jumps over that lazy dog and runs to " * 40).split()
    texts = [" ".join(f"{word}{(place * number) % 13}" for place, word in enumerate(words)) for number in range(1, 101)]
    assert sum(map(len, texts)) / len(texts) > 2600
    signals(texts[0])
    assert cost_in_loops(lambda: [signals(text) for text in texts]) < 24
