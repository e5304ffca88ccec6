"""The setting `dropout`: what the folder of an open model says is what its fine-tuning leaves out, and stays said."""

import json
from pathlib import Path

import pytest
from open_models import write_gpt2
from tiny_model import LocalContext, artifact, with_pairs, write_corpus, write_pairs

from model.shape import WEIGHTS, Dropout
from tasks.classify.config import ClassifyConfig
from tasks.initial.config import ImportConfig
from tasks.initial.stage import take_over
from tasks.train.align import AlignConfig
from tasks.train.config import TrainerConfig
from tasks.train.finetune import FinetuneConfig, finetune
from tasks.train.pretrain import PretrainConfig

GPT2 = {"embd_pdrop": 0.1, "resid_pdrop": 0.2, "attn_pdrop": 0.3}


def said(folder: Path) -> dict[str, float]:
    config = json.loads((folder / "config.json").read_text())
    return {name: config[name] for name in GPT2}


@pytest.mark.slow
def test_fine_tuning_leaves_out_what_the_open_model_says(tmp_path: Path) -> None:
    clean = with_pairs(write_corpus(tmp_path / "texts"), write_pairs(tmp_path / "pairs", train=12, heldout=4))

    def trained(name: str, rates: Dropout, dropout: float | None) -> tuple[bytes, dict[str, float]]:
        folder = tmp_path / name
        config = ImportConfig(path=str(write_gpt2(folder / "theirs", dropout=rates)))
        take_over.function(config, context=LocalContext(folder / "taken"))
        assert said(folder / "taken/model") == said(folder / "theirs")
        initial = artifact("initial", model=folder / "taken/model", tokenizer=folder / "taken/tokenizer")
        settings = FinetuneConfig(device="cpu", threads=1, pairs_per_step=4, steps=2, heldout_pairs=4, dropout=dropout)
        finetune.function(settings, initial, initial, clean, context=LocalContext(folder / "tuned"))
        return (folder / "tuned/model" / WEIGHTS).read_bytes(), said(folder / "tuned/model")

    plain, nothing = trained("plain", Dropout(), None)
    taken, theirs = trained("taken", Dropout(0.1, 0.2, 0.3), None)
    overruled, still = trained("overruled", Dropout(0.1, 0.2, 0.3), 0.0)
    assert taken != plain and overruled == plain
    assert theirs == still == GPT2 and set(nothing.values()) == {0.0}


@pytest.mark.parametrize(
    ("config", "other"), [(PretrainConfig, 0.0), (FinetuneConfig, 0.0), (ClassifyConfig, 0.0), (AlignConfig, None)]
)
def test_where_nothing_is_said_of_it_a_training_is_what_it_was(
    config: type[TrainerConfig], other: float | None
) -> None:
    assert "dropout" not in config().identity()
    assert config(dropout=0.1).identity()["dropout"] == 0.1
    assert config(dropout=other).identity().keys() > {"dropout"}
