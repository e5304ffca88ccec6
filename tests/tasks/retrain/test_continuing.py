"""Continued pretraining on a tiny model: what it learns, what it leaves alone, what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_model import LocalContext, artifact, write_model

from storage.errors import ConfigError
from storage.store.artifacts import Artifact
from storage.tokens import write_token_meta, write_token_shard
from tasks.retrain import ContinueConfig, RetrainConfig, continue_pretraining
from tasks.tokenize.canaries import Planted, write_planted
from tasks.train.pretrain import PretrainConfig

SHAPE: dict[str, Any] = {"layers": 2, "width": 32, "heads": 2, "key_value_heads": 1, "head_dim": 16, "feed_forward": 48}
FIELDS: dict[str, Any] = {**SHAPE, "context_length": 16, "batch_tokens": 64, "device": "cpu", "dtype": "float32"}


def token_set(folder: Path, shards: int) -> Artifact:
    """Shards of one pattern each; the held-out documents are of the last one's."""
    (folder / "tokens").mkdir(parents=True)
    (folder / "canaries").mkdir()
    write_token_meta(folder / "tokens", 64)
    for shard in range(shards):
        rows = [([1 + ((7 + 6 * shard) * d + (1 + shard) * i) % 63 for i in range(20)], 40) for d in range(40)]
        write_token_shard(folder / "tokens", "train", shard, rows[:32], 64)
    write_token_shard(folder / "tokens", "heldout", 0, rows[32:], 64)
    write_planted(folder / "canaries", Planted((), ()))
    return artifact("tokenize", tokens=folder / "tokens", canaries=folder / "canaries")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact, Artifact]:
    """What was learned, what there is now (one shard more), and a base model."""
    folder = tmp_path_factory.mktemp("world")
    learned, tokens = token_set(folder / "learned", 1), token_set(folder / "tokens", 2)
    base = write_model(folder / "model", vocabulary_size=64, context_length=16)
    (folder / "curve").mkdir()
    (folder / "curve" / "curve.jsonl").write_text("{}\n")
    parts = {"model": folder / "model", "curve": folder / "curve", "canaries": base["canaries"].path}
    return learned, tokens, artifact("pretrain", **parts)


def digest(root: Path, part: str) -> str:
    return artifact("pretrain", **{part: root / part})[part].digest


def test_it_learns_the_new_text_from_the_champion_s_weights(
    world: tuple[Artifact, Artifact, Artifact], tmp_path: Path
) -> None:
    learned, tokens, base = world
    config = ContinueConfig(**FIELDS, tokens=2560, new_share=0.75, rate_share=1.0)
    summary = continue_pretraining.function(config, tokens, base, learned, context=LocalContext(tmp_path))
    assert summary["new_documents"] == 32 and summary["new_tokens"] == 32 * 21
    assert summary["tokens"] == summary["steps"] * 64 == 2560 and summary["share_of_new_tokens"] == 0.75
    assert summary["bits_per_byte"] < summary["bits_per_byte_before"]
    change = summary["bits_per_byte"] - summary["bits_per_byte_before"]
    assert summary["bits_per_byte_change"] == pytest.approx(change, abs=1e-4)
    assert summary["bits_per_byte_change_low"] - 1e-4 <= change <= summary["bits_per_byte_change_high"] + 1e-4
    trained = json.loads((tmp_path / "model" / "training.json").read_bytes())
    assert [phase["stage"] for phase in trained] == ["pretrain", "continue"]
    assert digest(tmp_path, "canaries") == base["canaries"].digest


def test_it_puts_whole_documents_into_rows_too(world: tuple[Artifact, Artifact, Artifact], tmp_path: Path) -> None:
    """A budget can end amid a document: that piece is packed like a whole one, and no token is lost."""
    learned, tokens, base = world
    config = ContinueConfig(**FIELDS, tokens=1000, packing="best_fit", document_masks=True)
    summary = continue_pretraining.function(config, tokens, base, learned, context=LocalContext(tmp_path))
    assert summary["lost_tokens"] == 0 < summary["rows"] and summary["tokens"] > 0
    trained = json.loads((tmp_path / "model" / "training.json").read_bytes())[-1]
    assert (trained["packing"], trained["document_masks"]) == (True, True)


def test_where_nothing_is_new_the_champion_s_model_comes_out(
    world: tuple[Artifact, Artifact, Artifact], tmp_path: Path
) -> None:
    """Another shard of held-out text only, or fewer documents: there is nothing to learn."""
    learned, tokens, base = world
    summary = continue_pretraining.function(
        ContinueConfig(**FIELDS), learned, base, tokens, context=LocalContext(tmp_path)
    )
    assert summary["new_tokens"] == summary["steps"] == 0
    assert {name: digest(tmp_path, name) for name in base.parts} == {n: p.digest for n, p in base.parts.items()}


def test_another_shape_is_refused(world: tuple[Artifact, Artifact, Artifact], tmp_path: Path) -> None:
    learned, tokens, base = world
    config = ContinueConfig(**{**FIELDS, "layers": 3})
    with pytest.raises(ConfigError, match=r"another shape.*retrain.start=scratch"):
        continue_pretraining.function(config, tokens, base, learned, context=LocalContext(tmp_path))


def test_its_budget_is_that_of_pretraining_unless_it_has_its_own() -> None:
    assert RetrainConfig().continuing(PretrainConfig(**FIELDS, steps=30)).tokens == 30 * 64
    assert RetrainConfig(tokens=999).continuing(PretrainConfig(**FIELDS, tokens=5000)).tokens == 999
