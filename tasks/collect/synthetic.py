"""The `synthetic` source: small English documents and question -> answer pairs made by code.

For the smoke recipe and for tests: everything that later stages need is in it. A document is about one person
(home, trade, animal, what happened on a journey) in sentences drawn from templates; the pairs ask for these facts.
In every `CYCLE` documents there are one exact and one near duplicate of an earlier document (in another group, so
that some span the split) and one of junk: noise, one line over and over, a table of numbers, or a few words.
"""

import random
from pathlib import Path

from pydantic import Field

from storage.documents import Document, Pair, document_id
from tasks.collect.output import JobOutput, Splits
from tasks.engine.config import StageConfig
from tasks.engine.context import Summary

SOURCE = "synthetic"
DOCUMENTS_PER_GROUP = 8
CYCLE = 20  # documents of which one is an exact duplicate, one a near duplicate and one junk

_FIRST = "Ada Bruno Clara Dario Elin Felix Greta Hugo Ines Jonas Katja Leo Mira Nils Olga Pavel Quinn Rosa Sven Tilda"
_LAST = "Abel Brandt Castle Dorn Eriksen Field Grant Holm Ivers Jansen Keller Lind Moreau Novak Ortiz Peters Rowe Stein"
_TOWNS = "Aldern Birkby Corvane Dunmore Eastwick Farhaven Glenrock Hartsey Ilmouth Kingsford Larkhill Midwater Northam"
_TRADES = (
    "baker carpenter doctor farmer fisher gardener glazier joiner miller painter potter sailor smith tailor teacher"
)
_ANIMALS = "dog cat goat horse donkey parrot sheep goose rabbit mule pony hen"
_COLOURS = "black brown grey white red golden spotted pale dark silver"
_PLACES = "harbour market forest river bridge mill church orchard station lighthouse castle valley meadow quarry"
_THINGS = "lantern map letter basket ladder clock violin kettle blanket saddle compass bell mirror hammer coin book"
_SEASONS = "spring summer autumn winter"
_FEELINGS = "calm curious tired cheerful careful patient proud worried quiet hopeful"

_OPENINGS = (
    "{name} lives in {town} and works as a {trade}.",
    "In the town of {town} everybody knows {name}, the {trade}.",
    "There was once a {trade} called {name}, whose house stood in {town}.",
    "{name} became a {trade} in {town} {years} years ago.",
)
_FACTS = (
    "The {colour} {animal} that belongs to {first} sleeps beside the {thing} every night.",
    "{first} keeps a {colour} {animal}, which follows the children to the {place}.",
    "A {colour} {animal} shares the house, and {first} would not part with it for any {thing}.",
    "With a {colour} {animal} at the door, {first} never needs a {thing} to feel safe.",
)
_EVENTS = (
    "One {season} morning a {thing} was found near the {place}, and nobody could say who had lost it.",
    "The road to {other} was closed by snow, so the journey took {days} days instead of one.",
    "At the {place} the old {trade2} told a story about a {thing} that had been stolen long ago.",
    "People from {other} came to the {place} and asked whether the {thing} was for sale.",
    "When the rain stopped, the way across the {place} was open again and the {trade2} could go home.",
    "Every {season} the families meet at the {place} to mend what the wind has broken.",
    "It is {miles} miles from {town} to {other}, and the last of them lead through the {place}.",
    "Because the {thing} was too heavy for one, the {trade2} helped to carry it as far as the {place}.",
    "The letter that arrived in {season} was from a {trade2} who had moved to {other} as a child.",
    "Nobody had crossed the {place} at night before, but the light of the {thing} was enough.",
    "After {days} days of work the {place} looked as it had looked in the time of their parents.",
    "The {trade2} laughed and said that a {thing} is worth more than a promise.",
)
_CLOSINGS = (
    "In the evening {first} was {feeling} and thought of the people in {other}.",
    "{first} felt {feeling}, because the work of the day was done and the {animal} was fed.",
    "That is why the {trade} of {town} still keeps the {thing} from the {place}.",
    "Since then {first} has been {feeling} whenever somebody speaks of {other}.",
)
_QUESTIONS = (
    ("Where does {name} live?", "{name} lives in {town}."),
    ("What is the work of {name}?", "{name} is a {trade}."),
    ("Which animal does {name} keep?", "{name} keeps a {colour} {animal}."),
)
_JUNK_WORDS = "win free $$$ click!!! >>> xxx 100% ### buy-now %%% zzzz 0x1f @@@ ~~~ qwrt"


