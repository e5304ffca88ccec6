"""Texts in other forms: what a change may do to a text, in any script."""

import random
import subprocess
import sys
import time
from collections import Counter

import regex
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

from tasks.augment.changes import CLUSTER, WORD_OR_CLUSTER, noisy, shuffled, with_dropout
from tasks.augment.config import Dropout, Middle, Noise, Shuffle
from tasks.augment.middle import LEAST_CLUSTERS, cuts_of

PIECES = (
    *("The cat, and the dog.", "STRASSE", "Straße!", "été", "naïve", "e\u0301te\u0301", "don't", "(a)", "42,5"),
    *("我们的研究。", "语言模型，", "กำลังศึกษา", "น้ำใจ", "ที่นี่", "हिन्दी में", "लिखा है।", "한국어", "かな、カナ"),
    *("👨‍👩‍👧", "🇩🇪", "👍🏽", "❤️", "#️⃣", "\U00020000", "العربية،", "\u200d", "ﬁ", "ǰ"),
)
TEXTS = st.lists(st.sampled_from([*PIECES, " ", " ", "\n", "\n\n", "\n \n", "\t"]), max_size=30).map("".join)
SEEDS = st.integers(0, 1000).map(random.Random)
CHANCES = st.sampled_from([0.05, 0.5, 0.99])


def clusters(text: str) -> list[str]:
    """What a reader sees as characters."""
    return list(regex.findall(r"\X", text))


@given(TEXTS | st.text("🇩🇪🏽 \u200d\u0301\u094dकa\u0600", max_size=12))
def test_characters_are_those_of_the_standard(text: str) -> None:
    assert CLUSTER.findall(text) == clusters(text)


def test_a_long_run_of_flags_takes_no_longer_than_other_signs() -> None:
    def seconds(text: str) -> float:
        begun = time.process_time()
        list(cuts_of(text, Middle(), random.Random(1)))
        noisy(text, Noise(), random.Random(1))
        with_dropout(text, Dropout(), random.Random(1))
        return time.process_time() - begun

    assert seconds("🇩🇪" * (1 << 14)) < 30 * seconds("❤️" * (1 << 14)), "quadratic: 200 times as long"


@given(TEXTS | st.text("aßéกน้ำकि각ℹൎ🇩🇪😀- \u200d\u0301\u094d\ufe0f\u0600", max_size=12))
def test_a_word_is_as_many_characters_in_a_row_as_begin_with_a_letter(text: str) -> None:
    words: list[str] = []
    for one in clusters(text):
        if words and one[0].isalpha() and words[-1][0].isalpha():
            words[-1] += one
        else:
            words.append(one)
    assert WORD_OR_CLUSTER.findall(text) == words


