"""A text that repeats a run of words of others is found, in any script, and one that shares less is not."""

import pytest

from tasks.overlap import hashes_of, is_near

QUESTION = (
    "Which of these gases do plants take in from the air by day, and which do they give off, as far as one knows?"
)
CHINESE = "植物白天从空气中吸收哪一种气体，又放出哪一种气体？请用一句话回答这个问题并说明理由。"
THAI = "พืชดูดซับก๊าซชนิดใดจากอากาศในเวลากลางวันและปล่อยก๊าซชนิดใดออกมาโปรดตอบเป็นประโยคเดียวพร้อมบอกเหตุผล"
HINDI = "पौधे दिन में हवा से कौन सी गैस लेते हैं और कौन सी गैस छोड़ते हैं यह एक वाक्य में बताइए"


@pytest.mark.parametrize("text", [QUESTION, CHINESE, THAI, HINDI])
def test_a_repeated_run_is_found_whatever_stands_around_it(text: str) -> None:
    others = hashes_of([text])
    assert is_near(f"Tell me: {text.upper()} And why?", others)
    assert is_near(text.replace(",", " –"), others)
    assert not is_near(text[: len(text) // 5], others), "the beginning alone is less than a run"
    assert not is_near("Where do the people of this town keep the things that they have found on their way?", others)


def test_a_short_text_is_near_one_that_is_the_same_from_end_to_end() -> None:
    others = hashes_of(["What do plants take in?", "yes"])
    assert is_near("what do plants take in", others)
    assert not is_near("Say what do plants take in by night", others)
    assert not is_near("yes", others), "a word or two say nothing"


def test_nothing_is_near_to_nothing() -> None:
    assert not is_near(QUESTION, hashes_of([])) and not is_near("", hashes_of([QUESTION]))
    assert not is_near("\ud800 half of a pair", hashes_of([QUESTION]))
