"""What a recipe can say about augmentation: a kind of change a field, none of them unless it is set."""

from typing import Self

from pydantic import Field, model_validator

from tasks.engine.config import StageConfig


class Kind(StageConfig):
    """How many documents are changed in one way, and whether they are read in both forms."""

    share: float = Field(0.1, gt=0, le=1, description="Share of the training documents, by a hash of id and seed.")
    instead: bool = Field(
        False, description="Whether the changed document stands in place of its source; no: it is added."
    )


class Noise(Kind):
    """Words in another case, marks of punctuation left out or doubled."""

    case: float = Field(0.1, ge=0, le=1, description="Chance (0-1) of a word to be in lower, upper or title case.")
    punctuation: float = Field(0.1, ge=0, le=1, description="Chance (0-1) of a mark to be left out or doubled.")


class Dropout(Kind):
    """Words left out; of scripts without spaces between words, letters with the marks on them."""

    words: float = Field(0.1, gt=0, lt=1, description="Chance (0-1) of a word, or of such a letter, to be left out.")


class Shuffle(Kind):
    """Paragraphs, which empty lines part, in another order."""

    within: int | None = Field(
        None, ge=2, le=10_000, description="So many paragraphs in a row are put in another order; null: all of them."
    )


class Middle(Kind):
    """Fill-in-the-middle (Bavarian et al. 2022): a text whose middle stands last, after the two ends."""

    suffix_first: float = Field(
        0.5, ge=0, le=1, description="Share of the texts that begin with their last part (SPM); the others: PSM."
    )
    most_characters: int = Field(
        1000, ge=16, le=1 << 20, description="A longer document is changed in pieces of about so many characters."
    )


class AugmentConfig(StageConfig):
    """What the stage augment is told."""

    max_share: float = Field(
        0.5, gt=0, le=1, description="Most that changed documents may be of all bytes to be learned from."
    )
    seed: int = Field(1337, ge=0, le=2**32 - 1, description="Seed of what is chosen and how it is changed.")
    noise: Noise | None = Field(None, title="Noise", description="Case and punctuation; empty: none.")
    dropout: Dropout | None = Field(None, title="Dropout", description="Words left out; empty: none.")
    shuffle: Shuffle | None = Field(None, title="Shuffle", description="Paragraphs in another order; empty: none.")
    middle: Middle | None = Field(None, title="Middle", description="Fill-in-the-middle; empty: none.")
    rewrite: Kind | None = Field(None, title="Rewrite", description="In another model's words; empty: none.")

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kinds that are set, by their names."""
        named = {name: getattr(self, name) for name in KINDS}
        return {name: kind for name, kind in named.items() if kind is not None}

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.kinds:
            raise ValueError(f"set one of {', '.join(KINDS)}, or leave the section out")
        return self


KINDS = ("noise", "dropout", "shuffle", "middle", "rewrite")
