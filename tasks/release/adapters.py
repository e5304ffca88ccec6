"""The adapters of a release: those that, put on the weights that they were trained on, make its model.

| trained by adapters | in the release | makes its model |
|---|---|---|
| fine-tuning, and nothing after it | adapters/finetune | on the base model |
| alignment alone | adapters/align | on the model before it, fine-tuned or as it was |
| both | adapters/finetune, adapters/align | both at once on the base model: their changes add up |
| fine-tuning, then alignment trained all weights | none | no adapter does |

An adapter names the SHA-256 of the weights that it was trained on (model/lora.py), and so does the model card.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.adapter_config import TENSORS, read_adapter_config
from storage.files import clone_or_copy
from storage.store.artifacts import Artifact, StoredFile
from tasks.train.lora import ABOUT

FOLDER = "adapters"


@dataclass(frozen=True, slots=True)
class Carried:
    """An adapter of the release: the stage that trained it, which its folder is named after, its rank, and the SHA-256
    of the weights that it was trained on."""

    stage: str
    rank: int
    base: str


@dataclass(frozen=True, slots=True)
class Adapters:
    """What the card says: the adapters in the order in which they were trained, and whether one is not there since
    all weights were trained after it."""

    carried: tuple[Carried, ...] = ()
    overtaken: bool = False


def carry_adapters(stages: Sequence[Artifact], folder: Path) -> Adapters:
    """Copy the adapters of the stages that have trained the model, in their order, into its release."""
    trained = {stage.stage: _files(stage) for stage in stages}
    if not trained[stages[-1].stage]:
        return Adapters(overtaken=any(trained.values()))
    carried = []
    for stage, files in trained.items():
        if files:
            target = folder / FOLDER / stage
            target.mkdir(parents=True)
            for file in files:
                clone_or_copy(file.path, target / file.name)
            carried.append(Carried(stage, read_adapter_config(target).rank, _base(target / TENSORS)))
    return Adapters(tuple(carried))


def _files(stage: Artifact) -> list[StoredFile]:
    return [file for file in stage["adapter"].files if file.name != ABOUT]


def _base(tensors: Path) -> str:
    from safetensors import safe_open

    from model.lora import BASE

    with safe_open(tensors, "pt") as file:
        return str(file.metadata()[BASE])
