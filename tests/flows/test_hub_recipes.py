"""The recipes `tinystories` and `gpt2-124m`: pinned data sets of the hub, what they will take, and a small stand-in of
each that becomes a model."""

import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_files import Hub, commit_id, serve_hub
from support import Command, digests, llmill, outcomes, report_of, unwrapped

from flows.recipe import load_recipe
from model.cost import DEVICES, devices_filled_by
from storage.documents import read_documents
from tasks.collect.output import Splits
from tasks.collect.synthetic import SyntheticJob, make_synthetic
from tasks.train.times import card_name
from tasks.wording import rough_duration, size

RECIPES = ("tinystories", "gpt2-124m")
ONE_CORE = ("--set", "pretrain.device=cpu", "--set", "pretrain.dtype=float32", "--set", "pretrain.threads=1")


@pytest.mark.parametrize("name", RECIPES)
def test_the_plan_says_what_is_downloaded_and_how_long_training_takes(name: str, home: Path, command: Command) -> None:
    recipe = load_recipe(name)
    (source,) = recipe.collect.huggingface
    assert re.fullmatch("[0-9a-f]{40}", source.revision), "a branch would move"
    shape = recipe.pretrain.shape(recipe.tokenizer.vocabulary_size)
    core = next(device for device in devices_filled_by(shape) if device.name == "a CPU core, float32")
    seconds, price = core.seconds(shape, recipe.pretrain.own_tokens), recipe.execution.price_per_hour

    rows = {row["stage"]: row for row in command.json("plan", name, *ONE_CORE, home=home)["stages"]}
    assert list(rows)[:2] == ["fetch", "collect"]
    assert rows["pretrain"]["estimate_seconds"] == pytest.approx(seconds, abs=0.06)  # rounded to a tenth
    assert rows["pretrain"]["estimate_cost"] == pytest.approx(seconds / 3600 * price, abs=0.01)
    two = command.json("plan", name, *ONE_CORE, "--set", "pretrain.processes=2", home=home)["stages"]
    (seconds_of_two,) = (row["estimate_seconds"] for row in two if row["stage"] == "pretrain")
    assert seconds_of_two == pytest.approx(seconds / min(2, os.cpu_count() or 1), abs=0.06)
    said = unwrapped(command("plan", name, *ONE_CORE, home=home)[1])
    assert f"downloads {size(source.total_bytes or 0)} of {source.dataset}" in said
    assert f"{seconds / 3600 * price:,.2f} at a price of {price:g} an hour" in said
    assert f"{rough_duration(seconds)} on one CPU core in float32" in said
    cards = [device for device in devices_filled_by(shape) if device.processor == "NVIDIA H200"]
    assert bool(cards) == ("NVIDIA H200 in bfloat16" in said) == (name == "gpt2-124m"), "a small model fills no card"
    assert not home.exists() or not any((home / "store").glob("*/*")), "nothing runs"


def test_what_a_card_costs_is_said_on_any_machine(home: Path, command: Command) -> None:
    recipe = load_recipe("gpt2-124m")
    hours = DEVICES[0].seconds(recipe.pretrain.shape(50_304), recipe.pretrain.own_tokens) / 3600
    assert 0.5 < hours < 24, "one card, one day"
    said = unwrapped(command("plan", "gpt2-124m", "--set", "execution.price_per_hour=2.5", home=home)[1])
    said_hours = rough_duration(3600 * hours)
    assert f"{said_hours} on NVIDIA H200 in bfloat16 ({2.5 * hours:,.2f} at a price of 2.5 an hour)" in said
    unpriced = command("plan", "gpt2-124m", "--set", "execution.price_per_hour=0", "--json", home=home)[1]
    assert "price" not in unpriced and "estimate_cost" not in unpriced


def test_a_short_training_and_a_model_that_was_not_seen_yet_have_no_time_of_other_machines(
    home: Path, command: Command
) -> None:
    short = ("--set", "pretrain.tokens=100000")
    rows = command.json("plan", "tinystories", *short, home=home)["stages"]
    assert {row["estimate_seconds"] for row in rows} == {None}
    assert not any("pretrain:" in line for row in rows for line in row["notices"])
    unstated = ("--set", "collect.huggingface.0.total_bytes=null")
    rows = command.json("plan", "tinystories", *unstated, home=home)["stages"]
    assert rows[0]["notices"] == []


