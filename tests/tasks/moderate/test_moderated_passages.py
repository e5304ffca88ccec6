"""A text is cut where it says, never where its pieces end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.moderate.passages import MOST_CHARACTERS, next_end, passages_of, sentences_of

TEXTS = st.text(alphabet="ab .!?。！”)\n 他ไทก\u1361१।", max_size=120)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One. Two! Three", ["One.", " Two!", " Three"]),
        ("Er sagte „Nein.“ Dann ging er.", ["Er sagte „Nein.“ Dann ging er."]),
        ("Es kostet 3.50 Euro. Gut?!", ["Es kostet 3.50 Euro.", " Gut?!"]),
        ("他来了。“真的？”她问。好", ["他来了。", "“真的？”", "她问。", "好"]),
        ("ฉันไป เขามา", ["ฉันไป", " เขามา"]),
        ("यह ठीक है। हाँ।", ["यह ठीक है।", " हाँ।"]),
        ("no end\n\nnext", ["no end\n\n", "next"]),
        ("x" * 1500, ["x" * 1000, "x" * 500]),
        ("word " * 300, ["word " * 200, "word " * 100]),
        ("", []),
    ],
)
def test_sentences_end_as_their_script_has_it(text: str, wanted: list[str]) -> None:
    assert list(sentences_of(text)) == wanted


@settings(deadline=None)
@given(TEXTS, st.text(alphabet="ab .。ก\n", max_size=20))
def test_an_end_that_was_found_stays_whatever_follows(text: str, more: str) -> None:
    end = next_end(text)
    assert end is None or next_end(text + more) == end


@settings(deadline=None)
@given(TEXTS)
def test_sentences_and_passages_are_the_text(text: str) -> None:
    sentences = list(sentences_of(text))
    assert "".join(sentences) == text and all(sentences)
    assert "".join(passages_of(text * 9)) == text * 9


def test_no_sentence_is_longer_than_the_most() -> None:
    assert max(map(len, sentences_of("a b, " * 5000))) <= MOST_CHARACTERS
