"""The whole pipeline on the smoke recipe, through the command line on the plain path."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from local_stages import STAGE_NAMES
from support import ROOT, Command, cost_in_loops, digests, llmill, outcomes, report_of, users_own_modules

Smoke = tuple[Path, dict[str, Any]]


def run(home: Path, *arguments: str, **options: Any) -> dict[str, Any]:
    return report_of(llmill("run", "smoke", "--plain", "--json", *arguments, home=home, **options))


def plan(home: Path, *arguments: str) -> dict[str, tuple[str, list[str]]]:
    stages = report_of(llmill("plan", "smoke", "--json", *arguments, home=home))["stages"]
    return {stage["stage"]: (stage["will"], stage["why"]) for stage in stages}


def test_all_nine_stages_are_built_and_every_part_lies_where_the_report_says(smoke: Smoke) -> None:
    _, report = smoke
    assert report["status"] == "completed"
    assert outcomes(report) == dict.fromkeys(STAGE_NAMES, "built")
    for stage in report["stages"]:
        assert stage["why"] == ["never built"]
        for part in stage["artifact"]["parts"].values():
            assert any(Path(part["uri"].removeprefix("file://")).iterdir())


def test_data_stages_account_for_every_document(smoke: Smoke) -> None:
    for stage in smoke[1]["stages"]:
        if stage["stage"] in ("collect", "deduplicate", "filter"):
            summary = stage["artifact"]["summary"]
            assert summary["read"] == summary["kept"] + summary["dropped"] + summary["quarantined"] > 0


def test_a_second_run_reuses_all_within_two_seconds_of_work(smoke_home: Path, smoke: Smoke) -> None:
    assert {will for will, _ in plan(smoke_home).values()} == {"reuse"}

    def again() -> None:
        report = report_of(llmill("run", "smoke", "--json", home=smoke_home))
        assert report["status"] == "reused" and digests(report) == digests(smoke[1])

    assert cost_in_loops(again) < 320


def test_a_plan_takes_under_one_and_a_half_seconds_of_work(smoke_home: Path) -> None:
    assert cost_in_loops(lambda: plan(smoke_home, "--set", "filter.min_words=21")) < 230


@pytest.mark.slow
def test_an_equal_recipe_gives_equal_digests_anywhere(smoke: Smoke, tmp_path: Path) -> None:
    """Another home on a path with a space, another cwd, one worker instead of two, another hash seed."""
    elsewhere = tmp_path / "another place"
    elsewhere.mkdir()
    environment = {"PYTHONHASHSEED": "12345"}
    report = run(elsewhere / "home", "--set", "execution.workers=1", cwd=elsewhere, environment=environment)
    assert digests(report) == digests(smoke[1])


def test_a_threshold_that_drops_nothing_more_builds_the_filter_alone(smoke_home: Path) -> None:
    setting = ("--set", "filter.max_words=99999")
    planned = plan(smoke_home, *setting)
    assert planned["filter"] == ("build", ["config filter.max_words: 100000 -> 99999"])
    assert planned["deduplicate"][0] == "reuse" and planned["release"][0] == "maybe"
    built = outcomes(run(smoke_home, *setting))
    assert built == {name: "built" if name == "filter" else "reused" for name in STAGE_NAMES}


@pytest.mark.slow
def test_a_changed_sample_count_rebuilds_the_release_alone(smoke_home: Path) -> None:
    built = outcomes(run(smoke_home, "--set", "release.samples=2"))
    assert built == {name: "built" if name == "release" else "reused" for name in STAGE_NAMES}


def harm(folder: Path, how: str) -> None:
    """Delete a part, or flip one byte in the middle of its last file."""
    if how == "deleted":
        shutil.rmtree(folder)
        return
    file = sorted(path for path in folder.rglob("*") if path.is_file())[-1]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.chmod(0o644)
    file.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["deleted", "corrupted"])
def test_every_single_part_heals_alone(smoke_home: Path, smoke: Smoke, how: str, command: Command) -> None:
    """The harmed part's stage is rebuilt, with an equal digest; the others are reused; the plan has said so."""
    for label, digest in digests(smoke[1]).items():
        harmed, part = label.split("/")
        harm(smoke_home / "store" / "parts" / harmed / part / digest, how)
        planned = command.json("plan", "smoke", home=smoke_home)
        assert [line["stage"] for line in planned["stages"] if line["will"] == "build"] == [harmed]
        healed = command.json("run", "smoke", "--plain", home=smoke_home)
        expected = {stage: "built" if stage == harmed else "reused" for stage in STAGE_NAMES}
        assert outcomes(healed) == expected, f"{how} {label}"
        assert digests(healed) == digests(smoke[1])


