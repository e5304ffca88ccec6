"""The one judge of texts: of documents in a run, of prompts and of each sentence of an answer at the server.

Its folder, the part `moderator` of a run:

| file | what it holds |
|---|---|
| moderation.json | version, categories with thresholds, detectors, countries of phone numbers |
| words.json | the words of each category, by language |
| classifier.safetensors | the weights of the categories that are learned, where there are any |

A text's score in a category is the highest that anything says: 1 where a word of a list or personal data is found, and
the probability of the classifier, of a long text that of its worst passage. A list for some languages counts for a text
that is stated or clearly found to be in another one as nothing; of a short text no language is clear, and it counts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from storage.documents import UNDETERMINED
from storage.errors import DataError
from tasks.filter.language import language_of
from tasks.linear import FILE, Classifier
from tasks.moderate.classifier import row_of
from tasks.moderate.config import Category, ModerationConfig
from tasks.moderate.passages import passages_of
from tasks.moderate.personal import found_in
from tasks.moderate.wordlists import Lexicon, Words, as_json, from_json, read_words
from tasks.words import length_in_words

MODERATION, WORDS = "moderation.json", "words.json"
VERSION = 1
MOST_BYTES = 256 << 20  # of a file of words
CLEAR_WORDS = 20  # of a text whose language is found, not guessed


@dataclass(frozen=True, slots=True)
class Verdict:
    """Scores (0-1) by category, and the categories whose threshold is reached."""

    scores: Mapping[str, float]
    flagged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Moderator:
    """Judges texts, from any thread."""

    config: ModerationConfig
    words: Mapping[str, Sequence[Words]]
    classifier: Classifier | None = None
    _lexicon: Lexicon = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lexicon", Lexicon(self.words))

    @classmethod
    def of(cls, config: ModerationConfig, place: str, classifier: Classifier | None = None) -> "Moderator":
        """Read the lists that a configuration names; DataError for a bad one. `place` is where the configuration is."""
        words = {
            category.name: [
                found
                for number, wanted in enumerate(category.words)
                for found in read_words(wanted, f"{place}categories.{position}.words.{number}")
            ]
            for position, category in enumerate(config.categories)
        }
        return cls(config, words, classifier)

    def judge(self, text: str, stated: str = "") -> Verdict:
        """What is to be said of a text; `stated` is the language that its source states, if any."""
        scores = dict.fromkeys((category.name for category in self.config.categories), 0.0)
        for name in self._with_words(text, stated):
            scores[name] = 1.0
        for category in self.config.categories:
            if any(found_in(text, category.detectors, self.config.phone_regions, stated)):
                scores[category.name] = 1.0
        if self.classifier is not None and text.strip():
            for passage in passages_of(text):
                for name, score in self.classifier.scores(row_of(passage)).items():
                    scores[name] = max(scores.get(name, 0.0), round(score, 6))
        flagged = tuple(one.name for one in self.config.categories if scores[one.name] >= one.threshold)
        return Verdict(scores, flagged)

    def write(self, folder: Path) -> None:
        """The judge as files, the same for the same judge."""
        categories = [category.model_dump(mode="json", exclude={"words"}) for category in self.config.categories]
        learned = list(self.classifier.categories) if self.classifier else []
        regions = list(self.config.phone_regions)
        said = {"version": VERSION, "categories": categories, "phone_regions": regions, "learned": learned}
        for name, content in ((MODERATION, said), (WORDS, as_json(self.words))):
            text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
            (folder / name).write_text(text + "\n", encoding="utf-8")
        if self.classifier is not None:
            self.classifier.write(folder)

    def _with_words(self, text: str, stated: str) -> set[str]:
        found = self._lexicon.found(text)
        sure = {category for category, languages in found if not languages}
        rest = [(category, languages) for category, languages in found if category not in sure]
        if rest:
            clear = stated or length_in_words(text) >= CLEAR_WORDS
            language = language_of(text, stated, ())[0] if clear else UNDETERMINED
            sure |= {category for category, languages in rest if language == UNDETERMINED or language in languages}
        return sure


def open_moderator(folder: Path) -> Moderator:
    """The judge of a folder that `write` has filled; DataError where it holds none, or a damaged one."""
    return read_moderator({name: folder / name for name in (MODERATION, WORDS, FILE)})


def read_moderator(files: Mapping[str, Path]) -> Moderator:
    """See `open_moderator`: its files by their names, wherever they are."""
    place = files[MODERATION]
    said = _object(place)
    if said.get("version") != VERSION:
        raise DataError(f"{place}: version {said.get('version')!r}; this llmill reads {VERSION}")
    try:
        words = from_json(_object(files[WORDS]))
        categories = [_category(one, words) for one in said["categories"]]
        config = ModerationConfig.model_validate({"categories": categories, "phone_regions": said["phone_regions"]})
        learned = [str(name) for name in said["learned"]]
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{place}: is of no moderator that can be read: {error}") from None
    return Moderator(config, words, Classifier.read(files[FILE], learned) if learned else None)


def _category(given: Mapping[str, Any], words: Mapping[str, Sequence[Words]]) -> Category:
    """A category whose words are in a file of their own: it is known by something, if by nothing else."""
    listed = [{"path": WORDS}] if words.get(given["name"]) else []
    return Category.model_validate({**given, "words": listed})


def _object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: larger than {MOST_BYTES:,} bytes")
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}): a moderator is a folder with {MODERATION}"
        ) from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: damaged: no JSON in UTF-8") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: damaged: no JSON object")
    return found
