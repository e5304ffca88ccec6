"""The language of a document: as its source states it, else as py3langid finds it.

py3langid is naive Bayes over byte n-grams, 139 languages, one 4.6 MB model file. It is the identifier of this project
because it works offline, needs numpy only, is kept up (BSD licence), and reads its model without pickle.

A long text is read in five places, the middle of each fifth, put together: a book may begin with an English
licence or preface and be German. (Judged one by one, 400 characters give probabilities too low for lists of names.)

Cost: .4 s to load in each process, .5 ms for the 2,000 characters that are read; none where a language is stated.
"""

import functools
from typing import Any

from storage.documents import UNDETERMINED
from tasks.filter.languages import covered, language_code

PLACES, CHARACTERS = 5, 400  # read of a long text
CERTAIN = 0.5  # least probability by which rules of a language are applied


def language_of(text: str, stated: str, wanted: tuple[str, ...]) -> tuple[str, float]:
    """The language of a text, and the probability that it is one of those wanted (three decimals; 1 where none is).

    A language that is stated is believed. One that is found with less than `CERTAIN` is UNDETERMINED: no language's
    rules are applied on a guess.
    """
    accepted = covered(wanted)
    if said := language_code(stated) if stated else "":
        return said, float(not wanted or said in accepted)
    ranking = _identifier().rank(_places(text))
    language, probability = ranking[0]
    score = sum(share for label, share in ranking if label in accepted) if wanted else 1.0
    return language if probability >= CERTAIN else UNDETERMINED, round(score, 3)


def _places(text: str) -> str:
    """What is read of a text: all of a short one."""
    length = len(text)
    if length <= PLACES * CHARACTERS:
        return text
    starts = (length * (2 * place + 1) // (2 * PLACES) - CHARACTERS // 2 for place in range(PLACES))
    return "\n".join(text[start : start + CHARACTERS] for start in starts)


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    # Sums in double precision: with the model's half precision the third decimal would depend on the processor.
    identifier.nb_ptc = identifier.nb_ptc.astype("float64")
    return identifier
