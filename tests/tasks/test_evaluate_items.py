"""The benchmarks made from held-out documents: what is asked is in the text, and nothing else gives the answer away."""

from collections import Counter, defaultdict

import pytest

from tasks.evaluate.documents import Sampled
from tasks.evaluate.items import CHOICES, choice_items, cloze_items, credit, overlap_scores, sentences, words

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


def test_nothing_but_the_context_tells_the_right_choice() -> None:
    """A judge that sees the choices alone scores each text by itself: exactly one in four is then right. Length,
    alphabet and a hash stand for all such judges; and the place of the right one is even."""
    items = choice_items(DOCUMENTS, 200, 0)
    for judge in (len, lambda text: -len(text), str, hash):
        scores = [credit([judge(choice) for choice in item.choices], item.label) for item in items]  # type: ignore[operator]
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
