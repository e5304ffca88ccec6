"""What a datasheet should answer, after Gebru et al. 2021 (arXiv 1803.09010), in words of our own.

A run knows what went in, what was done and what came out. Why, with whose consent, for what and by whom it may be used
is known by people alone: these questions are listed as open, and so are those that this run could have answered and
has not.
"""

from flows.report.datasheet.facts import Composition, Personal

SECTIONS = {
    "motivation": "Motivation",
    "composition": "Composition",
    "collection": "Collection process",
    "preprocessing": "Preprocessing and cleaning",
    "uses": "Uses",
    "distribution": "Distribution",
    "maintenance": "Maintenance",
}
_FOR_A_PERSON = {
    "motivation": (
        "For what purpose was the corpus made, and which gap was it to fill?",
        "Who made it, and on whose behalf?",
        "Who paid for it?",
    ),
    "composition": (
        "What does a document stand for, and how complete or how representative is the choice of sources?",
        "Are there errors, noise or bias in the sources that a user should know of?",
        "Does it hold confidential material, or what might offend, insult or frighten?",
        "Does it speak of people: which groups can be told apart, and can single persons be recognised by name?",
        "Does it hold sensitive facts about people, such as health, religion, money or politics?",
    ),
    "collection": (
        "Over what time were the sources written, and when were they taken?",
        "Who took part in collecting, and how were they paid?",
        "Was there an ethical review?",
        "Do those who wrote or are written about know of it, have they consented, and how can they take that back?",
        "Has anyone looked into what the corpus may do to them?",
    ),
    "preprocessing": ("Is the raw text kept, and where can it be had?",),
    "uses": (
        "What has the corpus been used for, and what else could it be used for?",
        "Can anything about how it was collected or cleaned harm its uses, and what can users do about it?",
        "What should it not be used for?",
    ),
    "distribution": (
        "To whom will it be given, when and how, and under which address or DOI?",
        "Under which licence or terms as a whole? The sources state their own, which stand under Composition.",
        "Do third parties, export controls or other rules limit it?",
    ),
    "maintenance": (
        "Who keeps it, and how can they be reached?",
        "Will it be corrected and extended, how often, and how will users hear of it?",
        "How long may texts about people be kept, and how are old versions treated?",
        "How can others add to it?",
    ),
}


def open_questions(corpus: Composition, personal: Personal | None, searched: str) -> dict[str, tuple[str, ...]]:
    """The questions, by section, that a person has to answer."""
    questions = {section: list(asked) for section, asked in _FOR_A_PERSON.items()}
    composed = questions["composition"]
    if not searched:
        composed.append("Does it hold what benchmarks ask? No stage of this run has searched for that.")
    if personal is None or not personal.looked_for:
        composed.append("Which personal data are in it? No stage of this run has searched for any.")
    unstated = sum(group.training + group.heldout for group in corpus.licenses if group.name == "not stated")
    if unstated:
        composed.append(f"Under which licence are the {unstated:,} documents whose source states none?")
    return {section: tuple(asked) for section, asked in questions.items()}
