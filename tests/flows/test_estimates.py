"""The plan's estimates: scaled by the work, with a spread, unknown where nothing is known, judged afterwards."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows.estimates import Estimate
from flows.plan import PlannedStage, make_plan
from flows.recipe import load_recipe
from flows.terminal.plan_text import about, plan_text
from model.cost import devices_filled_by
from storage.store.local import Store
from tasks.engine.planner import Options
from tasks.engine.unfinished import FinishedShards, note_attempt, note_shards, work_folder
from tasks.wording import duration


def plan(home: Path, *settings: str, recipe: str = "smoke") -> dict[str, PlannedStage]:
    return {line.stage: line for line in make_plan(Store(home), load_recipe(recipe, settings), Options())}


def estimate(line: PlannedStage) -> Estimate:
    assert line.estimate is not None
    assert line.estimate.low <= line.estimate.seconds <= line.estimate.high
    return line.estimate


def took(home: Path, stage: str) -> float:
    (record,) = Store(home).builds_of(stage)
    return float(record["seconds"])


def test_nothing_is_known_of_an_empty_home(home: Path) -> None:
    lines = plan(home)
    assert all(line.estimate is None for line in lines.values())
    assert plan_text(list(lines.values())).endswith("time unknown")


def test_twice_the_steps_take_twice_the_time(smoke: tuple[Path, dict[str, Any]]) -> None:
    home = smoke[0]
    longer = estimate(plan(home, "pretrain.steps=70")["pretrain"])
    assert longer.seconds == pytest.approx(took(home, "pretrain") * 70 / 40, rel=0.02)
    assert longer.low < longer.seconds < longer.high
    wider = estimate(plan(home, "pretrain.width=256", "pretrain.head_dim=128", "pretrain.feed_forward=768")["pretrain"])
    assert wider.seconds > 2 * took(home, "pretrain")


def test_an_epoch_of_the_pairs_that_are_chosen_takes_what_it_took(smoke_home: Path) -> None:
    """As recorded by a build that has left half of the pairs out."""
    (path,) = (smoke_home / "builds" / "finetune").glob("*.json")
    record = json.loads(path.read_text())
    identity, summary = record["identity"], record["summary"]
    collected, pairs_per_step = summary["pairs"] - summary["heldout_pairs"], identity["config"]["pairs_per_step"]
    summary["steps"] = collected // 2 // pairs_per_step
    summary["training_pairs"] = summary["steps"] * pairs_per_step
    identity["config"] |= {"steps": None, "epochs": 1.0, "shared_words": 2}
    Store(smoke_home).record_build(record)
    for shared_words, times in ((2, 1.0), (0, collected / summary["training_pairs"])):
        settings = ("finetune.steps=null", "finetune.epochs=1", f"finetune.shared_words={shared_words}")
        line = plan(smoke_home, *settings, "finetune.seed=7")["finetune"]
        assert estimate(line).seconds == pytest.approx(times * record["seconds"], rel=0.05)


def test_a_fine_tuning_whose_record_names_no_parameters_is_taken_for_as_large(smoke_home: Path) -> None:
    """As builds of earlier code have recorded it."""
    (path,) = (smoke_home / "builds" / "finetune").glob("*.json")
    record = json.loads(path.read_text())
    del record["summary"]["parameters"]
    Store(smoke_home).record_build(record)
    line = plan(smoke_home, "finetune.seed=7")["finetune"]
    assert estimate(line).seconds == pytest.approx(record["seconds"], abs=0.1)


def test_far_from_what_was_measured_the_range_reaches_back_to_it(smoke: tuple[Path, dict[str, Any]]) -> None:
    home = smoke[0]
    far = estimate(plan(home, "pretrain.steps=40000")["pretrain"])
    assert far.seconds > 500 * took(home, "pretrain")
    assert far.low == pytest.approx(took(home, "pretrain"), abs=0.1), "how much of it is fixed is not known"


def test_what_is_tiny_beside_a_training_says_less_of_it_than_other_machines(
    smoke: tuple[Path, dict[str, Any]],
) -> None:
    """From an hour of a core on, and a hundred times the work: before, the builds of this machine tell."""
    settings = ("pretrain.device=cpu", "pretrain.dtype=float32", "pretrain.threads=1")
    long = (*settings, "pretrain.steps=400000")
    shape, tokens = load_recipe("smoke", long).pretrain.shape(512), 400_000 * 1024
    core = next(device for device in devices_filled_by(shape) if device.name == "a CPU core, float32")
    there = estimate(plan(smoke[0], *long)["pretrain"])
    assert there.seconds == pytest.approx(core.seconds(shape, tokens), rel=1e-3)
    assert there.low == pytest.approx(there.seconds / 2, rel=1e-3)
    assert there.high == pytest.approx(there.seconds * 2, rel=1e-3)


def test_what_is_unknown_beside_reuses_is_not_a_bound(smoke_home: Path) -> None:
    (path,) = (smoke_home / "builds" / "finetune").glob("*.json")
    Store(smoke_home).record_build({**json.loads(path.read_text()), "resumed": True})
    lines = list(plan(smoke_home, "finetune.seed=7").values())[:7]
    assert plan_text(lines).endswith("time unknown")
    assert plan_text(lines[:6]).endswith("\nabout 0.0 s")


def total_of(home: Path, *settings: str, recipe: str = "smoke") -> str:
    return plan_text(list(plan(home, *settings, recipe=recipe).values())).splitlines()[-1]


def test_what_is_known_beside_what_is_not_is_not_a_bound_either(smoke: tuple[Path, dict[str, Any]]) -> None:
    lines = list(plan(smoke[0], recipe="quick").values())
    known = [line for line in lines if line.estimate is not None]
    assert 0 < len(known) < len(lines)
    total = plan_text(lines).splitlines()[-1]
    assert re.fullmatch(rf"[\d.a-z ]+ \(.+ to .+\) for {len(known)} stages, {len(lines) - len(known)} unknown", total)
    assert "at most" not in total


def test_a_bound_is_shown_only_where_all_is_known_and_some_may_be_reused(smoke_home: Path) -> None:
    assert total_of(smoke_home, "filter.min_words=20").startswith("at most about ")
    assert re.fullmatch(r"about [\d.]+ s \(.+ to .+\)", total_of(smoke_home, "release.description=other"))


def test_a_wide_range_is_shown_by_its_end(smoke: tuple[Path, dict[str, Any]]) -> None:
    """A step of training costs little beside what is fixed, and how much that is nobody knows."""
    lines = plan(smoke[0], "pretrain.steps=1")
    assert estimate(lines["pretrain"]).spread > 10
    shown = next(line for line in plan_text(list(lines.values())).splitlines() if line.startswith("pretrain"))
    assert f"up to {duration(estimate(lines['pretrain']).high)}" in shown and "±" not in shown


@pytest.mark.parametrize("seconds", [0.0, 9.96, 59.7, 599.4, 599.6, 3599.9, 35_999, 36_001, 9e5, 8e7, 9e7, 3e11])
@pytest.mark.parametrize("spread", [0.0, 0.2, 1.0, 30.0])
def test_every_estimate_fits_its_column_and_none_is_absurd(seconds: float, spread: float) -> None:
    shown = about(Estimate(seconds, seconds / (1 + spread), seconds * (1 + 2 * spread)))
    assert len(shown) <= 16, shown
    assert all(int(share) <= 100 for share in re.findall(r"±(\d+)%", shown)), shown


def test_a_reuse_takes_no_time_and_other_sources_say_nothing(smoke: tuple[Path, dict[str, Any]]) -> None:
    assert {line.estimate for line in plan(smoke[0]).values()} == {Estimate(0, 0, 0)}
    other = plan(smoke[0], recipe="quick")
    assert other["collect"].estimate is None and other["filter"].estimate is None
    assert other["pretrain"].estimate is not None


def test_another_machine_s_seconds_count_less(smoke_home: Path) -> None:
    here = estimate(plan(smoke_home, "pretrain.steps=41")["pretrain"])
    (path,) = (smoke_home / "builds" / "pretrain").glob("*.json")
    record = json.loads(path.read_text())
    Store(smoke_home).record_build({**record, "host": {**record["host"], "processor": "another"}})
    there = estimate(plan(smoke_home, "pretrain.steps=41")["pretrain"])
    assert there.seconds == here.seconds and there.spread > 2 * here.spread
    for partly in ({"resumed": True}, {"shards_reused": 3}):
        Store(smoke_home).record_build({**record, **partly})
        assert plan(smoke_home, "pretrain.steps=41")["pretrain"].estimate is None, "the end of a build is not its time"


def test_a_run_has_its_estimates_beside_what_it_took(two_runs: Path) -> None:
    first, second = sorted((json.loads(path.read_text()) for path in (two_runs / "runs").glob("*.json")),
                           key=lambda run: run["started"])  # fmt: skip
    assert not any("estimate_seconds" in row for row in first["stages"])
    built = [row for row in second["stages"] if row["outcome"] == "built"]
    assert [row["stage"] for row in built] == ["finetune", "evaluate", "release"]
    assert all(row["estimate_seconds"] > 0 and row["seconds"] > 0 for row in built)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_training_that_goes_on_takes_the_rest_of_its_time(smoke_home: Path, stage: str) -> None:
    """The work folder of an attempt that was killed at step 30 of 40; one of other settings says nothing."""
    setting = f"{stage}.seed=7"
    line = plan(smoke_home, setting)[stage]
    whole, identity = estimate(line), line.decision.identity
    keep = work_folder(smoke_home / "work", stage, identity.key) / "keep"
    (keep / "checkpoints" / "step-30").mkdir(parents=True)
    (keep / "job.json").write_text(json.dumps({"schedule": {"steps": 40}}))
    note_attempt(keep.parent, identity.record())
    line = plan(smoke_home, setting)[stage]
    rest = estimate(line)
    assert line.decision.why[0] == "goes on from step 30 of 40"
    for left, all_of_it in ((rest.seconds, whole.seconds), (rest.low, whole.low), (rest.high, whole.high)):
        assert left == pytest.approx(all_of_it / 4, abs=0.11)
    other = plan(smoke_home, f"{stage}.seed=8")[stage]
    assert other.decision.why[0].startswith("abandons step 30") and estimate(other).seconds == whole.seconds


@pytest.mark.parametrize("stage", ["filter", "tokenize"])
def test_a_data_stage_that_goes_on_takes_what_its_finished_shards_have_not(smoke_home: Path, stage: str) -> None:
    setting = {"filter": "filter.min_words=20", "tokenize": "tokenize.seed=7"}[stage]
    (path,) = (smoke_home / "builds" / stage).glob("*.json")
    Store(smoke_home).record_build({**json.loads(path.read_text()), "seconds": 100.0})
    line = plan(smoke_home, setting)[stage]
    whole, identity = estimate(line), line.decision.identity
    folder = work_folder(smoke_home / "work", stage, identity.key)
    for seconds, share in ((0.25 * whole.seconds, 0.75), (2 * whole.seconds, 0.0)):
        note_shards(folder, FinishedShards(3, 4, "shards", seconds))
        line = plan(smoke_home, setting)[stage]
        assert line.decision.why[0] == "goes on from 3 of 4 shards"
        assert estimate(line).seconds == pytest.approx(share * whole.seconds, abs=0.11)
        assert estimate(line).high == pytest.approx(share * whole.high, abs=0.11)
