"""What a recipe can say about a release."""

from pydantic import Field

from tasks.config import StageConfig


class ReleaseConfig(StageConfig):
    """Name, words and samples of a release."""

    name: str = Field(
        "llmill-model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$", description="Name of the model, also in MLflow."
    )
    description: str = Field("", max_length=2_000, description="What the model is, in a sentence or two, for its card.")
    license: str = Field(
        "other",
        pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$",
        description="Licence of the weights, as the Hugging Face hub names it.",
    )
    samples: int = Field(6, ge=0, le=16, description="Held-out prompts that the model answers on its card.")
    max_new_tokens: int = Field(
        48, ge=1, le=1 << 14, description="Most tokens of a sample, and of an answer by default."
    )
