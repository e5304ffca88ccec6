"""Judges of the filter that learn from texts of the user's: what they tell apart, and what is learned again."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from document_sets import rows_of, run, texts_of, training
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support import shared_data

from storage.errors import DataError
from tasks.engine.context import Summary
from tasks.filter import FilterConfig, filter_documents
from tasks.filter.given_texts import given_files, texts_of_files
from tasks.filter.goodness import PIECE_CHARACTERS, learn_goodness
from tasks.filter.histograms import signal_histograms
from tasks.filter.judges import SIGNALS
from tasks.filter.perplexity import codes_of, folded_space, learn, learn_reference
from tasks.linear import FILE

GOOD = (
    "the miller ground the corn",
    "the river ran past the old mill",
    "der Müller mahlte das Korn",
    "磨坊主人磨着谷物",
)
BAD = ("buy cheap pills now", "click here to win a prize", "jetzt billig kaufen und gewinnen", "立即点击购买便宜药品")


def drawn(phrases: Sequence[str], count: int, seed: int) -> list[str]:
    """Texts of five phrases each."""
    draw = random.Random(seed)
    return [". ".join(draw.choices(phrases, k=5)) + f". {number}" for number in range(count)]


def rows_file(path: Path, texts: Sequence[str], field: str = "text") -> str:
    path.write_text("".join(json.dumps({field: text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    return str(path)


@pytest.fixture
def config(tmp_path: Path) -> FilterConfig:
    """A filter with both judges and no other rule."""
    quality = {
        "good": [rows_file(tmp_path / "good.jsonl", drawn(GOOD, 60, 1))],
        "bad": [rows_file(tmp_path / "bad.jsonl", drawn(BAD, 60, 2))],
    }
    reference = {"paths": [rows_file(tmp_path / "reference.jsonl", drawn(GOOD, 200, 3))]}
    given = {"preset": "none", "quality": quality, "min_quality": 0.5, "reference": reference, "max_bits_per_byte": 4}
    return FilterConfig.model_validate(given)


SHARDS = (
    training(*drawn(GOOD, 3, 7), drawn(BAD, 1, 7)[0]),
    training("", "gkq zzxw vvpq mill jjkq xcvq wqzz", drawn(GOOD, 1, 8)[0]),
)


def test_what_is_like_the_bad_texts_or_like_noise_goes_with_its_score(home: Path, config: FilterConfig) -> None:
    artifact, summary = run(home, filter_documents, config, *SHARDS)
    assert texts_of(artifact) == [*drawn(GOOD, 3, 7), drawn(GOOD, 1, 8)[0]]
    ledger = {row["rule"]: row for row in rows_of(artifact, "ledger")}
    assert ledger["min_quality"]["value"] < ledger["min_quality"]["threshold"] == 0.5
    assert set(ledger) <= {"min_quality", "empty", "max_bits_per_byte"}
    signals = rows_of(artifact, "signals")
    assert [row["quality"] is None for row in signals] == [False] * 4 + [True, False, False]
    assert signals[4]["bits_per_byte"] is None and signals[5]["bits_per_byte"] > 4 > signals[6]["bits_per_byte"] > 0
    assert summary["quality_rows"] + summary["quality_heldout_rows"] == 120
    assert summary["quality_heldout_rows"] > 4 and summary["quality_auc"] == summary["quality_accuracy"] == 1.0
    assert summary["reference_bytes"] > 10_000


def test_no_column_is_added_where_nothing_is_to_be_learned(home: Path) -> None:
    artifact, summary = run(home, filter_documents, FilterConfig(preset="none"), *SHARDS)
    assert not set(SIGNALS) & set(rows_of(artifact, "signals")[0])
    assert not [name for name in summary if name.startswith(("quality", "reference"))]


def test_other_good_texts_judge_again_and_measure_nothing_else(
    home: Path, config: FilterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = run(home, filter_documents, config, *SHARDS)

    def forbidden(*_: object) -> Any:
        raise AssertionError("it was computed again")

    monkeypatch.setattr("tasks.filter.signals.signals_of", forbidden)
    monkeypatch.setattr("tasks.filter.perplexity.learn", forbidden)
    assert config.quality is not None
    good = Path(config.quality.good[0])
    rows_file(good, drawn(GOOD, 80, 5))
    after, summary = run(home, filter_documents, config, *SHARDS)
    assert summary["quality_rows"] + summary["quality_heldout_rows"] == 140
    assert before["signals"].digest != after["signals"].digest
    assert before["documents"].digest == after["documents"].digest, "nothing below would run again"
    monkeypatch.setattr("tasks.filter.goodness.fit", forbidden)
    monkeypatch.setattr("tasks.filter.goodness.goodness", forbidden)
    stricter = config.model_copy(update={"min_quality": 0.6})
    run(home, filter_documents, stricter, *SHARDS)
    moved = Path(good.parent, "moved").with_suffix(".jsonl")
    good.rename(moved)
    quality = config.quality.model_copy(update={"good": (str(moved),)})
    assert stricter.model_copy(update={"quality": quality}).identity() == stricter.identity()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"filter\.quality\.bad: .*good\.jsonl, line 1: empty file"),
        ('{"text": " "}\n', r"filter\.quality\.bad: holds no text"),
        ('{"text": "fine"}\n{"body": "x"}\n', r"line 2: no field 'text' \(it has: body\); set text_field"),
        ('{"text": 3}\n', r"line 1: field 'text' is not text but int"),
        ('{"text": "fine"\n', "line 1: malformed JSON"),
    ],
)
def test_rows_that_teach_nothing_are_named(
    content: str, message: str, home: Path, tmp_path: Path, config: FilterConfig
) -> None:
    assert config.quality is not None
    wrong = tmp_path / "wrong" / "good.jsonl"
    wrong.parent.mkdir()
    wrong.write_text(content)
    quality = config.quality.model_copy(update={"bad": (str(wrong),)})
    with pytest.raises(DataError, match=message):
        run(home, filter_documents, config.model_copy(update={"quality": quality}), *SHARDS)


def test_what_is_missing_is_said(home: Path, tmp_path: Path) -> None:
    for rule, judge in (("min_quality", "quality"), ("max_bits_per_byte", "reference")):
        with pytest.raises(ValidationError, match=rf"{rule} is set, .*filter\.{judge}"):
            FilterConfig.model_validate({rule: 0.5})
    for judge, paths in (("quality", "good"), ("reference", "paths")):
        with pytest.raises(DataError, match=rf"filter\.{judge}\.(bad|{paths}): names no file"):
            run(home, filter_documents, FilterConfig.model_validate({judge: {}}), *SHARDS)
    nowhere = FilterConfig.model_validate({"reference": {"paths": [str(tmp_path / "none")]}})
    with pytest.raises(DataError, match=r"filter\.reference\.paths\.0: .*matches no file"):
        run(home, filter_documents, nowhere, *SHARDS)


def learned(folder: Path, good: Sequence[str], bad: Sequence[str], most: int = 1000) -> tuple[bytes, Summary]:
    """What `learn_goodness` makes of two files of rows, one text a row."""
    out = folder / "out"
    out.mkdir(exist_ok=True)
    inputs = {
        f"{kind}/0/{kind}.jsonl": Path(rows_file(folder / f"{kind}.jsonl", texts))
        for kind, texts in (("good", good), ("bad", bad))
    }
    summary = learn_goodness({"text_field": "text", "most_rows": most}, inputs, out)
    return (out / FILE).read_bytes(), summary


def test_the_order_of_rows_and_copies_teach_nothing_and_most_rows_is_kept_to(tmp_path: Path) -> None:
    good, bad = drawn(GOOD, 50, 1), drawn(BAD, 50, 2)
    first, summary = learned(tmp_path, good, bad, most=20)
    again, _ = learned(tmp_path, [*reversed(good), *good], bad, most=20)
    assert first == again
    assert summary["quality_rows"] + summary["quality_heldout_rows"] == 40


def test_a_book_of_each_kind_is_learned_in_pieces_and_none_is_held_out(tmp_path: Path) -> None:
    books = [". ".join(drawn(phrases, 400, 4)) for phrases in (GOOD, BAD)]
    _, summary = learned(tmp_path, books[:1], books[1:])
    assert summary == {
        "quality_rows": sum(-(-len(book) // PIECE_CHARACTERS) for book in books),
        "quality_heldout_rows": 0,
    }


@settings(max_examples=40, deadline=None)
@given(st.text("ab ñ磨ก", min_size=1, max_size=60).map(folded_space).filter(bool), st.text("abc磨 ", max_size=6))
def test_the_chances_of_all_that_may_follow_are_one_at_most(reference: str, before: str) -> None:
    model = learn(reference)
    known = codes_of(before)
    rest = model.bits(known) if before else 0.0
    following = [*sorted(set(reference)), "z", "ж"]
    chances = [2 ** (rest - model.bits(np.append(known, codes_of(one)))) for one in following]
    assert 0 < sum(chances) <= 1 + 1e-9
    assert min(chances) > 0


def test_chances_are_witten_and_bells() -> None:
    model, every = learn("aab"), 0x110000
    one = {letter: (count + 2 / every) / (3 + 2) for letter, count in (("a", 2), ("b", 1), ("c", 0))}
    two = {letter: (count + 2 * one[letter]) / (2 + 2) for letter, count in (("a", 1), ("b", 1), ("c", 0))}
    three = (1 + 1 * two["b"]) / (1 + 1)  # b was the one behind aa
    for text, chances in (("b", [one["b"]]), ("ac", [one["a"], two["c"]]), ("aab", [one["a"], two["a"], three])):
        assert model.bits(codes_of(text)) == pytest.approx(-sum(np.log2(chances)))
        assert model.bits_per_byte(f" {text}\n") == pytest.approx(-sum(np.log2(chances)) / len(text), abs=1e-4)


def test_what_was_not_seen_is_not_taken_for_what_has_its_place() -> None:
    """A million different n-grams fill a quarter of the table; characters drawn evenly from 5,000 cost 12.3 bits."""
    draw = random.Random(1)
    letters = [chr(0x4E00 + number) for number in range(5000)]
    model = learn("".join(draw.choices(letters, k=300_000)))
    assert model.bits(codes_of("".join(draw.choices(letters, k=5000)))) / 5000 > 12.3


def test_a_reference_is_read_as_far_as_the_recipe_says(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("磨坊 \n 主人" * 80_000, encoding="utf-8")
    inputs = {"0/a.txt": tmp_path / "a.txt", "0/b.txt": tmp_path / "a.txt"}
    summary = learn_reference({"text_field": "text", "most_megabytes": 1}, inputs, tmp_path)
    assert 999_990 <= summary["reference_bytes"] <= 1_000_000


def test_paths_are_read_in_the_order_of_the_recipe(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.txt" for name in "lkjihgfedcba"]
    for path in paths:
        path.write_text(path.stem, encoding="utf-8")
    files = {name: file.path for name, file in given_files([str(path) for path in paths], "filter.reference").items()}
    assert "".join(texts_of_files(files, "text", "filter.reference")) == "lkjihgfedcba"


def test_what_judges_say_is_shown_before_there_is_a_limit(home: Path, config: FilterConfig) -> None:
    unlimited = config.model_copy(update={"min_quality": None, "max_bits_per_byte": None})
    artifact, summary = run(home, filter_documents, unlimited, *SHARDS)
    shown = signal_histograms(artifact["signals"], {}, {name: 0 for name in summary if name.startswith("dropped_")})
    assert {"quality", "bits_per_byte"} <= {histogram.signal for histogram in shown}


def _shuffled_letters(text: str, draw: random.Random) -> str:
    return "".join(draw.sample(text, len(text)))


def _shuffled_words(text: str, draw: random.Random) -> str:
    words = text.split() if text.count(" ") * 20 > len(text) else [text[at : at + 2] for at in range(0, len(text), 2)]
    return " ".join(draw.sample(words, len(words)))


def _bytes_in_letters(text: str, draw: random.Random) -> str:
    return "".join(draw.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=len(text)))


def test_text_of_every_script_is_told_from_shuffled_text_and_garbage() -> None:
    """Wikipedia in 12 languages, Thai, Hindi, Chinese, Arabic and German among them: a reference of two thirds."""
    texts: dict[str, list[str]] = {}
    with zstandard.open(shared_data("corpus", "wiki_multi.jsonl.zst"), "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            texts.setdefault(row["lang"], []).append(folded_space(row["text"]))
    named = {language: found for language, found in texts.items() if len(found) > 30}
    assert {"th", "hi", "zh", "ar", "de"} <= set(named)
    model = learn(" ".join(text for found in named.values() for text in found[: 2 * len(found) // 3]))
    draw = random.Random(0)
    for language, found in sorted(named.items()):
        kept = [text for text in found[2 * len(found) // 3 :] if len(text) > 200]
        clean = [model.bits_per_byte(text) or 0.0 for text in kept]
        for make in (_shuffled_letters, _bytes_in_letters):
            noise = [model.bits_per_byte(make(text, draw)) or 0.0 for text in kept]
            assert max(clean) < min(noise), f"{language}: one threshold parts all texts from {make.__name__}"
        shuffled = [model.bits_per_byte(_shuffled_words(text, draw)) or 0.0 for text in kept]
        assert np.mean([own < other for own, other in zip(clean, shuffled, strict=True)]) > 0.9, language
