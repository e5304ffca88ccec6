"""What a training leaves: the model's files, `result.json` of what happened, and what its figures are means of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.job import TrainingJob
from model.lora import merge, save_adapter
from model.start import plain_model
from model.trained import Trained
from model.transformer import Transformer, save_model
from model.validation import Validation
from storage.files import write_json


def write_output(job: TrainingJob, model: Transformer, parameters: Trained, *, sharded: bool, first: bool) -> None:
    """Write the weights, and the adapter alone where there is one; by the first rank, of a sharded model with all."""
    if sharded:
        model = plain_model(job, torch.device("cpu"), torch.float32) if first else model
        into = dict(model.named_parameters())
        for name, whole in parameters.whole():
            if first:
                into[name].data.copy_(whole)
    if not first:
        return
    output = Path(job.output)
    output.mkdir(parents=True, exist_ok=True)
    if job.adapter is not None:
        save_adapter(model, job.adapter, Path(str(job.initial)), Path(job.adapter_output))
        merge(model)
    save_model(model, output)


def write_outcomes(work: Path, moment: str, measured: Mapping[str, Validation]) -> None:
    """Write `outcomes/MOMENT-NAME.json` of held-out data that intervals are drawn from."""
    for name, one in measured.items():
        if one.outcomes is not None:
            write_json(outcomes_file(work, moment, name), one.outcomes.tolist())


def outcomes_file(work: Path, moment: str, name: str) -> Path:
    """Where the outcomes are that a training had on data of this name, before it or after it."""
    return work / "outcomes" / f"{moment}-{name}.json"


def write_result(job: TrainingJob, trained_parameters: int, step: int, state: Mapping[str, Any], after: Any) -> None:
    """Write `result.json`, the last file of a training."""
    result = {
        "parameters": job.shape.parameters,
        "trained_parameters": trained_parameters,
        "steps": step,
        "tokens": state["tokens"],
        "skipped": state["skipped"],
        "events": state["events"],
        "before": state["before"],
        "after": after,
    }
    write_json(Path(job.work) / "result.json", result)