class SyntheticJob(StageConfig):
    """All that the generator depends on."""

    documents: int = Field(description="Number of documents.")
    seed: int = Field(description="Seed of the generator.")
    splits: Splits = Field(description="What is held out.")
    documents_per_shard: int = Field(description="Documents in a shard, at most.")


def make_synthetic(job: SyntheticJob, inputs: dict[str, Path], out: Path) -> Summary:
    """Write the documents and pairs; equal for an equal seed on every machine."""
    del inputs  # it reads nothing
    earlier: list[str] = []
    with JobOutput(out, SOURCE, job.documents_per_shard) as output:
        for number in range(job.documents):
            chance = random.Random(f"{job.seed}/{number}")  # a string seeds through SHA-512: the same everywhere
            group = f"synthetic-{number // DOCUMENTS_PER_GROUP:04d}"
            split = job.splits.of(group)
            facts = _facts(chance)
            text = _text(chance, facts, number, earlier)
            earlier.append(text)
            identity = document_id(SOURCE, group, text)
            output.counts["read"] += 1
            output.document(Document(identity, text, SOURCE, group, split, title=f"{number:06d}", lang="en"))
            if facts["name"] in text:
                for question, answer in _QUESTIONS:
                    output.pair(Pair.of(question.format(**facts), answer.format(**facts), group, split, SOURCE))
    return output.summary()


def _text(chance: random.Random, facts: dict[str, str], number: int, earlier: list[str]) -> str:
    place = number % CYCLE
    if place == 7 and earlier:
        return chance.choice(earlier)
    if place == 13 and earlier:
        words = chance.choice(earlier).split(" ")
        words[chance.randrange(len(words))] = "indeed"
        return " ".join(words)
    if place == 17:
        return _junk(chance)
    return _story(chance, facts)


def _facts(chance: random.Random) -> dict[str, str]:
    first = chance.choice(_FIRST.split())
    town, other = chance.sample(_TOWNS.split(), 2)
    trade = chance.choice(_TRADES.split())
    return {
        "first": first,
        "name": f"{first} {chance.choice(_LAST.split())}",
        "town": town,
        "other": other,
        "trade": trade,
        "animal": chance.choice(_ANIMALS.split()),
        "colour": chance.choice(_COLOURS.split()),
    }


def _story(chance: random.Random, facts: dict[str, str]) -> str:
    """Two or three paragraphs, 70 to 180 words."""
    events = chance.sample(_EVENTS, chance.randint(4, 7))
    half = len(events) // 2
    paragraphs = (
        [chance.choice(_OPENINGS), chance.choice(_FACTS), *events[:half]],
        [*events[half:], chance.choice(_CLOSINGS)],
    )
    return "\n\n".join(" ".join(_filled(chance, sentence, facts) for sentence in part) for part in paragraphs)


def _filled(chance: random.Random, sentence: str, facts: dict[str, str]) -> str:
    return sentence.format(
        **facts,
        trade2=chance.choice(_TRADES.split()),
        place=chance.choice(_PLACES.split()),
        thing=chance.choice(_THINGS.split()),
        season=chance.choice(_SEASONS.split()),
        feeling=chance.choice(_FEELINGS.split()),
        years=chance.randint(2, 40),
        days=chance.randint(2, 30),
        miles=chance.randint(3, 90),
    )


def _junk(chance: random.Random) -> str:
    kind = chance.randrange(4)
    if kind == 0:
        return " ".join(chance.choice(_JUNK_WORDS.split()) for _ in range(80))
    if kind == 1:
        return "\n".join(["Please read the terms of this page before you go on."] * 25)
    if kind == 2:
        return "\n".join(" | ".join(str(chance.randrange(1000)) for _ in range(8)) for _ in range(12))
    return "Page not found."
