"""What `llmill deploy`, `worker` and `retry` refuse, with a message that names the fix, before a server is asked."""

import json
from pathlib import Path

import pytest
from support import Command, unwrapped

from flows.prefect.deployments import SHIPPED, read_deployments

GOOD = """
deployments:
  - name: nightly
    entrypoint: flows.prefect.deployed.build
    schedules: [{cron: "0 3 * * *", timezone: Europe/Berlin}]
    concurrency_limit: {limit: 1}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "0 3 * * *",
            "0 25 * * *",
            ("deployments.0.schedules.0.cron", "'0 25 * * *' is not a cron expression", "weekday"),
        ),
        ("Europe/Berlin", "Europe/Berlino", ("schedules.0.timezone", "'Europe/Berlino' is not a time zone")),
        ("schedules:", "shedules:", ("deployments.0.shedules: unknown key", "did you mean 'schedules'?")),
        ("limit: 1", "limit: 0", ("concurrency_limit.limit", "greater than or equal to 1")),
        (
            "flows.prefect.deployed.build",
            "flows.prefect.deployed.biuld",
            ("entrypoint", "'flows.prefect.deployed.biuld' is not a flow"),
        ),
        ("- name", "-\tname", ("line 3", "not valid YAML")),
    ],
)
def test_a_bad_deployment_file_names_the_field_and_the_fix(
    old: str, new: str, said: tuple[str, ...], command: Command, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD.replace(old, new))
    status, _, err = command("deploy", "smoke", "--file", str(file), home=home)
    assert status == 2 and str(file) in err
    for piece in said:
        assert unwrapped(piece) in unwrapped(err)


def test_the_file_that_ships_is_whole_and_prefect_can_read_it_too(tmp_path: Path) -> None:
    import yaml

    (tmp_path / "mine.yaml").write_text(GOOD)
    assert read_deployments(tmp_path / "mine.yaml")[0].schedules[0].timezone == "Europe/Berlin"
    shipped = read_deployments(SHIPPED)
    assert "build" in {deployment.name for deployment in shipped}
    for entry in yaml.safe_load(SHIPPED.read_text())["deployments"]:
        assert entry["work_pool"]["job_variables"]["command"] == "python -m flows.start prefect.engine"


def test_a_file_that_is_not_there_and_a_recipe_that_is_none(command: Command, home: Path, tmp_path: Path) -> None:
    status, _, err = command("deploy", "--file", str(tmp_path / "none.yaml"), home=home)
    assert status == 2 and "none.yaml: cannot be read" in unwrapped(err)
    status, _, err = command("deploy", "quik", home=home)
    assert status == 2 and "'quik' is unknown" in unwrapped(err)


def test_a_worker_without_a_server_says_what_to_start(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = command("worker", home=home)
    assert status == 2 and "PREFECT_API_URL" in err and "llmill ui" in unwrapped(err)


def test_retry_refuses_what_is_done_and_what_is_not_known(command: Command, smoke_home: Path) -> None:
    (run,) = (json.loads(path.read_bytes())["run"] for path in smoke_home.glob("runs/*.json"))
    status, _, err = command("retry", run, home=smoke_home)
    assert status == 2 and "completed" in err and "llmill run" in unwrapped(err)
    status, _, err = command("retry", "nothing", home=smoke_home)
    assert status == 2 and "llmill runs" in unwrapped(err)


def test_retry_goes_on_here_with_a_run_of_the_command_line(command: Command, smoke_home: Path) -> None:
    """What it was forced to build and has built is not built again."""
    path = next(smoke_home.glob("runs/*.json"))
    run = json.loads(path.read_bytes())
    run |= {"status": "failed", "options": {"to": "tokenizer", "force": ["filter"], "keep": []}}
    path.write_text(json.dumps(run))
    done = command.json("retry", run["run"], "--plain", home=smoke_home)
    assert [row["outcome"] for row in done["stages"]] == ["reused"] * 4
    run["stages"] = [row for row in run["stages"] if row["stage"] != "filter"]
    path.write_text(json.dumps(run))
    done = command.json("retry", run["run"], "--plain", home=smoke_home)
    assert [row["outcome"] for row in done["stages"]] == ["reused", "reused", "built", "reused"]


def test_retry_of_a_recipe_that_no_longer_validates_names_the_field(command: Command, smoke_home: Path) -> None:
    path = next(smoke_home.glob("runs/*.json"))
    run = json.loads(path.read_bytes())
    run["status"] = "failed"
    run["recipe"]["filter"]["min_wrds"] = 3
    path.write_text(json.dumps(run))
    status, _, err = command("retry", run["run"], "--plain", home=smoke_home)
    assert status == 2 and "filter.min_wrds: unknown key" in unwrapped(err) and "min_words" in err
