"""Figures of benchmarks on the items that decontam has found beside those of the others."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from benchmark_files import write_benchmarks
from tiny_model import (
    LocalContext,
    artifact,
    with_pairs,
    write_corpus,
    write_model,
    write_pairs,
    write_tokenizer,
)

from storage.documents import write_rows
from storage.store.artifacts import Artifact
from tasks.decontaminate.stage import DIRTY_SCHEMA
from tasks.evaluate.about import APART, EVALUATE
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.item_texts import ItemsConfig, read_asked
from tasks.evaluate.stage import evaluate

SETTINGS = {"items": 10, "heldout_bytes": 1_000, "baseline_bytes": 10_000, "bootstrap_draws": 100, "threads": 1}


@pytest.mark.slow
def test_both_kinds_of_items_have_figures_where_both_are(tmp_path: Path) -> None:
    tasks = [{"path": str(write_benchmarks(tmp_path / "tasks")), "name": "both"}]
    context = LocalContext(tmp_path / "asked")
    assert read_asked.function(ItemsConfig(tasks=tasks, seed=1), context=context) == {"items": 30}
    rows = pq.read_table(context.part("items") / "items.parquet").to_pylist()
    assert rows[0]["text"] == "What colour is the red house number 0? It is red"
    found = [row for row in rows if row["benchmark"] == "colours"][:5]
    (tmp_path / "dirty").mkdir()
    names = [{name: row[name] for name in DIRTY_SCHEMA.names} for row in found]
    write_rows(tmp_path / "dirty" / "dirty.parquet", names, DIRTY_SCHEMA)
    pairs = write_pairs(tmp_path / "pairs", heldout=2)
    inputs = [
        *(write_model(tmp_path / name, seed=seed) for seed, name in enumerate(("base", "tuned"))),
        write_tokenizer(tmp_path / "tokenizer"),
        with_pairs(write_corpus(tmp_path / "documents", train=30, heldout=4), pairs),
    ]
    config = EvaluateConfig(**SETTINGS, seed=1, device="cpu", tasks=tasks)
    dirty = artifact("decontam", dirty=tmp_path / "dirty")
    evaluate.function(config, *inputs, None, dirty, context=LocalContext(tmp_path / "out"))
    lines = json.loads((tmp_path / "out" / "scores" / "scores.json").read_bytes())
    counts = {(line["name"], line["items"]) for line in lines if line["metric"] == "acc" and "=" not in line["name"]}
    assert counts == {
        *(("both", 30), ("both/clean", 25), ("both/dirty", 5)),
        *(("both/colours", 20), ("both/colours/clean", 15), ("both/colours/dirty", 5), ("both/shades", 10)),
    }
    values = {(line["name"], line["model"]): line for line in lines if line["metric"] == "acc"}
    whole, clean, part = (values[f"both/colours{end}", "tuned"] for end in ("", "/clean", "/dirty"))
    assert whole["value"] == pytest.approx((15 * clean["value"] + 5 * part["value"]) / 20, abs=1e-4)
    assert clean["low"] is not None and part["baselines"]["chance"] == 0.25
    made: Any = _Made(artifact("evaluate", scores=tmp_path / "out" / "scores"))
    section = EVALUATE.report(made, "evaluate")
    assert section.tables[0].heading == APART
    assert ("both/colours", "acc", "fine-tuned") in {row[:3] for row in section.tables[0].rows}


class _Made:
    """A run of one stage, as the report reads it."""

    def __init__(self, made: Artifact) -> None:
        self.made = made

    def part(self, stage: str, name: str) -> Any:
        return self.made[name]
