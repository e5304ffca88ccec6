"""Prefect and MLflow on PostgreSQL by settings alone: same digests, a database that dies, settings that are wrong."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_input import published
from postgres import PASSWORD, Postgres, postgres
from support import digests, llmill, llmill_command, outcomes, processes_of, report_of

from flows.plan import STAGE_NAMES

pytestmark = pytest.mark.slow

PREFECT, MLFLOW = "PREFECT_API_DATABASE_CONNECTION_URL", "MLFLOW_TRACKING_URI"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        for database in ("prefect", "mlflow"):
            running.create(database)
        yield running


def test_a_database_that_dies_loses_nothing_and_digests_are_those_of_sqlite(
    server: Postgres, home: Path, tmp_path: Path, smoke: tuple[Path, dict[str, Any]]
) -> None:
    environment = {PREFECT: server.url("prefect", "postgresql+asyncpg"), MLFLOW: server.url("mlflow")}
    folder = tmp_path / "folder"
    folder.mkdir()
    process = subprocess.Popen(
        [*llmill_command(), "run", "smoke"],
        cwd=folder,
        env={**os.environ, **environment, "LLMILL_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not list(home.glob("work/pretrain-*")) and process.poll() is None:
        time.sleep(0.05)
    server.kill()
    said = process.communicate(timeout=360)[0]
    assert process.returncode == 2, said
    assert "Traceback" not in said and "does not work any more" in said and "run the same command again" in said
    kept = published(home)
    server.start()
    again = ("run", "smoke", "--json", "--force", "release")  # stages go on without the database, perhaps all of them
    report = report_of(llmill(*again, home=home, cwd=folder, environment=environment))
    assert digests(report) == digests(smoke[1])
    assert set(outcomes(report).values()) == {"built", "reused"} and published(home).items() >= kept.items()

    flow_runs = server.query("prefect", "select state_type, name from flow_run order by created")
    assert flow_runs[0][0] == "CRASHED" and flow_runs[1:] == [("COMPLETED", report["run"])]
    statement = (
        f"select t.name from task_run t join flow_run f on f.id = t.flow_run_id where f.name = '{report['run']}'"
    )
    assert [name for (name,) in server.query("prefect", f"{statement} order by t.start_time")] == list(STAGE_NAMES)
    recorded = dict(server.query("mlflow", "select name, status from runs"))  # type: ignore[arg-type]
    assert recorded.keys() >= {report["run"], "collect", "release"} and "RUNNING" not in recorded.values()
    assert "not everything was recorded" in said
    assert server.query("mlflow", "select artifact_location from experiments where name = 'llmill'") == [
        ((home / "mlflow" / "artifacts").as_uri(),)
    ]

    assert list(folder.iterdir()) == [], "nothing is written beside the home"
    assert not (home / "prefect" / "prefect.db").exists() and not (home / "mlflow" / "mlflow.db").exists()
    assert processes_of(home) == []
    assert PASSWORD not in said
    holding = [path for path in home.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert holding == []
    for database in ("prefect", "mlflow"):
        assert PASSWORD not in server.dump(database)


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
def test_a_wrong_setting_is_told_and_its_password_is_not(
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
    result = llmill(*command, home=smoke_home, environment={setting: url}, timeout=60)
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
    (tmp_path / "psycopg.py").write_text("raise ModuleNotFoundError('No module named psycopg', name='psycopg')\n")
    environment = {MLFLOW: server.url("mlflow"), "PYTHONPATH": str(tmp_path)}
    result = llmill("run", "smoke", "--to", "collect", home=home, environment=environment)
    assert result.returncode == 2, result.stderr
    assert "the package psycopg is missing" in result.stderr and "llmill[postgres]" in result.stderr
