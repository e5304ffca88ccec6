"""The language of a document: as its source states it, else as py3langid finds it.

py3langid is naive Bayes over byte n-grams, 139 languages, one 4.6 MB model file. It is the identifier of this project
because it works offline, needs numpy only, is kept up (BSD licence), and reads its model without pickle.

A long text is read in five places, the middle of each fifth, put together: a book may begin with an English
licence or preface and be German. (Judged one by one, 400 characters give probabilities too low for lists of names.)

Cost: .5 s to load in each process, .2 ms for the 2,000 characters that are read (identifier.py); none where a language
is stated.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from storage.documents import UNDETERMINED
from tasks.filter.languages import covered, language_code

if TYPE_CHECKING:
    from tasks.filter.identifier import Identifier

PLACES, CHARACTERS = 5, 400  # read of a long text
CERTAIN = 0.5  # least probability by which rules of a language are applied


def language_of(text: str, stated: str, wanted: tuple[str, ...]) -> tuple[str, float]:
    """See `languages_of`."""
    return languages_of([(text, stated)], wanted)[0]


def languages_of(texts: Sequence[tuple[str, str]], wanted: tuple[str, ...]) -> list[tuple[str, float]]:
    """The language of each text, and the probability that it is one of those wanted (three decimals; 1 where none is).

    Of each text the language that its source states, if any, which is believed. One that is found with less than
    `CERTAIN` is UNDETERMINED: no language's rules are applied on a guess.
    """
    accepted = covered(wanted)
    said = [language_code(stated) if stated else "" for _, stated in texts]
    results = [(language, float(not wanted or language in accepted)) for language in said]
    asked = [number for number, language in enumerate(said) if not language]
    if not asked:
        return results
    identifier = _identifier()
    columns = _columns(identifier.labels, accepted)
    shares = identifier.probabilities([_places(texts[number][0]) for number in asked])
    best = shares.argmax(axis=1)
    for number, row, column in zip(asked, shares, best.tolist(), strict=True):
        language = identifier.labels[column] if row[column] >= CERTAIN else UNDETERMINED
        results[number] = language, round(float(row[columns].sum()), 3) if wanted else 1.0
    return results


@functools.cache
def _columns(labels: tuple[str, ...], accepted: frozenset[str]) -> list[int]:
    return [number for number, label in enumerate(labels) if label in accepted]


def _places(text: str) -> str:
    """What is read of a text: all of a short one."""
    length = len(text)
    if length <= PLACES * CHARACTERS:
        return text
    starts = (length * (2 * place + 1) // (2 * PLACES) - CHARACTERS // 2 for place in range(PLACES))
    return "\n".join(text[start : start + CHARACTERS] for start in starts)


@functools.cache
def _identifier() -> "Identifier":
    from tasks.filter.identifier import Identifier

    return Identifier()
