"""The automaton that is walked for all bytes at once, beside py3langid's own walk: the same probabilities."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.filter.identifier import Identifier
from tasks.filter.language import language_of, languages_of

TEXTS = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "DIE WÜRDE DES MENSCHEN IST UNANTASTBAR. SIE ZU ACHTEN UND ZU SCHÜTZEN IST VERPFLICHTUNG",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता",
    "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心",
    "すべての人間は、生まれながらにして自由であり",
    "Cafe\u0301 na\u00efve \ufb01n",
    "",
    "a",
    "\x00\x01\x7f",
    "12345 67890",
    "\ud800 half a pair",
    "ß" * 3000,
]


@cache
def identifiers() -> tuple[Identifier, Any]:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    theirs = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    theirs.nb_ptc = theirs.nb_ptc.astype("float64")
    return Identifier(), theirs


def check(texts: list[str]) -> None:
    ours, theirs = identifiers()
    shares = ours.probabilities(texts)
    for text, row in zip(texts, shares, strict=True):
        ranking = theirs.rank(text)
        assert dict(zip(ours.labels, row.tolist(), strict=True)) == pytest.approx(dict(ranking), abs=1e-9)
        assert row.sum() == pytest.approx(1)
        if ranking[0][1] - ranking[1][1] > 1e-9:
            assert ours.labels[int(row.argmax())] == ranking[0][0]


def test_texts_of_many_scripts_have_the_probabilities_that_py3langid_gives() -> None:
    check(TEXTS)


WORDS = st.sampled_from(" ".join(TEXTS[:7]).split())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=40), st.lists(WORDS, max_size=40).map(" ".join)), min_size=1, max_size=5))
def test_any_texts_together_have_the_probabilities_that_py3langid_gives_each(texts: list[str]) -> None:
    check(texts)


def test_a_text_is_judged_alike_alone_and_beside_others() -> None:
    asked = [(text, "") for text in TEXTS] + [("Ein Satz", "de")]
    assert languages_of(asked, ("en", "de")) == [language_of(*one, ("en", "de")) for one in asked]
    assert languages_of(asked, ())[0] == ("en", 1.0)
    assert languages_of(asked, ("fr",))[-1] == ("de", 0.0)
