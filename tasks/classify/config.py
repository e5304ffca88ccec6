"""What a recipe can say about classes of texts."""

from pydantic import Field, field_validator

from tasks.train.config import TrainerConfig


class ClassifyConfig(TrainerConfig):
    """Which labels are told apart, how long it learns, and at what rates."""

    labels: tuple[str, ...] = Field((), description="Labels that are told apart, as the data name them; empty: all.")
    epochs: float = Field(4.0, gt=0, le=1000, description="Passes over the training texts.")
    steps: int | None = Field(None, ge=1, le=10_000_000, description="Optimizer steps, instead of epochs.")
    texts_per_step: int = Field(32, ge=1, le=65_536, description="Texts of one optimizer step.")
    heldout_texts: int = Field(5_000, ge=1, le=1_000_000, description="Held-out texts in the sample that is scored.")
    matrix_rate: float = Field(0.005, gt=0, le=1, description="Peak learning rate of matrices (Muon).")
    embedding_rate: float = Field(
        0.002, gt=0, le=1, description="Peak learning rate of embeddings, head and norms (AdamW)."
    )

    token_pairs: bool = Field(
        False,
        description="Whether a linear model of tokens and pairs of neighbouring ones counts half; transformers reads "
        "the other half alone.",
    )

    @field_validator("labels")
    @classmethod
    def _once_each(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) != len(labels) or len(labels) == 1:
            raise ValueError("name two labels or more, each once")
        return labels
