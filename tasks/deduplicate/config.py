"""What a recipe can set for the stage deduplicate."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.collect.config import Text
from tasks.engine.config import LOCATION, StageConfig
from tasks.fetch.config import SourceName


class ExternalCorpus(StageConfig):
    """Documents outside: what is like one of them goes."""

    name: SourceName = Field("external", description="Name of this corpus in the ledger and in figures.")
    path: Text = Field(
        description="A folder of Parquet files with a column text, as a run writes documents; a glob, or one file.",
        json_schema_extra=LOCATION,
    )


class RepeatedLines(StageConfig):
    """Lines or paragraphs that occur in many documents; they are compared by their words alone."""

    unit: Literal["line", "paragraph"] = Field(
        "paragraph",
        description="What is compared: lines, or runs of lines that have words. Of code, lines would lose its imports.",
    )
    documents: int = Field(
        ge=2,
        le=1_000_000_000,
        description="Documents, duplicates not counted, in which a line or paragraph must occur to be taken out.",
    )
    min_words: int = Field(
        5, ge=1, le=1000, description="Words that it must have to go; in Chinese, Japanese and Thai letters."
    )
    keep_first: bool = Field(False, description="Whether the first occurrence stays.")


class RepeatedPassages(StageConfig):
    """Runs of the same characters that have occurred before, in another document or in the same one."""

    min_characters: int = Field(
        ge=20, le=100_000, description="Characters in a row that must be the same; the first occurrence stays."
    )


class DeduplicateConfig(StageConfig):
    """The defaults are FineWeb's: 14 bands of 8 rows over word 5-grams (arXiv 2406.17557, section 3.5)."""

    threshold: float = Field(
        0.7, gt=0, le=1, description="Documents with at least this exact Jaccard similarity (0-1) are duplicates."
    )
    bands: int = Field(14, ge=1, le=1000, description="Bands of the MinHash signature; one equal band is a candidate.")
    rows: int = Field(8, ge=1, le=100, description="Hash values in a band; more make a candidate rarer.")
    shingle_words: int = Field(5, ge=1, le=50, description="Words in a shingle, the unit that documents share.")
    seed: int = Field(1, ge=0, le=2**32 - 1, description="Seed of the MinHash permutations (a number, no unit).")
    keep: Literal["longest", "earliest", "best_score", "source_priority"] = Field(
        "longest",
        description="Which of similar documents stays, after held-out ones; of equally good the longest, then first.",
    )
    score_field: str = Field("", description="With keep: best_score, the number in the metadata; the highest stays.")
    source_priority: tuple[str, ...] = Field(
        (), description="With keep: source_priority, names of sources, the best first; others come after them."
    )
    against: tuple[ExternalCorpus, ...] = Field(
        (), description="Corpora outside: a document like one of theirs goes, and theirs are never written."
    )

    repeated_lines: RepeatedLines | None = Field(
        None, description="Take lines or paragraphs out that occur in many documents; empty: none."
    )
    repeated_passages: RepeatedPassages | None = Field(
        None,
        description="Take passages out that occurred before, letter for letter; after repeated_lines; empty: none.",
    )

    @model_validator(mode="after")
    def _rule(self) -> Self:
        for rule, name in (("best_score", "score_field"), ("source_priority", "source_priority")):
            if (self.keep == rule) != bool(getattr(self, name)):
                raise ValueError(f"{name} belongs to keep: {rule}, and keep is {self.keep}: set both or neither")
        names = [corpus.name for corpus in self.against]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two corpora in against are named {name}: give each a name of its own (`name: ...`)")
        return self

    def candidate_probability(self, jaccard: float) -> float:
        """Chance that two documents of this similarity are compared at all: 1 - (1 - J^rows)^bands."""
        return float(1 - (1 - jaccard**self.rows) ** self.bands)
