"""Words and sentences by script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.words import is_unspaced, sentences, words

TEXTS = {
    "Chinese": ("春天来了，「山上」的花开了。", ["春", "天", "来", "了，「", "山", "上」", "的", "花", "开", "了。"]),
    "Japanese": ("カタカナとGPT-2だ。", ["カ", "タ", "カ", "ナ", "と", "GPT-2", "だ。"]),
    "Thai": ("น้ำ ดี", ["น้", "ำ", "ดี"]),
    "Hindi": ("यह वाक्य है।", ["यह", "वाक्य", "है।"]),
    "Korean": ("한국어 문장.", ["한국어", "문장."]),
    "Amharic, old print": ("የሰው፡ልጅ፡ ነው።፡ሁሉ", ["የሰው", "ልጅ", "ነው።", "ሁሉ"]),
    "German": ("Größe 3.5, dann Ende.", ["Größe", "3.5,", "dann", "Ende."]),
}
SENTENCES = {
    "Chinese": ("春天来了。花开了！好吗？", ["春天来了。", "花开了！", "好吗？"]),
    "Hindi": ("यह एक है। वह दो है।", ["यह एक है।", "वह दो है।"]),
    "Thai": ("ฝนมาแล้ว น้ำเต็ม", ["ฝนมาแล้ว", "น้ำเต็ม"]),
    "Santali": ("ᱱᱚᱣᱟ ᱫᱚ ᱠᱟᱱᱟ᱾ ᱟᱨ ᱢᱤᱫ", ["ᱱᱚᱣᱟ ᱫᱚ ᱠᱟᱱᱟ᱾", "ᱟᱨ ᱢᱤᱫ"]),
    "English": ('It is 3.5 m. "Go!" he said', ["It is 3.5 m.", '"Go!"', "he said"]),
    "Arabic": ("هل هذا جيد؟ نعم.", ["هل هذا جيد؟", "نعم."]),
}


@pytest.mark.parametrize(("text", "expected"), TEXTS.values(), ids=TEXTS)
def test_words_of(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(("text", "expected"), SENTENCES.values(), ids=SENTENCES)
def test_sentences_of(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == expected


@given(st.text())
def test_nothing_but_white_space_is_lost(text: str) -> None:
    kept = "".join(text.split())
    assert "".join(words(text)) == kept.replace("\u1361", "")
    assert "".join("".join(text[start:end].split()) for start, end in sentences(text)) == kept


@given(st.text(st.characters(max_codepoint=0x0DFF)))
def test_scripts_with_spaces_are_split_at_white_space(text: str) -> None:
    assert not is_unspaced(text)
    assert words(text) == text.split()
