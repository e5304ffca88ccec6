"""The benchmarks made from held-out documents: what is asked is in the text, and nothing else gives the answer away."""

import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support import shared_data

from tasks.evaluate.documents import Sampled
from tasks.evaluate.measures.own_items import (
    CHOICES,
    choice_items,
    cloze_items,
    credit,
    last_word,
    overlap_scores,
    sentences,
    words,
)

NOUNS = ["river", "castle", "doctor", "engine", "garden", "letter", "market", "window", "bridge"]
VERBS = ["holds", "moves", "finds", "keeps", "sees", "leaves", "brings", "meets"]


def document(number: int, sentence_count: int = 12, source: str = "files") -> Sampled:
    """Every sentence differs from every other in the collection."""
    parts = []
    for index in range(sentence_count):
        noun, verb = NOUNS[(number + index) % len(NOUNS)], VERBS[(number * 3 + index) % len(VERBS)]
        tail = " and so on" * (index % 4)
        parts.append(
            f"The {noun} of place {number} part {index} {verb} the old {NOUNS[(number + 3 * index) % 9]}{tail} today."
        )
    text = " ".join(parts)
    return Sampled(f"id{number:03d}", text, source, len(text.encode()))


def zstandard_lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        return io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8").readlines()


DOCUMENTS = [document(number, source="files" if number % 3 else "books") for number in range(40)]


def test_sentences_end_at_marks_and_blank_lines() -> None:
    text = "A heading\n\nFirst one. See e.g. this (or that). Is it? Yes.\n\nNo end"
    assert [text[start:end] for start, end in sentences(text)] == [
        "First one.",
        "See e.g. this (or that).",
        "Is it?",
        "Yes.",
    ]


def test_cloze_context_and_target_are_the_text() -> None:
    texts = {doc.id: doc.text for doc in DOCUMENTS}
    items = cloze_items(DOCUMENTS, 100, 0)
    assert len(items) == 100
    for item in items:
        assert item.context + item.target + "." in texts[item.document]
        assert item.target.startswith(" ") and item.target.strip().isalpha()
        assert item.context == item.context.strip()
        assert 15 <= len(item.context.split()) <= 80


def test_items_spread_over_the_documents() -> None:
    counts = Counter(item.document for item in cloze_items(DOCUMENTS, 80, 0))
    assert len(counts) == 40
    assert set(counts.values()) == {2}


def test_the_right_choice_follows_its_context_and_the_wrong_ones_come_from_elsewhere() -> None:
    texts = {doc.id: doc.text for doc in DOCUMENTS}
    items = choice_items(DOCUMENTS, 200, 0)
    assert len(items) >= 190
    for item in items:
        assert len(set(item.choices)) == CHOICES
        assert item.context + item.choices[item.label] in texts[item.document]
        assert 15 <= len(item.context.split()) <= 45
        for place, choice in enumerate(item.choices):
            assert (choice.strip() in texts[item.document]) == (place == item.label)


def test_nothing_but_the_context_shows_the_right_choice() -> None:
    """A judge that sees the choices alone scores each text by itself: exactly one in four is then right. Length,
    alphabet and a hash represent all such judges; and the place of the right one is even."""
    items = choice_items(DOCUMENTS, 200, 0)
    judges: tuple[Callable[[str], Any], ...] = (len, lambda text: -len(text), str, hash)
    for judge in judges:
        scores = [credit([judge(choice) for choice in item.choices], item.label) for item in items]
        blocks = defaultdict(list)
        for item, score in zip(items, scores, strict=True):
            blocks[frozenset(item.choices)].append(score)
        if judge is str or judge is hash:  # no ties
            assert all(sum(block) == 1 for block in blocks.values())
        assert sum(scores) / len(scores) == pytest.approx(0.25)
    places = Counter(item.label for item in items)
    assert max(places.values()) - min(places.values()) <= 1


def test_distractors_are_of_the_same_source_where_there_are_enough() -> None:
    source_of = {}
    for doc in DOCUMENTS:
        for start, end in sentences(doc.text):
            source_of[doc.text[start:end]] = doc.source
    items = choice_items(DOCUMENTS, 200, 0)
    same = sum(len({source_of[choice.strip()] for choice in item.choices}) == 1 for item in items)
    assert same >= 0.9 * len(items)


