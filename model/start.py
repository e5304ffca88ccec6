"""What a training begins with: the settings of its process, the model, and the data that it is measured on."""

from pathlib import Path

import torch

from model.classes import as_classifier
from model.job import Source, TrainingJob
from model.lora import adapt
from model.ranks import Ranks
from model.sharding import shard
from model.transformer import Transformer, initialise, load_model
from model.validation import Validation, open_validation


def configure_torch(job: TrainingJob) -> None:
    """Threads and determinism of this process."""
    torch.set_num_threads(1)  # model.parallel: several threads share the rows of a batch, not its operations
    # Some CUDA kernels have no deterministic form: there, a warning; on a CPU all have.
    if job.compiled:
        torch.use_deterministic_algorithms(True, warn_only=job.device != "cpu")
    else:  # the same without importing torch's compiler to tell it too, which takes 1.8 s of CPU time
        torch.set_deterministic_debug_mode("error" if job.device == "cpu" else "warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs a pass over every new tensor
    # "medium" sends products on a CPU through oneDNN; where the job asks for it, they stay float32.
    on_cpu = "medium" if job.products == "oneDNN" else "highest"
    torch.set_float32_matmul_precision(on_cpu if job.device == "cpu" else "high")
    torch.manual_seed(job.seed)


def first_model(job: TrainingJob, device: torch.device, dtype: torch.dtype, ranks: Ranks) -> Transformer:
    """The model that training begins with, as this rank holds it."""
    model = plain_model(job, device, dtype)
    if job.compiled:
        model.compile_blocks()
    if ranks.sharded:
        shard(model)
    return model


def plain_model(job: TrainingJob, device: torch.device, dtype: torch.dtype) -> Transformer:
    """Random weights, or those of a folder, with what is trained beside them."""
    if job.initial is None:
        model = Transformer(job.shape, dtype)
        initialise(model, job.seed)
        model.to(device)
    else:
        model = load_model(Path(job.initial), device, dtype).train()
    if job.shape.classes and not model.shape.classes:
        model = as_classifier(model, job.shape.classes).train()
    model.requires_grad_(True)
    if job.adapter is not None:
        adapt(model, job.adapter, job.seed)
    return model


def open_validations(job: TrainingJob, sources: dict[str, Source]) -> dict[str, Validation]:
    """The held-out samples by name."""
    given = (job.validation_tokens, job.preference, job.masked_share)
    return {name: open_validation(source, *given) for name, source in sources.items()}
