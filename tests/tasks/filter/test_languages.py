"""The filter and languages other than English: whose rules apply, what is believed, what is said of a loss."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from document_sets import rows_of, run, texts_of
from support import shared_data

from storage.documents import TRAIN
from storage.errors import DataError
from tasks.filter import FilterConfig, filter_documents
from tasks.filter.language import language_of
from tasks.filter.languages import language_code
from tasks.filter.presets import PRESETS
from tasks.filter.repetition import repetition_signals
from tasks.filter.signals import signals_of
from tasks.words import letters_a_word, words

SENTENCES = {
    "en": ["The miller went to the river and looked for the wheel that had been lost.", "It was not there. "],
    "de": [
        "Der Müller ging an den Fluss und suchte das Rad, das er nicht mehr fand.",
        "Die Nacht war kalt, und der Wind kam von den Bergen.",
        "Sein Bruder sagte, er solle mit ihm in die Stadt gehen und dort ein neues kaufen.",
    ],
    "zh": [
        "春天来了，山上的花都开了，孩子们到河边去看鱼。",
        "老师说，读书要慢，想问题要深，写字要清楚。",
        "这座小城有一条老街，街上卖茶、卖布，也卖新鲜的水果。",
        "昨天下了一场大雨，今天早上空气很好，天也很蓝。",
        "他每天早上六点起床，先跑步，再吃饭，然后去学校上课。",
        "我们坐火车到北方去，路上看见了很多牛羊和大片的麦田。",
    ],
    "th": [
        "ฤดูฝนมาแล้วแม่น้ำเต็มไปด้วยน้ำและเด็กๆชอบเล่นอยู่ริมฝั่ง",
        "ครูบอกว่าการอ่านหนังสือทุกวันจะทำให้เราเขียนได้ดีขึ้น",
        "ตลาดเช้าในเมืองนี้ขายผักผลไม้และปลาสดจากทะเล",
        "เมื่อวานเรานั่งรถไฟไปภาคเหนือและเห็นภูเขาสูงหลายลูก",
        "คุณยายทำอาหารอร่อยมากทุกคนในบ้านกินข้าวด้วยกันทุกเย็น",
    ],
    "hi": [
        "गाँव का बूढ़ा आदमी हर सुबह नदी के किनारे टहलने जाता है।",
        "बच्चों ने स्कूल में आज एक नई कविता सीखी और उसे सबको सुनाया।",
        "पिछले साल की तुलना में इस साल बारिश बहुत कम हुई है।",
        "शहर के बीच में एक पुराना बाज़ार है जहाँ किताबें और फल मिलते हैं।",
        "मेरे भाई ने कहा कि वह कल शाम की गाड़ी से घर आएगा।",
    ],
    "ru": [
        "Старый мельник каждое утро ходил к реке и смотрел, как вода бежит через камни.",
        "В городе говорили, что он не знает ни сна, ни отдыха, но это была неправда.",
        "Когда пришла зима, река замерзла, и колесо остановилось на долгие месяцы.",
        "Его дочь читала ему книги по вечерам, а ветер шумел за окном в темноте.",
        "Весной он снова открыл двери, и люди пришли к нему со всей округи.",
        "Он сказал им, что хлеб в этом году будет дороже, чем раньше.",
    ],
}


def essay(language: str) -> str:
    """Each sentence once, one paragraph: over 50 words in each language."""
    return (" " if language not in ("zh",) else "").join(SENTENCES[language])


def stated(*rows: tuple[str, str]) -> list[tuple[str, ...]]:
    """Rows of training text with the language that their source states."""
    return [(text, TRAIN, "test", language) for text, language in rows]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("language", ["zh", "th", "hi", "ru"])
def test_naming_the_language_is_enough_to_keep_it(home: Path, preset: str, language: str) -> None:
    config = FilterConfig.model_validate({"preset": preset, "languages": [language]})
    artifact, summary = run(home, filter_documents, config, [(essay(language), TRAIN)])
    assert texts_of(artifact) == [essay(language)], summary


def test_a_recipe_that_says_nothing_keeps_every_language_and_any_length(home: Path) -> None:
    texts = [essay(language) for language in SENTENCES] + ["Der Fluss ist " + "sehr " * 3 + "tief.", "word " * 9]
    book = " ".join(f"the {number} men went to {number * 7}" for number in range(20_000))
    artifact, _ = run(home, filter_documents, FilterConfig(), [(text, TRAIN) for text in (*texts, book)])
    assert len(words(book)) > 100_000
    assert texts_of(artifact) == [*texts[:-1], book], "only the one word again and again goes"


def test_what_is_not_text_is_dropped_by_the_default(home: Path) -> None:
    base64 = " ".join(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk" + str(number) for number in range(9)
    )
    numbers = " ".join(f"{number * 0.37:.2f}" for number in range(200))
    with pytest.raises(DataError, match="no document is left of 2"):
        run(home, filter_documents, FilterConfig(), [(base64, TRAIN), (numbers, TRAIN)])


def test_the_language_that_a_source_states_is_believed(home: Path) -> None:
    """Short and mixed texts are taken for another language by any identifier."""
    unclear = "Ok. Ok. Ok. Hallo Welt, das ist gut und schön."
    wanted = FilterConfig(preset="none", languages=("de",), min_language_score=0.65)
    artifact, _ = run(home, filter_documents, wanted, stated((unclear, "deu"), (unclear, "de-AT"), (essay("de"), "en")))
    assert texts_of(artifact) == [unclear, unclear]
    assert [row["language"] for row in rows_of(artifact, "signals")] == ["de", "de", "en"]


def test_the_same_text_with_another_language_stated_is_measured_again(home: Path) -> None:
    config = FilterConfig(preset="none", languages=("de",), min_language_score=0.5)
    run(home, filter_documents, config, stated((essay("de"), "de"), ("Noch ein Text.", "de")))
    artifact, _ = run(home, filter_documents, config, stated((essay("de"), "nl"), ("Noch ein Text.", "de")))
    assert texts_of(artifact) == ["Noch ein Text."]


def test_languages_are_named_in_many_ways_and_what_is_not_a_language_is_not_believed() -> None:
    assert [language_code(name) for name in ("de", "DE", "ger", "de_CH", "German", "cmn", "zh-Hant")] == [
        *("de", "de", "de", "de", "de", "zh", "zh")
    ]
    assert [language_code(name) for name in ("", "Python", "C", "und", "mul", "qqq")] == [""] * 6
    assert FilterConfig.model_validate({"languages": ["deu", "Chinese"]}).languages == ("de", "zh")
    with pytest.raises(ValueError, match="'klingonish' is not a language: give its ISO 639 code"):
        FilterConfig.model_validate({"languages": ["klingonish"]})


def test_a_text_is_looked_at_in_its_middle_too() -> None:
    preface = "This is the preface of the editor, who has read the book and thinks that it is good. " * 25
    book = " ".join(SENTENCES["de"]) * 150
    assert len(preface) > 2000
    language, share = language_of(preface + book + preface, "", ("de",))
    assert (language, share > 0.9) == ("de", True)
    assert language_of(essay("zh"), "", ("zh",))[0] == "zh"


def test_no_rule_of_one_language_judges_another(home: Path) -> None:
    """Gopher's eight stop words are English, and its ten characters a word are long in English only."""
    finnish = "Lainsäädäntövaltaa käyttävä kansanedustuslaitos hyväksyi perustuslakivaliokunnan mietinnön. " * 9
    config = FilterConfig(preset="none", min_stop_words=2, max_mean_word_length=10)
    zulu = "Umuntu ngumuntu ngabantu. " * 20
    rows = stated((essay("de") * 2, "de"), (finnish, "fi"), (finnish, "en"), (zulu, "zu"))
    artifact, _ = run(home, filter_documents, config, rows)
    assert [(row["rule"], row["threshold"]) for row in rows_of(artifact, "ledger")] == [
        ("min_stop_words", 2.0),  # Finnish, but with a list of its own: none of its stop words
        ("max_mean_word_length", 10.0),
    ]
    assert [row["stop_words"] for row in rows_of(artifact, "signals")][-1] is None