@pytest.mark.slow
def test_the_command_line_works_among_the_users_own_modules(tmp_path: Path, smoke: Smoke) -> None:
    """A folder with a user's `tasks.py`, `model/`, `storage/`, `flows.py`: none of them is ours to import."""
    folder = users_own_modules(tmp_path / "my project")
    report = run(folder / "home", "--to", "pretrain", cwd=folder)
    expected = {name: digest for name, digest in digests(smoke[1]).items() if name in digests(report)}
    assert digests(report) == expected


def test_to_force_and_a_plan_of_them(smoke_home: Path) -> None:
    report = run(smoke_home, "--to", "tokenizer", "--force", "filter")
    assert outcomes(report) == {"collect": "reused", "deduplicate": "reused", "filter": "built", "tokenizer": "reused"}
    assert plan(smoke_home, "--force", "tokenize")["tokenize"] == ("build", ["forced"])


def test_an_edited_helper_rebuilds_the_stages_that_reach_it(smoke_home: Path, tmp_path: Path) -> None:
    """On a copy of the code: a changed redaction rule rebuilds the filter; a comment rebuilds nothing."""
    code = tmp_path / "code"
    for package in ("flows", "tasks", "model", "storage"):
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"PYTHONPATH": str(code)}

    def planned() -> dict[str, str]:
        result = llmill("plan", "smoke", "--json", home=smoke_home, cwd=tmp_path, environment=environment)
        return {stage["stage"]: stage["will"] for stage in report_of(result)["stages"]}

    assert set(planned().values()) == {"reuse"}
    helper = code / "tasks" / "filter" / "addresses.py"
    helper.write_text(helper.read_text() + "\n# a comment\n")
    assert set(planned().values()) == {"reuse"}
    rule = helper.read_text()
    helper.write_text(rule.replace("_SHORTEST_IPV4_DIGITS = 7", "_SHORTEST_IPV4_DIGITS = 8"))
    assert list(planned().values()) == ["reuse"] * 2 + ["build"] + ["maybe"] * 6
    helper.write_text(rule)
    transformer = code / "model" / "transformer.py"
    transformer.write_text(transformer.read_text() + "\n\nprint_nothing = [].sort()\n")
    assert planned()["pretrain"] == "reuse", "a new constant that nothing names"
    transformer.write_text(transformer.read_text().replace("class RMSNorm", "class RMSNorm_", 1))
    after = planned()
    assert after["pretrain"] == "build" and after["tokenize"] == "reuse"


def test_runs_inspect_and_verify_show_what_is_there(smoke_home: Path, smoke: Smoke) -> None:
    (known,) = json.loads(llmill("runs", "--json", home=smoke_home).stdout)
    assert known["run"] == smoke[1]["run"] and known["status"] == "completed"
    inspected = json.loads(llmill("inspect", "latest/filter", "--json", home=smoke_home).stdout)
    assert inspected["stage"] == "filter" and not any(part["damage"] for part in inspected["parts"].values())
    verified = llmill("verify", home=smoke_home)
    assert verified.returncode == 0 and "0 damaged" in verified.stdout


def test_verify_finds_damage_that_keeps_size_and_time(smoke_home: Path, smoke: Smoke) -> None:
    import os

    part = smoke[1]["stages"][0]["artifact"]["parts"]["documents"]
    folder = next((smoke_home / "store" / "parts" / "collect" / "documents").glob(part["digest"]))
    file = sorted(folder.iterdir())[0]
    status = file.stat()
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    verified = llmill("verify", home=smoke_home)
    assert verified.returncode == 1 and f"part damaged: documents/{file.name}" in verified.stdout


@pytest.mark.slow
def test_generate_answers_with_the_newest_release(smoke_home: Path) -> None:
    first = llmill("generate", "Where is the river?", "--max-new-tokens", "8", home=smoke_home)
    again = llmill("generate", "Where is the river?", "--max-new-tokens", "8", home=smoke_home)
    assert first.returncode == 0 and first.stdout.strip() and first.stdout == again.stdout, first.stderr
