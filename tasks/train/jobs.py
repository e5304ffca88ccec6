"""The job of a training run, from what the settings of all kinds of training share."""

import os
from typing import TYPE_CHECKING

from model.shape import Shape
from tasks.engine.context import Context
from tasks.train.device import float32_arithmetic, training_device, training_dtype

if TYPE_CHECKING:
    from model.job import TrainingJob
    from tasks.train.config import Rates, TrainerConfig


def training_job(
    config: "TrainerConfig", shape: Shape, context: Context, *, steps: int, rates: "Rates", **given: object
) -> "TrainingJob":
    """A job from what pretraining and fine-tuning share; `given` are its other fields."""
    from model.job import TrainingJob
    from model.optimizer import OptimizerSettings
    from model.schedule import Schedule

    device = training_device(config.device)
    dtype = training_dtype(config.dtype, device)
    return TrainingJob(
        shape=shape,
        optimizer=OptimizerSettings(
            matrix_rate=rates.matrices,
            embedding_rate=rates.embeddings,
            embedding_factor=rates.embedding_factor,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            clip_norm=config.clip_norm,
        ),
        schedule=Schedule(steps, round(steps * config.warmup_share), round(steps * config.decay_share)),
        micro_batch_tokens=config.micro_batch_tokens,
        seed=config.seed,
        dropout=config.dropout,
        dtype=dtype,  # type: ignore[arg-type]
        device=device,
        threads=config.threads,
        processes=config.processes,
        processes_now=context.execution.processes,
        sharded=config.sharded,
        validation_interval=config.validation_interval,
        validation_tokens=config.validation_tokens,
        work=str(context.work),
        output=str(context.part("model")),
        checkpoint_interval=context.execution.checkpoint_interval,
        checkpoints_kept=context.execution.checkpoints_kept,
        patience=config.patience,
        parent_pid=os.getpid(),
        **float32_arithmetic(dtype, device),  # type: ignore[arg-type]
        **given,  # type: ignore[arg-type]
    )
