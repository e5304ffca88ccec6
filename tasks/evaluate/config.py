"""What a recipe can say about evaluation."""

from typing import Literal

from pydantic import Field

from tasks.config import StageConfig


class EvaluateConfig(StageConfig):
    """How much is measured, and with which seed."""

    heldout_bytes: int = Field(
        300_000, ge=1_000, le=10**9, description="Bytes of held-out text scored for bits per byte (whole documents)."
    )
    stride: int | None = Field(
        None, ge=1, le=1 << 20, description="Tokens that the window moves in long documents; default: half the context."
    )
    items: int = Field(500, ge=10, le=100_000, description="Most items of the cloze, the choice and the answers each.")
    spans: int = Field(
        500, ge=0, le=100_000, description="Most spans of training documents, and of held-out ones, asked by heart."
    )
    prefix_tokens: int = Field(32, ge=1, le=4_096, description="Tokens of a span that are shown (fewer where no room).")
    span_tokens: int = Field(16, ge=1, le=4_096, description="Tokens of a span that must follow exactly.")
    exposure_candidates: int = Field(
        1_000, ge=10, le=1_000_000, description="Random sequences never planted that canaries are ranked among."
    )
    calibration_tokens: int = Field(
        32_768, ge=256, le=10**9, description="Tokens of held-out text whose prediction is checked for calibration."
    )
    baseline_bytes: int = Field(
        8_000_000, ge=1_000, le=10**9, description="Bytes of training text that the n-gram baselines are counted on."
    )
    bootstrap_draws: int = Field(1_000, ge=100, le=100_000, description="Draws for each bootstrap interval.")
    token_budget: int = Field(8_192, ge=256, le=1 << 22, description="Tokens of one scoring batch, padding included.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where it scores; auto takes a GPU if there.")
    threads: int = Field(2, ge=1, le=256, description="CPU threads that score side by side; batches depend on it.")
    seed: int = Field(1337, ge=0, le=2**32 - 1, description="Seed of the samples, the distractors and the intervals.")
