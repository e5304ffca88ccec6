"""What a recipe can say about retraining. None of it enters the key of a stage of the ordinary build."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from tasks.engine.config import StageConfig
from tasks.train.config import Rates
from tasks.train.pretrain import PretrainConfig

Figure = Annotated[str, StringConstraints(pattern=r"^[^\s*?]{1,300}$")]


OWN_FIGURES = {  # the metrics of each measure of llmill's own, of which a part such as heldout/lang=de has the same
    "heldout": ("bits_per_byte", "token_perplexity", "word_perplexity"),
    "answers": ("bits_per_byte", "bits_per_byte_other_prompt", "prompt_gap"),
    "feedback": ("bits_per_byte", "accuracy"),
    "learned_feedback": ("bits_per_byte",),
    "known_text": ("bits_per_byte", "forgetting"),
    "cloze": ("accuracy", "word_perplexity"),
    "choice": ("accuracy", "accuracy_per_character", "accuracy_mutual_information", "expected_calibration_error"),
    "memorisation": ("reproduced", "reproduced_heldout"),
    "canaries": ("reproduced", "exposure"),
    "calibration": ("expected_calibration_error", "overconfidence"),
}


def is_own_figure(figure: str) -> bool:
    """Whether NAME/METRIC names a measure of llmill's own, measured or not; any other is a benchmark's."""
    name, _, metric = figure.rpartition("/")
    return metric in OWN_FIGURES.get(name.partition("/")[0], ())


class ContinueConfig(PretrainConfig):
    """Pretraining that begins with a champion's weights; `tokens` is the most that it takes."""

    new_share: float = Field(0.5, gt=0, le=1, description="Share of the tokens that is text new since the champion.")
    new_passes: float = Field(4.0, gt=0, le=100, description="Most passes over the new text; less text trains shorter.")
    rate_share: float = Field(0.3, gt=0, le=1, description="Peak rates as a share of those of pretraining.")
    any_shape: bool = Field(False, description="Whether the champion's shape decides: that of an open model.")

    @property
    def decides_shape(self) -> bool:
        return not self.any_shape

    @property
    def rates(self) -> Rates:
        """Pretraining's peak rates, lowered."""
        matrices, embeddings, _ = super().rates
        return Rates(self.rate_share * matrices, self.rate_share * embeddings)


class GateConfig(StageConfig):
    """What a candidate must show to become the champion: both models are asked the same items."""

    figure: Literal["heldout", "answers", "feedback"] = Field(
        "heldout",
        description="Whose bits per byte must be better: held-out documents, answers to held-out prompts, or "
        "corrections of held-out users.",
    )
    guards: tuple[Figure, ...] = Field(
        (
            "heldout/bits_per_byte",
            "answers/bits_per_byte",
            "feedback/bits_per_byte",
            "feedback/accuracy",
            "cloze/accuracy",
            "choice/accuracy_mutual_information",
        ),
        max_length=100,
        description="Figures that must not be worse beyond doubt: NAME/METRIC, as scores.json names them.",
    )
    confidence: float = Field(
        0.95, ge=0.5, le=0.999, description="Of the paired interval: higher promotes less, and blocks less."
    )

    learned: float = Field(
        0.1,
        gt=0,
        le=10,
        description="Bits per byte by which users' corrections that were learned must have become likelier, so that a "
        "candidate is promoted for it though its figure is no better.",
    )
    tolerance: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Share of each of the champion's figures by which such a candidate may be worse.",
    )

    @model_validator(mode="after")
    def _own_guards_are_figures(self) -> Self:
        for guard in self.guards:
            family = guard.partition("/")[0]
            if family in OWN_FIGURES and not is_own_figure(guard):
                metrics = ", ".join(f"{family}/{metric}" for metric in OWN_FIGURES[family])
                raise ValueError(f"guards: {guard}: no such figure. Figures: {metrics}")
        return self


class RetrainConfig(StageConfig):
    """Where retraining starts, how much of it there is, and what a candidate must show."""

    start: Literal["champion", "scratch"] = Field(
        "champion", description="Go on from the champion's weights with its tokenizer, or train both from scratch."
    )
    tokens: int | None = Field(
        None, ge=8, le=10**14, description="Most tokens of continued pretraining; null: as many as pretraining has."
    )
    new_share: float = Field(0.5, gt=0, le=1, description="Share of the tokens that is text new since the champion.")
    new_passes: float = Field(4.0, gt=0, le=100, description="Most passes over the new text; less text trains shorter.")
    rate_share: float = Field(0.3, gt=0, le=1, description="Peak rates as a share of those of pretraining.")
    feedback: bool = Field(
        True,
        description="Learn what users of the model server have said, as soon as there is any: by the settings that "
        "ship where collect.feedback is empty.",
    )
    gate: GateConfig = Field(GateConfig(), title="Gate", description="What a candidate must show to be promoted.")

    @model_validator(mode="after")
    def _guards_compare(self) -> Self:
        if self.start == "scratch" and "known_text/forgetting" in self.gate.guards:
            raise ValueError(
                "gate.guards: known_text/forgetting: from scratch the candidate forgets of another model than the "
                "champion does; take known_text/bits_per_byte"
            )
        return self

    def continuing(self, pretrain: PretrainConfig, *, any_shape: bool = False) -> ContinueConfig:
        """The config of continued pretraining: pretraining's own, with this budget and mix, and without a teacher."""
        own = {name: getattr(pretrain, name) for name in PretrainConfig.model_fields}
        own |= {"steps": None, "tokens": self.tokens or pretrain.own_tokens, "teacher": None}
        mine = {name: getattr(self, name) for name in ("new_share", "new_passes", "rate_share")}
        return ContinueConfig(**own, **mine, any_shape=any_shape)
