"""What a recipe can set for the stage deduplicate."""

from pydantic import Field

from tasks.engine.config import StageConfig


class DeduplicateConfig(StageConfig):
    """The defaults are FineWeb's: 14 bands of 8 rows over word 5-grams (arXiv 2406.17557, section 3.5)."""

    threshold: float = Field(
        0.7, gt=0, le=1, description="Documents with at least this exact Jaccard similarity (0-1) are duplicates."
    )
    bands: int = Field(14, ge=1, le=1000, description="Bands of the MinHash signature; one equal band is a candidate.")
    rows: int = Field(8, ge=1, le=100, description="Hash values in a band; more make a candidate rarer.")
    shingle_words: int = Field(5, ge=1, le=50, description="Words in a shingle, the unit that documents share.")
    seed: int = Field(1, ge=0, le=2**32 - 1, description="Seed of the MinHash permutations (a number, no unit).")

    def candidate_probability(self, jaccard: float) -> float:
        """Chance that two documents of this similarity are compared at all: 1 - (1 - J^rows)^bands."""
        return float(1 - (1 - jaccard**self.rows) ** self.bands)