def test_a_card_is_known_by_the_name_that_its_driver_has_for_it(tmp_path: Path) -> None:
    assert card_name(tmp_path / "none") is None
    folder = tmp_path / "0000:18:00.0"
    folder.mkdir()
    (folder / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 38\nGPU UUID: \t GPU-1\n")
    assert card_name(tmp_path) == "NVIDIA H200" == DEVICES[0].processor


SMALL = {  # a model that takes seconds
    "collect.heldout_fraction": 0.1,
    "collect.documents_per_shard": 100,
    "tokenizer.vocabulary_size": 512,
    "tokenizer.training_bytes": 100_000,
    "pretrain.layers": 2,
    "pretrain.width": 64,
    "pretrain.heads": 2,
    "pretrain.key_value_heads": 1,
    "pretrain.head_dim": 32,
    "pretrain.feed_forward": 128,
    "pretrain.context_length": 64,
    "pretrain.batch_tokens": 1024,
    "pretrain.tokens": 40_000,
    "pretrain.validation_tokens": 4096,
    "pretrain.threads": 1,
    "finetune.made_pairs": 200,
    "finetune.threads": 1,
    "evaluate.items": 40,
    "evaluate.heldout_bytes": 10_000,
    "execution.workers": 2,
}
CHOSEN = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]


def stories(scratch: Path, seed: int) -> list[str]:
    """Texts of 70 to 180 words."""
    job = SyntheticJob(
        documents=300, seed=seed, splits=Splits(heldout_fraction=0, heldout_groups=()), documents_per_shard=1000
    )
    make_synthetic(job, {}, scratch)
    (shard,) = scratch.glob("documents-*.parquet")
    return [text for text in dict.fromkeys(document.text for document in read_documents(shard)) if "\n\n" in text]


def parquet(columns: dict[str, list[Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def stand_in(name: str, scratch: Path) -> dict[str, bytes]:
    """Files with the names and columns of the real ones, and others that no recipe means."""
    halves = []
    for seed in (1, 2):
        (scratch / str(seed)).mkdir()
        halves.append(stories(scratch / str(seed), seed))
    if name == "tinystories":
        names = ("train-00000-of-00004-2d5a1467fff1081b", "train-00001-of-00004-5852b56a2bd28fd9")
        files = {f"data/{name}.parquet": parquet({"text": half}) for name, half in zip(names, halves, strict=True)}
        other = parquet({"text": ["A story of the validation split."]})
        return files | {"data/validation-00000-of-00001-869c898b519ad725.parquet": other, "TinyStories-train.txt": b"x"}
    files = {}
    for number, half in enumerate(halves):
        rows = range(len(half))
        columns: dict[str, list[Any]] = {
            "text": half,
            "id": [f"<urn:uuid:{number}-{row}>" for row in rows],
            "dump": ["CC-MAIN-2024-10" for _ in rows],
            "url": [f"https://site{row % 9}.example/{number}/{row}" for row in rows],
            "language_score": [0.95 for _ in rows],
            "int_score": [3 for _ in rows],
        }
        files[f"sample/10BT/{number:03d}_00000.parquet"] = parquet(columns)
    return files | {"data/CC-MAIN-2024-10/train-00000-of-00014.parquet": parquet({"text": ["Another sample."]})}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_small_stand_in_of_the_data_set_becomes_a_model_that_writes(name: str, home: Path, tmp_path: Path) -> None:
    (source,) = load_recipe(name).collect.huggingface
    files = stand_in(name, tmp_path)
    moved = dict.fromkeys(files, b"what the branch has come to")
    hub = Hub(source.dataset, {source.revision: files, commit_id(9): moved}, {"main": commit_id(9)})
    with serve_hub(hub):
        environment = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
        environment |= dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9") | {"no_proxy": "127.0.0.1"}
        result = llmill("run", name, "--plain", "--json", *CHOSEN, home=home, environment=environment)
        report = report_of(result)
        asked = len(hub.asked)
        again = report_of(llmill("run", name, "--plain", "--json", *CHOSEN, home=home, environment=environment))
    assert report["status"] == "completed" and set(outcomes(report).values()) == {"built"}
    assert again["status"] == "reused" and digests(again) == digests(report) and len(hub.asked) == asked

    summaries = {stage["stage"]: stage["artifact"]["summary"] for stage in report["stages"]}
    wanted = [path for path in files if path.startswith(source.files[0].removesuffix("*"))]
    held = sum(len(files[path]) for path in wanted)
    assert (summaries["fetch"]["files"], summaries["fetch"]["bytes"]) == (len(wanted), held)
    (notice,) = summaries["fetch"]["notices"]
    assert f"total_bytes states {source.total_bytes:,}, and its files hold {held:,}" in notice
    assert summaries["fetch"][f"{source.name}.commit"] == source.revision
    rows = [json.loads(line) for line in llmill("cat", "latest/collect/documents", home=home).stdout.splitlines()]
    assert {(row["source"], row["license"], row["lang"]) for row in rows} == {(source.name, source.license, "en")}
    assert summaries["collect"]["kept"] == summaries["collect"]["read"] > 300
    assert 0 < summaries["finetune"]["pairs"] < summaries["filter"]["kept"], "a sample of the documents"
    answer = llmill("generate", "--raw", "Once upon a time", "--max-new-tokens", "12", home=home)
    assert answer.returncode == 0 and answer.stdout.strip(), answer.stderr
