"""A search on the plain path: what it tries, what it reuses, what it writes, and how it goes on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import Command, llmill, outcomes, report_of, unwrapped

from storage.runs import runs

pytestmark = pytest.mark.slow  # each search is several runs

SPACE = """
figure: finetune.answer_bits_per_byte
best: lowest
method: random
seed: 7
fields:
  finetune.matrix_rate: {low: 0.003, high: 0.03, log: true}
  finetune.pairs_per_step: {choices: [16, 64]}
"""
SHORT = ("--set", "finetune.steps=3")
COUNT = 5


def grid(figure: str, field: str, choices: str) -> str:
    """A space of one field."""
    return f"figure: {figure}\nbest: lowest\nmethod: grid\nfields: {{{field}: {{choices: {choices}}}}}\n"


def space_file(folder: Path, text: str = SPACE) -> str:
    path = folder / "space.yaml"
    path.write_text(text)
    return str(path)


def trials_of(home: Path) -> list[dict[str, Any]]:
    """The trials of the one study of a home, as its files have them."""
    return [json.loads(path.read_bytes()) for path in sorted(home.glob("tuning/*/trials/*.json"))]


def settings_of(home: Path) -> list[dict[str, Any]]:
    return [trial["settings"] for trial in trials_of(home)]


@pytest.fixture(scope="module")
def searched(
    smoke: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], str]:
    """A home with a finished search, its report, and what it printed beside that. Not to be written to."""
    folder = tmp_path_factory.mktemp("searched")
    home = folder / "home"
    shutil.copytree(smoke[0], home, symlinks=True)
    command = ("tune", "smoke", *SHORT, "--space", space_file(folder), "--trials", str(COUNT), "--plain")
    result = llmill(*command, "--json", home=home)
    return home, report_of(result), result.stderr


@pytest.fixture
def searched_home(searched: tuple[Path, dict[str, Any], str], home: Path) -> Path:
    shutil.copytree(searched[0], home, dirs_exist_ok=True, symlinks=True)
    return home


def again(searched: tuple[Path, dict[str, Any], str], home: Path, *more: str) -> dict[str, Any]:
    """The same command on a copy of its home."""
    space = str(searched[0].parent / "space.yaml")
    return report_of(llmill("tune", "smoke", *SHORT, "--space", space, "--plain", "--json", *more, home=home))


def test_the_first_trial_has_the_recipe_s_own_settings(searched: tuple[Path, dict[str, Any], str]) -> None:
    home, report, _ = searched
    trials = trials_of(home)
    assert [trial["number"] for trial in trials] == [1, 2, 3, 4, 5]
    assert trials[0]["settings"] == {"finetune.matrix_rate": 0.01, "finetune.pairs_per_step": 64}
    assert {trial["state"] for trial in trials} == {"finished"}
    assert all(0.003 <= trial["settings"]["finetune.matrix_rate"] <= 0.03 for trial in trials)
    assert {trial["settings"]["finetune.pairs_per_step"] for trial in trials} <= {16, 64}
    assert report["tune"]["first"] == {"number": 1, "settings": trials[0]["settings"], "figure": trials[0]["figure"]}


def test_a_trial_is_a_run_that_reuses_what_comes_before(searched: tuple[Path, dict[str, Any], str]) -> None:
    home = searched[0]
    by_name = {run["run"]: run for run in runs(home)}
    study = searched[1]["tune"]["study"]
    for trial in trials_of(home):
        run = by_name[trial["run"]]
        assert run["run"].startswith(f"tune-{study}-{trial['number']}-") and run["status"] == "completed"
        built = [stage for stage, outcome in outcomes(run).items() if outcome == "built"]
        assert built == ["finetune"], "the smoke run has made all before it"
        assert run["stages"][-1]["artifact"]["summary"]["answer_bits_per_byte"] == trial["figure"]
        assert run["stages"][-1]["artifact"]["digest"] == trial["artifact"]


def test_the_best_recipe_runs_and_reuses_the_best_trial(
    searched: tuple[Path, dict[str, Any], str], searched_home: Path, command: Command
) -> None:
    found = searched[1]["tune"]
    figures = {trial["number"]: trial["figure"] for trial in trials_of(searched_home)}
    assert found["best"]["figure"] == min(figures.values())
    assert figures[found["best"]["number"]] == found["best"]["figure"]
    recipe = next(searched_home.glob("tuning/*/best.yaml"))
    plan = command.json("plan", str(recipe), "--to", "finetune", home=searched_home)["stages"]
    assert {line["will"] for line in plan} == {"reuse"}
    best = next(trial for trial in trials_of(searched_home) if trial["number"] == found["best"]["number"])
    report = command.json("run", str(recipe), "--plain", "--to", "finetune", home=searched_home)
    assert report["stages"][-1]["artifact"]["digest"] == best["artifact"]


def test_what_is_printed_names_trials_and_what_to_type_next(searched: tuple[Path, dict[str, Any], str]) -> None:
    home, report, err = searched
    said = unwrapped(err)
    assert f"study {report['tune']['study']}: finetune.answer_bits_per_byte, the lowest, by random, seed 7" in said
    assert "finetune.matrix_rate: 0.003 to 0.03 by orders of magnitude; own 0.01" in said
    assert "finetune.pairs_per_step: 16, 64; own 64" in said
    assert "the recipe's own settings" in said
    assert "interval none: finetune.answer_bits_per_byte is no mean over items" in said
    assert f"next llmill run {home}/tuning/{report['tune']['study']}/best.yaml" in said
    assert f"best trial {report['tune']['best']['number']}: " in said


def test_what_looks_at_artifacts_looks_at_a_study_too(
    searched: tuple[Path, dict[str, Any], str], command: Command
) -> None:
    home = searched[0]
    rows = command.json("cat", "latest/study", home=home)
    assert [row["number"] for row in rows] == [1, 2, 3, 4, 5] and {"settings", "figure", "seconds", "state"} <= {
        *rows[0]
    }
    (result,) = command.json("cat", "latest/study/result", home=home)
    assert set(result["importance"]) == {"finetune.matrix_rate", "finetune.pairs_per_step"}
    assert sum(result["importance"].values()) == pytest.approx(1.0, abs=0.01)
    seen = command.json("inspect", "latest/study", home=home)
    assert seen["summary"]["trials"] == COUNT and {*seen["parts"]} == {"trials", "result", "recipe"}
    page = Path(searched[1]["report"]).read_text()
    assert 'id="search"' in page and "What mattered" in page and "1 (own settings)" in page


def test_a_search_that_is_done_builds_nothing(searched: tuple[Path, dict[str, Any], str], searched_home: Path) -> None:
    before = trials_of(searched_home)
    report = again(searched, searched_home, "--trials", str(COUNT))
    assert report["status"] == "reused" and trials_of(searched_home) == before


def test_more_trials_go_on_and_earlier_ones_stay(
    searched: tuple[Path, dict[str, Any], str], searched_home: Path
) -> None:
    before = trials_of(searched_home)
    again(searched, searched_home, "--trials", str(COUNT + 1))
    after = trials_of(searched_home)
    assert after[:COUNT] == before and len(after) == COUNT + 1


def test_the_same_seed_gives_the_same_trials_and_nothing_is_built_twice(
    searched: tuple[Path, dict[str, Any], str], searched_home: Path
) -> None:
    before = settings_of(searched_home)
    shutil.rmtree(searched_home / "tuning")
    again(searched, searched_home, "--trials", str(COUNT))
    assert settings_of(searched_home) == before
    repeated = [run for run in runs(searched_home) if run["run"].startswith("tune-") and "smoke" not in run["run"]]
    assert {run["status"] for run in repeated[-COUNT:]} == {"reused"}, "their results were there"


def test_a_combination_that_the_recipe_refuses_is_counted(smoke_home: Path, tmp_path: Path) -> None:
    text = grid("evaluate.answers/bits_per_byte", "evaluate.stride", "[64, 65]")
    command = ("tune", "smoke", *SHORT, "--space", space_file(tmp_path, text), "--plain", "--json")
    result = llmill(*command, "--trials", "9", home=smoke_home)
    report = report_of(result)
    trials = trials_of(smoke_home)
    assert [trial["state"] for trial in trials] == ["finished", "finished", "refused"], "then the grid was done"
    assert "evaluate.stride (65) is more than the model's context of 64 tokens" in trials[-1]["why"]
    assert "evaluate.stride (65) is more than the model's context" in unwrapped(result.stderr)
    assert report["tune"]["trials"] == {"finished": 2, "refused": 1}


def test_a_score_has_the_paired_interval_of_best_against_first(smoke_home: Path, tmp_path: Path) -> None:
    text = grid("evaluate.answers/bits_per_byte", "finetune.matrix_rate", "[0.01]")
    command = ("tune", "smoke", "--space", space_file(tmp_path, text), "--plain", "--json")
    result = llmill(*command, "--set", "finetune.matrix_rate=0.0001", "--trials", "2", home=smoke_home)
    found = report_of(result)["tune"]
    interval = found["interval"]
    assert found["best"]["number"] == 2
    assert interval["old"] == pytest.approx(found["first"]["figure"], abs=1e-4)
    assert interval["new"] == pytest.approx(found["best"]["figure"], abs=1e-4), "scores have five digits"
    assert interval["low"] < interval["difference"] < interval["high"] < 0
    assert "better beyond it" in unwrapped(result.stderr)


def test_a_bad_trial_is_stopped_by_its_curve(smoke_home: Path, tmp_path: Path) -> None:
    text = grid("finetune.answer_bits_per_byte", "finetune.matrix_rate", "[0.011, 0.012, 0.013, 0.0001]")
    short = ("--set", "finetune.steps=9", "--set", "finetune.validation_interval=3")
    command = ("tune", "smoke", *short, "--space", space_file(tmp_path, text), "--trials", "5", "--plain", "--json")
    result = llmill(*command, home=smoke_home)
    report = report_of(result)
    trials = trials_of(smoke_home)
    assert [trial["state"] for trial in trials] == [*["finished"] * 4, "stopped"]
    assert trials[-1]["stopped_at"] == 6 and report["tune"]["trials"] == {"finished": 4, "stopped": 1}
    assert "stopped at step 6" in result.stderr
    stopped = next(run for run in runs(smoke_home) if run["run"] == trials[-1]["run"])
    assert stopped["status"] == "interrupted", "it can go on"


def test_a_bad_trial_of_an_encoder_is_stopped_by_its_loss(smoke_home: Path, tmp_path: Path) -> None:
    """Filling in words has no bits per byte; its curve is a loss."""
    text = grid("pretrain.heldout_loss", "pretrain.matrix_rate", "[0.021, 0.022, 0.023, 0.0001]")
    encoder = ("pretrain.objective=masked_words", "pretrain.steps=9", "pretrain.validation_interval=3")
    settings = [word for setting in encoder for word in ("--set", setting)]
    command = ("tune", "smoke", *settings, "--space", space_file(tmp_path, text), "--trials", "5", "--plain", "--json")
    result = llmill(*command, home=smoke_home)
    report_of(result)
    trials = trials_of(smoke_home)
    assert [trial["state"] for trial in trials] == [*["finished"] * 4, "stopped"]
    assert trials[-1]["stopped_at"] == 6 and "loss" in trials[-1]["why"] and "bits per byte" not in trials[-1]["why"]
    assert "by the validation of pretrain every 3 steps (pretrain.validation_interval)" in unwrapped(result.stderr)


def test_time_that_is_over_ends_the_trial_under_way_and_the_next_call_goes_on(smoke_home: Path, tmp_path: Path) -> None:
    text = grid("finetune.answer_bits_per_byte", "finetune.matrix_rate", "[0.02]")
    long = ("--set", "finetune.steps=3000", "--set", "execution.checkpoint_interval=1")
    first = ("tune", "smoke", "--space", space_file(tmp_path, text), "--plain", "--json", "--trials", "2")
    result = llmill(*first, *long, "--minutes", "0.2", home=smoke_home)
    assert result.returncode == 2, "not even the first trial has come to its end"
    assert "0.2 minutes are over" in unwrapped(result.stderr)
    (trial,) = trials_of(smoke_home)
    assert trial["state"] == "running"
    plan = llmill("plan", "smoke", *long, "--to", "finetune", home=smoke_home)
    assert "goes on from step" in unwrapped(plan.stdout)