ESSAYS = {
    "zh": ("", "春天来了，山上的花都开了，孩子们到边去看鱼{n}。老师说，读书要慢，想问题要深，写字要清楚{n}吗？"
               "这座小城有一条老街，街上卖茶、卖布，也卖新鲜的水果{n}。昨天下了一场大雨，今天早上空气很好，天也很蓝{n}！"),
    "th": (" ", "ฤดูฝนมาแล้วแม่น้ำเต็มไปด้วยน้ำและเด็กๆชอบเล่นอยู่ริมฝั่ง{n} ครูบอกว่าการอ่านหนังสือทุกวันจะทำให้เราเขียนได้ดีขึ้น{n} "
                "ตลาดเช้าในเมืองนี้ขายผักผลไม้และปลาสดจากทะเล{n} เมื่อวานเรานั่งรถไฟไปภาคเหนือและเห็นภูเขาสูงหลายลูก{n}"),
    "hi": (" ", "वसंत आ गया है और पहाड़ों पर फूल खिल गए हैं और बच्चे {n} नदी पर मछलियाँ देखते हैं। "
                "शिक्षक ने कहा कि {n} धीरे पढ़ना और साफ़ लिखना अच्छा है। "
                "इस छोटे शहर में एक पुरानी सड़क है जहाँ {n} चाय और ताज़े फल बिकते हैं। "
                "कल बहुत बारिश हुई और आज सुबह {n} हवा बहुत साफ़ है।"),
    "de": (" ", "Der Frühling ist da, auf den Bergen blühen die Blumen, und die Kinder {n} gehen zum großen Fluß. "
                "Der Lehrer sagt, man müsse {n} langsam lesen und sauber schreiben. "
                "In der kleinen Stadt gibt es {n} eine alte Straße für Händler. "
                "Gestern fiel viel Regen, heute früh {n} ist die Luft klar über den Dächern."),
}  # fmt: skip
DIGITS = {"zh": "一二三四五六七八九十", "th": "กขคงจฉชซญฎ", "hi": "कखगघचछजझटठ", "de": "abcdefghij"}


def essays(language: str, count: int = 12) -> list[Sampled]:
    """Documents of 8 sentences each, no two alike."""
    gap, text = ESSAYS[language]
    made = []
    for number in range(count):
        names = ["".join(DIGITS[language][int(digit)] for digit in f"{number:02d}{part}") for part in range(2)]
        whole = gap.join(text.replace("{n}", name) for name in names)
        made.append(Sampled(f"{language}{number:02d}", whole, "files", len(whole.encode()), language))
    return made


@pytest.mark.parametrize("language", ESSAYS)
def test_every_script_has_items(language: str) -> None:
    documents = essays(language)
    texts = {one.id: one.text for one in documents}
    assert {len(sentences(text)) for text in texts.values()} == {8}
    cloze, choice = cloze_items(documents, 60, 0), choice_items(documents, 60, 0)
    assert len(cloze) >= 24 and len(choice) >= 24
    for item in cloze:
        assert item.context + item.target in texts[item.document]
        assert item.target.strip() and not any(mark in item.target for mark in "。।.!?？！")
        assert item.target[0].isspace() == (language in ("hi", "de"))
    for one in choice:
        assert one.context + one.choices[one.label] in texts[one.document]
        assert len({text[:1].isspace() for text in one.choices}) == 1
        assert max(overlap_scores(one)) > 0


def test_the_last_word_of_each_script_by_hand() -> None:
    expected = {
        "今天早上空气很好，天也很蓝。": "很蓝",
        "老师说：“写字要清楚吗？”": "楚吗",
        "ตลาดเช้าในเมืองนี้ขายผักผลไม้และปลาสดจากทะเล": "ทะเล",
        "आज सुबह हवा बहुत साफ़ है।": None,  # a word of two letters
        "शिक्षक ने कहा कि साफ़ लिखना।": " लिखना",
        "Die Luft ist klar über den Dächern.": " Dächern",
        'He said "go away."': " away",
        "See page 12.": None,
        "我们使用Python。": None,
        "好。": None,
    }
    assert {sentence: last_word(sentence) for sentence in expected} == expected


def test_real_text_of_each_language_gives_items() -> None:
    """Articles of Wikipedia in twelve languages, a paragraph a document."""
    rows = [json.loads(line) for line in zstandard_lines(shared_data("corpus", "wiki_multi.jsonl.zst"))]
    for language in ("zh", "th", "hi", "de", "ar", "el", "ru", "vi"):
        texts = [row["text"] for row in rows if row["lang"] == language][:60]
        documents = [Sampled(f"{n}", text, "wiki", len(text.encode()), language) for n, text in enumerate(texts)]
        assert len(documents) >= 30, language
        assert len(cloze_items(documents, 500, 0)) >= 20, language
        assert len(choice_items(documents, 500, 0)) >= 20, language


def test_items_depend_on_the_seed_and_on_nothing_else() -> None:
    assert choice_items(DOCUMENTS, 60, 1) == choice_items(DOCUMENTS, 60, 1)
    assert choice_items(DOCUMENTS, 60, 1) != choice_items(DOCUMENTS, 60, 2)
    assert cloze_items(DOCUMENTS, 60, 1) != cloze_items(DOCUMENTS, 60, 2)


def test_too_few_documents_make_no_choice() -> None:
    assert choice_items(DOCUMENTS[:3], 60, 1) == []
    assert cloze_items([], 60, 1) == []


def test_overlap_by_hand() -> None:
    item = choice_items(DOCUMENTS, 20, 0)[0]
    context = set(words(item.context))
    expected = [len(set(words(c)) & context) / len(set(words(c))) for c in item.choices]
    assert overlap_scores(item) == expected
    assert credit([0.5, 0.5, 0.1, 0.0], 1) == 0.5
    assert credit([0.5, 0.2, 0.1, 0.0], 1) == 0
