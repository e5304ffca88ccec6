"""Retraining as an operator meets it: the first champion, nothing new, new text, a failure, promotion by hand."""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import llmill, llmill_command, outcomes, report_of

pytestmark = pytest.mark.slow

OLD = ["river", "castle", "doctor", "engine", "letter", "bridge", "golden", "quiet", "forest", "window", "garden"]
NEW = ["planet", "rocket", "signal", "copper", "harbor", "velvet", "lantern", "marble", "orchid", "falcon", "cinder"]
RECIPE = """
collect: {files: [{path: texts, group_field: group}], documents_per_shard: 50}
filter: {preset: none}
tokenizer: {vocabulary_size: 300}
tokenize: {canaries: 0}
pretrain: {size: nano, layers: 1, width: 32, heads: 2, key_value_heads: 1, head_dim: 16, context_length: 64,
           batch_tokens: 512, micro_batch_tokens: 512, steps: 30}
finetune: {pairs: continuations, steps: 10}
evaluate: {heldout_bytes: 20000, items: 20, spans: 4, bootstrap_draws: 200}
release: {name: llmill-mine, formats: []}
retrain: {tokens: 20480}
"""
DATA_STAGES = ("deduplicate", "filter", "tokenize")  # collect reads small files together


def write_texts(path: Path, words: list[str], seed: int, documents: int = 150) -> None:
    choose = random.Random(seed).choice
    rows = []
    for number in range(documents):
        text = " ".join(f"The {choose(words)} holds a {choose(words)} near the {choose(words)}." for _ in range(15))
        rows.append(json.dumps({"text": text, "group": f"{path.stem}{number // 5}"}) + "\n")
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(rows))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a home that has its first champion, and the report of that run. Not to be written to."""
    folder = tmp_path_factory.mktemp("retrain")
    (folder / "mine.yaml").write_text(RECIPE)
    for seed, name in enumerate(("a", "b")):
        write_texts(folder / "texts" / f"{name}.jsonl", OLD, seed)
    return folder, report_of(retrain(folder))


@pytest.fixture
def folder(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(first[0], tmp_path / "copy", symlinks=True))


def retrain(folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    return llmill("retrain", str(folder / "mine.yaml"), "--plain", "--json", *more, home=folder / "home")


def champion(folder: Path) -> dict[str, Any]:
    return dict(json.loads(llmill("champion", "--json", home=folder / "home").stdout))


def run_file(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads((folder / "home" / "runs" / f"{report['run']}.json").read_bytes()))


def release_of(report: dict[str, Any]) -> str:
    return next(str(row["artifact"]["digest"]) for row in report["stages"] if row["stage"] == "release")


def test_the_first_sound_model_is_the_champion_and_stays_where_nothing_is_new(
    first: tuple[Path, dict[str, Any]], folder: Path
) -> None:
    assert run_file(folder, first[1])["verdict"]["decision"] == "first"
    again = retrain(folder)
    report = report_of(again)
    assert set(outcomes(report).values()) == {"reused"} and report["seconds"] < 10
    assert "champion kept" in again.stderr and "nothing new" in again.stderr
    assert champion(folder)["champion"]["release"] == release_of(first[1]) == release_of(report)


def test_new_text_costs_its_own_shards_and_both_models_answer_the_same_items(
    first: tuple[Path, dict[str, Any]], folder: Path
) -> None:
    write_texts(folder / "texts" / "c.jsonl", NEW, 7)
    planned = json.loads(llmill("plan", str(folder / "mine.yaml"), "--retrain", "--json", home=folder / "home").stdout)
    assert "tokenizer" not in {line["stage"] for line in planned["stages"]}, "it is the champion's, frozen"
    result = retrain(folder)
    report = report_of(result)
    run = run_file(folder, report)
    rows = {row["stage"]: row for row in run["stages"]}
    for stage in DATA_STAGES:
        assert rows[stage]["shards_reused"] > 0 and rows[stage]["shards_built"] > 0, stage
    summary = rows["pretrain"]["artifact"]["summary"]
    assert summary["new_documents"] > 100 and 0 < summary["share_of_new_tokens"] < 1
    assert summary["bits_per_byte"] < summary["bits_per_byte_before"]
    record = json.loads((folder / "home" / "builds" / "pretrain" / f"{rows['pretrain']['key']}.json").read_bytes())
    old = next(row["artifact"] for row in first[1]["stages"] if row["stage"] == "pretrain")
    assert old["parts"]["model"]["digest"] in record["identity"]["inputs"].values()

    verdict = run["verdict"]
    assert verdict["decision"] == "promoted" and "better" in verdict["reasons"][0], verdict
    assert verdict["figure"]["items"] > 20 and verdict["champion"] == release_of(first[1])
    assert "verdict" in result.stderr and "promoted" in result.stderr
    found = champion(folder)
    assert found["champion"]["release"] == release_of(report)
    assert found["previous"]["release"] == release_of(first[1])
    assert "better" in Path(report["report"]).read_text()

    swept = llmill("gc", "--keep-runs", "0", home=folder / "home")
    assert swept.returncode == 0
    assert set(outcomes(report_of(retrain(folder))).values()) == {"reused"}, "gc has kept what a retraining needs"

    back = llmill("rollback", "--json", home=folder / "home")
    assert back.returncode == 0 and champion(folder)["champion"]["release"] == release_of(first[1])


def test_a_run_that_fails_before_its_verdict_keeps_the_champion_and_says_so(
    first: tuple[Path, dict[str, Any]], folder: Path
) -> None:
    write_texts(folder / "texts" / "c.jsonl", NEW, 7)
    result = retrain(folder, "--set", "retrain.gate.guards=[cloze/acuracy]")
    assert result.returncode == 2 and "cloze/acuracy: no such figure" in result.stderr
    assert "the champion stays as it is" in result.stderr
    assert champion(folder)["champion"]["release"] == release_of(first[1])


def test_a_damaged_champion_is_built_again_or_not_gone_on_from(
    first: tuple[Path, dict[str, Any]], folder: Path
) -> None:
    (model,) = (folder / "home" / "store" / "parts" / "pretrain" / "model").glob("*/model.safetensors")
    model.unlink()
    result = retrain(folder)
    if result.returncode == 0:
        assert "is damaged" in result.stderr and champion(folder)["champion"]["release"] == release_of(first[1])
    else:
        assert result.returncode == 2 and "rollback" in result.stderr and "retrain.start=scratch" in result.stderr


def test_two_at_once_come_to_one_verdict_after_the_other(folder: Path) -> None:
    write_texts(folder / "texts" / "c.jsonl", NEW, 7)
    command = [*llmill_command(), "retrain", str(folder / "mine.yaml"), "--plain", "--json"]
    environment = {**os.environ, "LLMILL_HOME": str(folder / "home")}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    reports = [json.loads(process.communicate(timeout=300)[0]) for process in both]
    decisions = sorted(run_file(folder, report)["verdict"]["decision"] for report in reports)
    assert decisions == ["kept", "promoted"]


def test_by_hand_what_cannot_be_promoted_is_refused(folder: Path) -> None:
    home = folder / "home"
    back = llmill("rollback", home=home)
    assert back.returncode == 2 and "previous" in back.stderr
    unknown = llmill("promote", "nothing", home=home)
    assert unknown.returncode == 2 and "nothing" in unknown.stderr and "Traceback" not in unknown.stderr
    report_of(llmill("run", str(folder / "mine.yaml"), "--plain", "--json", "--to", "collect", home=home))
    none = llmill("promote", "latest", home=home)
    assert none.returncode == 2 and "release" in none.stderr
