"""Prefect and MLflow on PostgreSQL by settings alone: same digests, a database that dies, settings that are wrong."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_input import published
from local_stages import STAGE_NAMES
from postgres import PASSWORD, Postgres, postgres
from support import digests, llmill, llmill_command, processes_of, report_of, unwrapped, wait_until

pytestmark = pytest.mark.slow

PREFECT, MLFLOW = "PREFECT_API_DATABASE_CONNECTION_URL", "MLFLOW_TRACKING_URI"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        for database in ("prefect", "mlflow"):
            running.create(database)
        yield running


@pytest.fixture(scope="module")
def environment(server: Postgres) -> dict[str, str]:
    return {PREFECT: server.url("prefect", "postgresql+asyncpg"), MLFLOW: server.url("mlflow")}


@pytest.fixture(scope="module")
def tracked(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """The home of a run that is in both databases, the folder in which it was started, and its report."""
    folder = tmp_path_factory.mktemp("folder")
    home = tmp_path_factory.mktemp("tracked") / "home"
    return home, folder, report_of(llmill("run", "smoke", "--json", home=home, cwd=folder, environment=environment))


def recorded_states(server: Postgres, run: str) -> tuple[str, dict[str, str], list[str]]:
    """What the databases say of a run: its state in Prefect, the status of its MLflow runs, its tasks in order."""
    ((identity, state),) = server.query("prefect", f"select id, state_type from flow_run where name = '{run}'")
    tasks = server.query("prefect", f"select name from task_run where flow_run_id = '{identity}' order by start_time")
    mine = f"select run_uuid from runs where name = '{run}'"
    nested = f"select run_uuid from tags where key = 'mlflow.parentRunId' and value in ({mine})"
    runs = server.query("mlflow", f"select name, status from runs where run_uuid in ({mine} union {nested})")
    return str(state), dict(runs), [str(name) for (name,) in tasks]  # type: ignore[arg-type]


def test_digests_are_those_of_the_default_and_both_databases_hold_the_run(
    server: Postgres, tracked: tuple[Path, Path, dict[str, Any]], smoke: tuple[Path, dict[str, Any]]
) -> None:
    home, folder, report = tracked
    assert digests(report) == digests(smoke[1])
    state, runs, tasks = recorded_states(server, report["run"])
    assert state == "COMPLETED" and tasks == list(STAGE_NAMES)
    assert runs == dict.fromkeys((report["run"], *STAGE_NAMES), "FINISHED")
    located = server.query("mlflow", "select artifact_location from experiments where name = 'llmill'")
    assert located == [((home / "mlflow" / "artifacts").as_uri(),)]
    assert list(folder.iterdir()) == [], "nothing is written beside the home"
    assert not (home / "prefect" / "prefect.db").exists() and not (home / "mlflow" / "mlflow.db").exists()


def test_the_password_stands_nowhere(server: Postgres, tracked: tuple[Path, Path, dict[str, Any]]) -> None:
    files = [path for path in tracked[0].rglob("*") if path.is_file()]
    assert len(files) > 100 and [path for path in files if PASSWORD.encode() in path.read_bytes()] == []
    for database in ("prefect", "mlflow"):
        assert tracked[2]["run"] in server.dump(database) and PASSWORD not in server.dump(database)


def test_a_database_that_dies_costs_no_work_and_is_reported_by_the_next_run(
    server: Postgres, environment: dict[str, str], tracked: tuple[Path, Path, dict[str, Any]]
) -> None:
    home = tracked[0]
    process = subprocess.Popen(
        [*llmill_command(), "run", "smoke", "--to", "pretrain", "--force", "pretrain"],
        env={**os.environ, **environment, "LLMILL_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: list(home.glob("work/pretrain-*")), "pretraining is under way", process)
    server.kill()
    try:
        said = process.communicate(timeout=600)[0]
    finally:
        server.start()
    assert process.returncode == 0, said
    assert "completed" in said and "Prefect: not everything was recorded" in said and "MLflow: not" in said
    assert "Traceback" not in said and PASSWORD not in said
    broken = said.split()[1]
    command = ("run", "smoke", "--to", "collect", "--force", "collect", "--json")
    report = report_of(llmill(*command, home=home, environment=environment))
    assert recorded_states(server, report["run"])[0] == "COMPLETED"
    state, runs, _ = recorded_states(server, broken)
    assert state == "COMPLETED" and runs[broken] == "FINISHED" and "RUNNING" not in runs.values()
    assert processes_of(home) == []


RUN, UI = ("run", "smoke", "--to", "collect", "--force", "collect"), ("ui",)


@pytest.mark.parametrize(
    ("setting", "scheme", "command"),
    [
        (PREFECT, "postgresql+asyncpg", RUN),
        (MLFLOW, "postgresql", RUN),
        (PREFECT, "postgresql+asyncpg", UI),
        (MLFLOW, "postgresql", UI),
    ],
)
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"password": "wr0ng-Pa55word"}, "password authentication failed"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"port": 9}, "refused|Connect call failed"),
    ],
    ids=["password", "database", "port"],
)
def test_a_wrong_setting_is_reported_and_its_password_is_not(
    server: Postgres,
    smoke_home: Path,
    setting: str,
    scheme: str,
    command: tuple[str, ...],
    wrong: dict[str, Any],
    says: str,
) -> None:
    if (setting, command, says[:7]) == (MLFLOW, RUN, "refused"):
        pytest.skip("a run goes on without MLflow and says so: see `MLflow server that does not answer`")
    url = server.url(**{"database": "mlflow", "scheme": scheme, **wrong})
    before = published(smoke_home)
    result = llmill(*command, home=smoke_home, environment={setting: url}, timeout=600)
    assert result.returncode == 2, result.stderr
    message = result.stderr[result.stderr.index("llmill: ") :]
    assert setting in message and any(piece in message for piece in says.split("|")), message
    assert "Traceback" not in result.stderr and "Pa55word" not in result.stdout + result.stderr
    assert published(smoke_home) == before
    assert not [path for path in (smoke_home / "runs").iterdir() if b"Pa55word" in path.read_bytes()]


def test_a_database_of_a_kind_that_prefect_cannot_use(home: Path) -> None:
    result = llmill("ui", home=home, environment={PREFECT: f"postgresql://ada:{PASSWORD}@127.0.0.1/prefect"})
    assert result.returncode == 2 and "postgresql+asyncpg://USER" in result.stderr and PASSWORD not in result.stderr


def test_the_driver_of_postgresql_is_asked_for_by_its_name(server: Postgres, home: Path, tmp_path: Path) -> None:
    shutil.rmtree(home)
    (tmp_path / "psycopg2.py").write_text("raise ModuleNotFoundError('No module named psycopg2', name='psycopg2')\n")
    environment = {MLFLOW: server.url("mlflow"), "PYTHONPATH": str(tmp_path)}
    result = llmill("run", "smoke", "--to", "collect", home=home, environment=environment)
    assert result.returncode == 2, result.stderr
    assert "the package psycopg2 is missing" in unwrapped(result.stderr) and "llmill[postgres]" in result.stderr
