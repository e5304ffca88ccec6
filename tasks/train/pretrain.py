"""Pretrain a model on packed documents: to say the next token, or those that are hidden.

In: token shards and their canaries, an order where the recipe has a mix, the weights of an open model where it starts
from one (its rates are then lowered, as those of retraining are), and of a teacher where it learns from one. Out:
`model` (Hugging Face form, and `training.json`: how it was trained), `curve` (one row a step, thinned) and `canaries`
(with how often training met each). The size is one dial; what follows from it (shape, rates, batch, budget) can be set
by hand. Cost: 6 N + 12 L d T FLOP a token; the nano size makes about 10,000 tokens per CPU-second.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from model.huggingface import read_shape
from model.shape import SIZES, FamilyName, Shape, Size, check_short_rows
from storage.canonical import digest_of
from storage.errors import ConfigError, DataError
from storage.store.artifacts import Artifact, Part
from tasks.engine.context import Context, Summary
from tasks.engine.stage import stage
from tasks.tokenize.canaries import read_planted, write_planted
from tasks.train.config import Rates, TrainerConfig, observe_device
from tasks.train.device import (
    compiling_pays,
    missing_for_compiling,
    slower_than_compiled,
    training_compiles,
    training_device,
    training_dtype,
)
from tasks.train.jobs import training_job
from tasks.train.rows import canaries_seen, figures_of_rows, rows_of
from tasks.train.teacher import TeacherConfig, check_vocabularies, taught
from tasks.train.trainer_process import notices_of, train, write_curve, write_training

if TYPE_CHECKING:
    from model.job import TrainingJob


RATE_SHARE = 0.3  # of the rates from nothing, for weights that are trained already


class PretrainConfig(TrainerConfig):
    """Shape, schedule and budget of pretraining. What is not set follows from the size."""

    objective: Literal["next_token", "masked_words"] = Field(
        "next_token",
        description="What is learned of the text: to write on, or, for telling classes apart, to fill in hidden words.",
    )
    masked_share: float = Field(0.15, gt=0, le=0.9, description="Share of the tokens that are hidden, of masked_words.")
    size: Literal["nano", "micro", "mini", "124m", "350m", "1b"] = Field("nano", description="The size of the model.")
    layers: int | None = Field(None, ge=1, le=256, description="Number of blocks.")
    width: int | None = Field(None, ge=16, le=32_768, description="Numbers of the residual stream.")
    heads: int | None = Field(None, ge=1, le=512, description="Query heads.")
    key_value_heads: int | None = Field(None, ge=1, le=512, description="Key and value heads; divides heads.")
    head_dim: int | None = Field(None, ge=4, le=512, description="Numbers of a head; even.")
    feed_forward: int | None = Field(None, ge=16, le=131_072, description="Inner numbers of the feed-forward part.")
    context_length: int | None = Field(None, ge=8, le=131_072, description="Tokens that the model sees at once.")
    tied_embeddings: bool | None = Field(None, description="Whether the head is the embedding matrix.")
    embedding_factor: float = Field(
        40.0,
        ge=1,
        le=1000,
        description="How many times the head's rate embeddings have that are not the head too, from random weights.",
    )
    rope_theta: float = Field(10_000.0, ge=1, le=1e9, description="Base of the rotary positions' wavelengths.")
    norm_epsilon: float = Field(
        1e-6, gt=0, le=100, description="Added to the mean square that norms divide by; 1: short vectors stay short."
    )
    batch_tokens: int | None = Field(None, ge=8, le=67_108_864, description="Tokens of one optimizer step.")
    packing: Literal["stream", "best_fit"] = Field(
        "stream",
        description="How documents fill the rows of a context: one after another, cut where a row ends, or each whole "
        "in the fullest row that has room for it, padded.",
    )
    document_masks: bool = Field(False, description="Whether the documents of a row do not see each other.")
    short_rows_share: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="Share of the steps that learn short rows first, of a quarter and then of half of the context; a "
        "step has as many tokens.",
    )
    spike_factor: float | None = Field(
        3.0,
        gt=1,
        le=1000,
        description="Loss, as a multiple of the median of the last ones, that is left out as a spike; null: none is.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="Whether operations are fused by torch.compile; auto: in runs long enough to gain."
    )
    steps: int | None = Field(None, ge=1, le=10_000_000, description="Optimizer steps; not with tokens.")
    tokens: int | None = Field(None, ge=8, le=10**14, description="Tokens trained on, repeats counted; not with steps.")
    teacher: TeacherConfig | None = Field(None, description="Learning from a teacher's scores beside the text.")

    @field_validator("compile", mode="before")
    @classmethod
    def _word_of(cls, value: object) -> object:
        """YAML reads `on` and `off` as true and false."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _words_are_hidden_in_streams(self) -> "PretrainConfig":
        if self.hides_words and (self.packing != "stream" or self.document_masks or self.short_rows_share):
            raise ValueError(
                "objective masked_words reads a stream of documents that see each other, in whole rows: give packing: "
                "stream, document_masks: false and short_rows_share: 0"
            )
        return self

    @model_validator(mode="after")
    def _one_budget(self) -> "PretrainConfig":
        if self.steps is not None and self.tokens is not None:
            raise ValueError("give steps or tokens, not both: each decides how long training is")
        return self

    @model_validator(mode="after")
    def _shape_fits(self) -> "PretrainConfig":
        if self.decides_shape:
            try:
                self.check_shape()
            except ConfigError as error:  # as a ValueError the place in the recipe is said too
                raise ValueError(str(error)) from None
        return self

    @property
    def hides_words(self) -> bool:
        """Whether an encoder is trained, to fill in hidden words."""
        return self.objective == "masked_words"

    @property
    def filling(self) -> dict[str, object]:
        """What a job is told of how rows are filled."""
        return {"packing": self.packing == "best_fit", "apart": self.document_masks}

    @property
    def decides_shape(self) -> bool:
        """Whether the model has the shape of these settings, and no other that it brings."""
        return True

    def check_shape(self) -> None:
        """Raise ConfigError where the settings make no model, or a step has no room for one row of its context."""
        context_length = self.shape(vocabulary_size=1).context_length
        self.rows_and_steps(context_length)
        if self.short_rows_share:
            check_short_rows(context_length)

    @property
    def rates(self) -> Rates:
        """Peak learning rates of matrices and of embeddings."""
        size = SIZES[self.size]
        return Rates(self.matrix_rate or size.matrix_rate, self.embedding_rate or size.embedding_rate)

    def rates_from_nothing(self, shape: Shape) -> Rates:
        """Those for random weights, whose embeddings learn faster where they are not the head too."""
        return self.rates if shape.tied_embeddings else self.rates._replace(embedding_factor=self.embedding_factor)

    def rates_going_on(self, shape: Shape, share: float = RATE_SHARE) -> Rates:
        """Peak rates for weights of an open model: a share of those of the named size that is nearest in parameters."""
        near = min(SIZES.values(), key=lambda size: abs(math.log(_parameters_of(size) / shape.parameters)))
        return Rates(self.matrix_rate or share * near.matrix_rate, self.embedding_rate or share * near.embedding_rate)

    @property
    def chosen_context_length(self) -> int:
        """Tokens that the model will see at once."""
        return self.context_length or SIZES[self.size].context_length

    def shape(self, vocabulary_size: int) -> Shape:
        """The size's shape with what was set by hand."""
        names = ("layers", "width", "heads", "key_value_heads", "head_dim", "feed_forward", "context_length")
        size = SIZES[self.size]
        chosen = {
            name: getattr(size, name) if getattr(self, name) is None else getattr(self, name)
            for name in (*names, "tied_embeddings")
        }
        family: FamilyName = "eurobert" if self.hides_words else "qwen3"
        return Shape(
            vocabulary_size=vocabulary_size,
            rope_theta=self.rope_theta,
            norm_epsilon=self.norm_epsilon,
            family=family,
            **chosen,
        )

    def rows_and_steps(self, context_length: int) -> tuple[int, int]:
        """Rows of one optimizer step, and the number of steps."""
        size = SIZES[self.size]
        batch_tokens = self.batch_tokens or size.batch_tokens
        if batch_tokens < context_length:
            raise ConfigError(
                f"batch_tokens ({batch_tokens}) is less than one row of context_length {context_length}: "
                "raise the first or lower the second"
            )
        rows = batch_tokens // context_length
        steps = self.steps or -(-(self.tokens or size.tokens) // (rows * context_length))
        return rows, steps

    def tokens_trained_on(self, context_length: int) -> int:
        """The budget in whole steps, repeats counted."""
        rows, steps = self.rows_and_steps(context_length)
        return rows * steps * context_length

    @property
    def own_tokens(self) -> int:
        """The budget of a model of this very shape, in whole steps."""
        return self.tokens_trained_on(self.chosen_context_length)

    @property
    def most_tokens(self) -> int:
        """No less than the budget of a model of any context, in whole steps."""
        size = SIZES[self.size]
        step = self.batch_tokens or size.batch_tokens
        return step * (self.steps or -(-(self.tokens or size.tokens) // step) + 1)

    def is_compiled(self, shape: Shape, tokens: int) -> bool:
        """Whether a run over so many tokens compiles its model; ConfigError where it must and cannot."""
        return training_compiles(*self._compiling(shape, tokens))

    def would_compile(self) -> bool:
        """Whether `auto` compiles it on a CPU that has what that needs."""
        return compiling_pays(*self._compiling(self.shape(vocabulary_size=0), self.most_tokens)[1:])

    def notices(self, shape: Shape, tokens: int) -> list[str]:
        """What is to be said of a run over so many tokens on this machine."""
        slower = slower_than_compiled(*self._compiling(shape, tokens))
        return [slower] if slower else []

    def _compiling(self, shape: Shape, tokens: int) -> tuple[str, str, str, float]:
        """What decides it: the setting, the device, its dtype, and the operations; on a CPU those of the blocks alone,
        which the config knows before there is a vocabulary, and none of a model that brings its own shape."""
        device = training_device(self.device)
        if device == "cpu":
            tokens = tokens if self.decides_shape else 0
            shape = replace(shape, vocabulary_size=0)
        return self.compile, device, training_dtype(self.dtype, device), 6.0 * shape.parameters * tokens


def _parameters_of(size: Size) -> int:
    """Of the blocks alone: vocabularies differ."""
    return size.layers * size.width * (2 * size.head_dim * (size.heads + size.key_value_heads) + 3 * size.feed_forward)


def observe_pretraining(config: PretrainConfig) -> dict[str, str]:
    """The device, and whether `compile: auto` may compile there: fused operations round otherwise."""
    observed = observe_device(config)
    device = observed["device"]
    if config.compile != "auto" or (device == "cpu" and not config.would_compile()):
        return observed
    return {**observed, "c_compiler": "missing" if missing_for_compiling(device) else "there"}


@stage(
    "pretrain",
    parts=("model", "curve", "canaries"),
    reads={
        "tokens": ("tokens", "canaries"),
        "order": ("order",),
        "initial": ("model", "tokenizer"),
        "teacher": ("model", "tokenizer"),
    },
    optional=("order", "initial", "teacher"),
    observe=observe_pretraining,
    programs=("model.trainer",),
    libraries=("torch",),
    about="tasks.train.about.PRETRAIN",
)
def pretrain(
    config: PretrainConfig,
    tokens: Artifact,
    order: Artifact | None = None,
    initial: Artifact | None = None,
    teacher: Artifact | None = None,
    *,
    context: Context,
) -> Summary:
    """Train the base model from random weights, or those of `initial`, on all documents or in the order of a mix.

    `bits_per_byte` is that of held-out documents at the end, `bits_per_byte_before` that of the initial model.
    """
    check_vocabularies(teacher, initial)
    weights = initial["model"] if initial else None
    shape = read_shape(weights.path) if weights else _own_shape(config, tokens["tokens"].path)
    notices = config.notices(shape, config.tokens_trained_on(shape.context_length))
    job = pretraining_job(config, shape, tokens, order, weights, teacher, context)
    result = train(job, context)
    last = write_curve(context.work / "metrics.jsonl", context.part("curve") / "curve.jsonl")
    write_training("pretrain", job, result, last, before=weights)
    rows = rows_of(job)
    write_planted(context.part("canaries"), canaries_seen(job, rows, read_planted(tokens["canaries"])))
    return {
        "parameters": result["parameters"],
        "tokens": result["tokens"],
        "steps": result["steps"],
        "training_loss": last["loss"],
        **(
            _figures_of_words(result, context.work)
            if config.hides_words
            else figures_of_text(result, last, context.work)
        ),
        **figures_of_rows(rows),
        "skipped_updates": result["skipped"],
        **notices_of(result, notices),
    }


def _own_shape(config: PretrainConfig, tokens: Path) -> Shape:
    """The shape of a model from nothing for a token set; DataError where words can only be hidden with no mask."""
    from storage.tokens import read_token_meta

    meta = read_token_meta(tokens)
    shape = config.shape(meta.vocabulary_size)
    if shape.parts.causal:
        return shape
    if meta.mask_token is None:
        raise DataError("pretrain: the tokenizer has no token that stands where a word is hidden: learn it anew")
    return replace(shape, mask_token=meta.mask_token)


def figures_of_text(result: Mapping[str, Any], last: Mapping[str, Any], work: Path) -> Summary:
    """Bits per byte; where training began with a model, how they have changed by it."""
    from tasks.train.intervals import of_text

    before = result["before"]
    return {
        "training_bits_per_byte": last["bits_per_byte"],
        **({"bits_per_byte_before": before["heldout"]} if before else {}),
        "bits_per_byte": result["after"]["heldout"],
        **(of_text(work) if before else {}),
    }


def _figures_of_words(result: Mapping[str, Any], work: Path) -> Summary:
    """`heldout_loss` in nats a hidden token; `most_frequent`: the share right of whoever always says the commonest."""
    from tasks.train.intervals import of_words

    before, after = result["before"], result["after"]
    names = {"heldout_loss": "heldout_loss", "filled_in": "heldout_accuracy", "most_frequent": "heldout_most_frequent"}
    return {
        **(
            {f"{ours}_before": before[name] for ours, name in names.items() if ours != "most_frequent"}
            if before
            else {}
        ),
        **{ours: after[name] for ours, name in names.items()},
        **of_words(work, begun=bool(before)),
    }


def pretraining_job(
    config: PretrainConfig,
    shape: Shape,
    tokens: Artifact,
    order: Artifact | None,
    initial: Part | None,
    teacher: Artifact | None,
    context: Context,
) -> "TrainingJob":
    """The trainer's job of a config: steps, rates and shape worked out, the data by folder and digest."""
    from model.job import Source

    rows, steps = config.rows_and_steps(shape.context_length)
    folder = str(tokens["tokens"].path)
    kind: Literal["masked", "packed"] = "masked" if config.hides_words else "packed"
    data, digest = Source(kind, folder), tokens["tokens"].digest
    if order is not None:
        data, digest = Source(kind, folder, str(order["order"].path)), digest_of([digest, order["order"].digest])
    heldout = {"heldout": Source(kind, folder)}
    begun: dict[str, object] = {"masked_share": config.masked_share} if config.hides_words else {}
    if initial is not None:
        begun |= {"initial": str(initial.path), "validation_before": heldout}
        digest = digest_of([initial.digest, digest])
    return training_job(
        config,
        shape,
        context,
        objective=config.objective,
        steps=steps,
        rates=config.rates_going_on(shape) if initial else config.rates_from_nothing(shape),
        data=data,
        rows_per_step=rows,
        **config.filling,
        short_steps=round(config.short_rows_share * steps),
        compiled=config.is_compiled(shape, steps * rows * shape.context_length),
        spike_factor=config.spike_factor,
        validation=heldout,
        **begun,
        **taught(config.teacher, teacher, digest),
    )