def test_letters_of_scripts_without_spaces_are_counted_as_words_where_they_repeat() -> None:
    """Five letters of Chinese come again in any text, five words do not."""
    text = essay("zh") + "孩子们到河边来了。" + essay("th")
    assert letters_a_word(essay("zh"), len(words(essay("zh")))) == 1.5
    assert letters_a_word(essay("th"), len(words(essay("th")))) == 4
    assert letters_a_word(essay("en") + "河边", 20) == 1
    found = words(essay("zh") + "孩子们到河边来了。")
    assert repetition_signals(text, found, [text], 1)["duplicate_5_grams"] > 0
    assert repetition_signals(text, found, [text], 1.5)["duplicate_5_grams"] == 0
    assert signals_of(essay("zh") + "孩子们到河边来了。", "zh", 1.0)["duplicate_5_grams"] == 0
    again = words(essay("zh") * 2)
    assert 0.4 < repetition_signals(essay("zh") * 2, again, [], 1.5)["duplicate_10_grams"] <= 0.5


def test_a_loss_is_said_with_its_rule_and_the_field_to_change(home: Path) -> None:
    rows = [(f"{essay('en')} {number}", TRAIN, "letters", "en") for number in range(6)]
    rows += [(f"{essay('de')} {number}", TRAIN, "letters", "de") for number in range(4)]
    _, summary = run(
        home, filter_documents, FilterConfig(preset="none", languages=("en",), min_language_score=0.6), rows
    )
    assert summary["notices"] == [
        "filter kept none of 4 documents of language de: 4 dropped by min_language_score (filter.languages)"
    ]
    _, summary = run(home, filter_documents, FilterConfig(preset="none"), rows)
    assert summary["notices"] == []


def test_a_source_that_loses_everything_fails_the_stage(home: Path) -> None:
    rows = [(f"{essay('de')} {number}", TRAIN, f"s{number % 2}", "de" if number % 2 else "en") for number in range(6)]
    with pytest.raises(DataError, match=r"none of 3 documents of source s1: 3 dropped by .* \(filter\.languages\)"):
        run(home, filter_documents, FilterConfig(preset="none", languages=("en",), min_language_score=0.6), rows)


def shared_texts(name: str) -> Iterator[str]:
    for line in shared_data("..", "cases", "sources", name).read_text().splitlines():
        yield json.loads(line)["text"]


def test_hindi_passes_c4_and_german_behind_an_english_header_is_german(home: Path) -> None:
    config = FilterConfig.model_validate({"preset": "c4", "languages": ["hi", "th"]})
    texts = list(shared_texts("c4_hindi.jsonl"))
    artifact, summary = run(home, filter_documents, config, [(text, TRAIN) for text in texts])
    rules = Counter(row["rule"] for row in rows_of(artifact, "ledger"))
    assert summary["kept"] >= 0.75 * len(texts), rules
    german = list(shared_texts("english_header_german_book.jsonl"))
    assert [language_of(text, "", ("en",))[0] for text in german] == ["de"] * 8
