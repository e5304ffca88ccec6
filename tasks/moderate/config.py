"""What a recipe, or a file for `llmill serve --moderation`, can say about moderation."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from tasks.engine.config import LOCATION, StageConfig
from tasks.filter.config import Language, Region

Text = Annotated[str, StringConstraints(min_length=1)]
Detector = Literal["email", "card", "iban", "ssn", "phone", "ip", "secret"]


class WordList(StageConfig):
    """Words of the user's own, one a line."""

    path: Text = Field(
        description="A list, a word or phrase a line, a table with a column `word`, or a folder of lists by language.",
        json_schema_extra=LOCATION,
    )
    languages: tuple[Language, ...] = Field(
        (), description="ISO 639 codes of the languages of the texts that it is for; empty: of all (of a folder: each)."
    )


class Category(StageConfig):
    """A kind of text that is not wanted, and by what it is known: one of the three at least."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_/-]{0,63}$", description="Its name in verdicts, ledgers and figures: hate, spam, ..."
    )
    threshold: float = Field(
        0.5, gt=0, le=1, description="Score (0-1) from which a text is flagged; words and personal data score 1."
    )
    words: tuple[WordList, ...] = Field((), description="Lists of words, each of which is enough.")
    detectors: tuple[Detector, ...] = Field(
        (),
        description="Personal data and secrets: email, card, iban, ssn, phone, ip, secret (keys and tokens).",
    )
    labels: tuple[Text, ...] = Field(
        (), description="Labels of the rows of collect.labels that are of it: a classifier learns them."
    )

    @model_validator(mode="after")
    def _known_by_something(self) -> Self:
        if not (self.words or self.detectors or self.labels):
            raise ValueError(f"{self.name}: give words, detectors or labels to know it by")
        return self


class ModerationConfig(StageConfig):
    """All categories."""

    categories: tuple[Category, ...] = Field(
        min_length=1, max_length=100, description="Kinds of text that are not wanted."
    )
    phone_regions: tuple[Region, ...] = Field(
        (), description="ISO 3166 codes of countries whose phone numbers are known; empty: by the stated language."
    )

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        names = [category.name for category in self.categories]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"categories: {name} is named twice")
        return self
