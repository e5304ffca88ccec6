"""Continued pretraining: token shards, the champion's model and the token shards that it has learned in; an artifact
of the kind `pretrain` out, as if trained from scratch.

The rates rise again to a share of pretraining's peak and fall to 0, over a mix of new text and replay (Ibrahim et al.
2024, "Simple and Scalable Strategies to Continually Pre-train Large Language Models"). How long: the budget, but no
more than `new_passes` over the new text (up to four passes are worth nearly as much as fresh text; Muennighoff et al.
2023). The optimizer starts fresh. Where nothing is new the champion's model comes out as it is.
"""

import numpy as np

from model.huggingface import read_shape
from model.shape import Shape
from storage.canonical import digest_of
from storage.errors import ConfigError
from storage.store.artifacts import Artifact
from tasks.engine.context import Context, Summary
from tasks.engine.stage import stage
from tasks.retrain.config import ContinueConfig
from tasks.retrain.mixture import Mixture
from tasks.train.jobs import training_job
from tasks.train.pretrain import figures_of_text, observe_pretraining
from tasks.train.rows import figures_of_rows, rows_of
from tasks.train.trainer_process import notices_of, train, write_curve, write_training


@stage(
    "pretrain",
    parts=("model", "curve", "canaries"),
    reads={
        "tokens": ("tokens",),
        "base": ("model", "curve", "canaries"),
        "learned": ("tokens",),
        "order": ("order",),
    },
    optional=("order",),
    observe=observe_pretraining,
    programs=("model.trainer",),
    libraries=("torch",),
    about="tasks.train.about.PRETRAIN",
)
def continue_pretraining(
    config: ContinueConfig,
    tokens: Artifact,
    base: Artifact,
    learned: Artifact,
    order: Artifact | None = None,
    *,
    context: Context,
) -> Summary:
    """Train on from `base`. bits per byte is that of held-out documents at the end; `before` that of the base."""
    from model.job import Source

    shape = champion_shape(config, base)
    mixture = Mixture(tokens["tokens"], learned["tokens"], order["order"] if order else None, config.seed)
    _link(context, base, "canaries")
    if not mixture.new.tokens:
        for part in ("model", "curve"):
            _link(context, base, part)
        return {"parameters": shape.parameters, "new_documents": 0, "new_tokens": 0, "tokens": 0, "steps": 0}

    rows, _ = config.rows_and_steps(shape.context_length)
    step_tokens = rows * shape.context_length
    new, old = budget(config, mixture, step_tokens)
    mixture.write(drawn := context.work / "mixture", new, old)
    heldout = {"heldout": Source("packed", str(tokens["tokens"].path))}
    steps = max(1, (new + old) // step_tokens)
    notices = config.notices(shape, steps * step_tokens)
    job = training_job(
        config,
        shape,
        context,
        objective="next_token",
        steps=steps,
        rates=config.rates_going_on(shape, config.rate_share) if config.any_shape else config.rates,
        data=Source("packed", str(tokens["tokens"].path), str(drawn)),
        data_digest=digest_of([base["model"].digest, *mixture.digests, new, old]),
        rows_per_step=rows,
        **config.filling,
        compiled=config.is_compiled(shape, steps * step_tokens),
        spike_factor=config.spike_factor,
        validation=heldout,
        validation_before=heldout,
        initial=str(base["model"].path),
    )
    result = train(job, context)
    last = write_curve(context.work / "metrics.jsonl", context.part("curve") / "curve.jsonl")
    write_training("continue", job, result, last, before=base["model"])
    return {
        "parameters": shape.parameters,
        "new_documents": len(np.unique(mixture.new.pieces[0])),
        "new_tokens": mixture.new.tokens,
        "tokens": result["tokens"],
        "steps": result["steps"],
        "share_of_new_tokens": round(new / (new + old), 3),
        "training_loss": last["loss"],
        **figures_of_text(result, last, context.work),
        **figures_of_rows(rows_of(job)),
        "skipped_updates": result["skipped"],
        **notices_of(result, notices),
    }


def budget(config: ContinueConfig, mixture: Mixture, step_tokens: int) -> tuple[int, int]:
    """Tokens of new text and of replay. At least one step: what new text does not fill, replay does."""
    most = int(mixture.new.tokens * config.new_passes)
    total = min(config.tokens or most, int(most / config.new_share))
    new = max(1, min(most, round(total * config.new_share)))
    total = max(total, step_tokens + 1)
    if not mixture.old.tokens:  # nothing to replay
        return max(min(most, config.tokens or most), step_tokens + 1), 0
    return new, total - new


def champion_shape(config: ContinueConfig, base: Artifact) -> Shape:
    """The shape of the champion's model; raises ConfigError where the recipe asks for another."""
    shape = read_shape(base["model"].path)
    wanted = config.shape(shape.vocabulary_size)
    if not config.any_shape and shape != wanted:
        raise ConfigError(
            "retrain: the recipe asks for a model of another shape than the champion's, and weights cannot go on in "
            "another shape. Set retrain.start=scratch, or the champion's size and shape in pretrain"
        )
    return shape


def _link(context: Context, base: Artifact, part: str) -> None:
    context.part(part)
    for file in base[part].files:
        context.link(part, file.name, file)