def test_noise_on_one_long_word_takes_little_memory() -> None:
    code = (
        "import random, resource; from tasks.augment.changes import noisy; from tasks.augment.config import Noise\n"
        "def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = most(); noisy('Straße' * 350_000, Noise(), random.Random(1)); print(most() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 50_000, "kilobytes for two million letters"


@given(TEXTS, SEEDS, CHANCES)
def test_noise_changes_cases_and_marks_and_nothing_else(text: str, draw: random.Random, chance: float) -> None:
    changed = noisy(text, Noise(case=chance, punctuation=chance), draw)
    without = [regex.sub(r"\p{P}", "", one).casefold() for one in (text, changed)]
    assert without[0] == without[1]
    assert changed.split() == text.split() or changed != text
    assert noisy(text, Noise(case=0, punctuation=0), draw) == text


@given(TEXTS, SEEDS, CHANCES)
def test_dropout_leaves_words_whole_and_in_order(text: str, draw: random.Random, chance: float) -> None:
    changed = with_dropout(text, Dropout(words=chance), draw)
    left = iter(clusters(text))
    assert all(one in left for one in clusters(changed)), "a cluster that is not the text's, or in another place"
    wholes = ["".join(f"(?:{regex.escape(part)})?" for part in regex.findall(r"[!-~]+", word)) for word in text.split()]
    spaced = [word for word in changed.split() if word.isascii()]
    assert all(word in text.split() or any(regex.fullmatch(whole, word) for whole in wholes) for word in spaced)


def test_dropout_leaves_a_mark_on_the_space_that_it_stands_on() -> None:
    for seed in range(20):
        left = with_dropout("  \u0301eins zwei \u200ddrei", Dropout(words=0.5), random.Random(seed))
        assert left in {"  \u0301eins zwei \u200ddrei", " \u0301eins", "zwei \u200ddrei", ""}


def test_dropout_that_takes_nothing_leaves_the_text_as_it_is() -> None:
    for text in ("Hello\n", " \nDie Straße\n\n", "第二条河。\n", "น้ำใจ \n"):
        assert with_dropout(text, Dropout(words=1e-9), random.Random(1)) == text


def test_dropout_takes_words_where_spaces_part_them_and_letters_where_none_do() -> None:
    draw = random.Random(1)
    german = "Die Straße führt über den Fluß und durch den Wald"
    words = with_dropout(german, Dropout(words=0.5), draw).split()
    assert 0 < len(words) < 10 and set(words) <= set(german.split())
    for text in ("我们的研究表明语言模型可以学习" * 3, "กำลังศึกษาที่นี่น้ำใจ" * 3):
        left = with_dropout(text, Dropout(words=0.5), draw)
        assert 0.2 * len(text) < len(left) < 0.8 * len(text), "the whole is no word"
        assert set(clusters(left)) <= set(clusters(text)), "marks stay with their letters"


@given(TEXTS, SEEDS, st.sampled_from([None, 2, 3]))
def test_a_shuffle_keeps_each_paragraph(text: str, draw: random.Random, within: int | None) -> None:
    changed = shuffled(text, Shuffle(within=within), draw)
    parted = r"(?:\A|\n)(?:[^\S\n]*\n)+|\n[^\S\n]*\Z"
    before, after = ([one for one in regex.split(parted, some) if one.strip()] for some in (text, changed))
    assert Counter(before) == Counter(after) and regex.findall(parted, text) == regex.findall(parted, changed)
    if within is not None:
        assert all(abs(before.index(one) - after.index(one)) < within for one in before if before.count(one) == 1)


def test_a_shuffle_leaves_the_line_breaks_at_the_ends_where_they_are() -> None:
    ends = {shuffled("\n\nEins\n\n第二\n \nतीन\n", Shuffle(), random.Random(seed)) for seed in range(20)}
    assert {regex.sub(r"\w+", "-", one) for one in ends} == {"\n\n-\n\n-\n \n-\n"}
    assert len(ends) == 6


@given(TEXTS, SEEDS, st.sampled_from([16, 40, 1000]))
def test_cuts_lie_between_characters_and_lose_nothing(text: str, draw: random.Random, most: int) -> None:
    cuts = list(cuts_of(text, Middle(most_characters=most), draw))
    signs = clusters(text)
    assert "".join(cut.text for cut in cuts) == (text if len(signs) >= LEAST_CLUSTERS else "")
    short = LEAST_CLUSTERS * max(map(len, signs), default=0)
    found = []
    for cut in cuts:
        assert 0 <= cut.first <= cut.second <= len(cut.text) <= max(most, short) + short
        parts = (cut.text[: cut.first], cut.text[cut.first : cut.second], cut.text[cut.second :])
        assert len(clusters(cut.text)) >= LEAST_CLUSTERS
        found += [one for part in parts for one in clusters(part)]
    assert found == (signs if cuts else [])
    if len(text) <= most:
        assert len(cuts) <= 1


def test_a_short_end_belongs_to_the_piece_before_it() -> None:
    for text in (
        "a quiet river " + "and so on",
        "第二条河很安静也很宽，没有人知道" + "为什么。",
        "กำลังศึกษาที่นี่" + "น้ำใจ",
    ):
        assert "".join(cut.text for cut in cuts_of(text, Middle(most_characters=16), random.Random(1))) == text
    family = "👨‍👩‍👧" * 20
    assert "".join(cut.text for cut in cuts_of(family, Middle(most_characters=16), random.Random(1))) == family


def test_a_long_text_is_cut_at_white_space_and_every_piece_is_used() -> None:
    text = "the river is quiet and wide today " * 200
    cuts = list(cuts_of(text, Middle(most_characters=100, suffix_first=0.5), random.Random(3)))
    assert "".join(cut.text for cut in cuts) == text
    assert all(cut.text.endswith(" ") and len(cut.text) > 50 for cut in cuts[:-1])
    forms = Counter(cut.form for cut in cuts)
    assert forms["psm"] > 15 and forms["spm"] > 15
    assert sum(cut.second - cut.first for cut in cuts) / len(text) > 0.2, "a third, on average"
