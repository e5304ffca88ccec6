"""A run in Prefect and MLflow: one real run of the smoke recipe, watched for name look-ups, then read back."""

import json
import os
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from browser import browser_page, chromium_path
from local_stages import STAGE_NAMES
from support import (
    PATIENCE_SECONDS,
    ROOT,
    digests,
    llmill,
    llmill_command,
    outcomes,
    processes_of,
    report_of,
    wait_until,
)

WATCH_LOOKUPS = """
import os, socket
_original = socket.getaddrinfo
def getaddrinfo(host, *arguments, **options):
    with open(os.environ["LOOKUPS"], "a") as log:
        log.write(f"{host}\\n")
    return _original(host, *arguments, **options)
socket.getaddrinfo = getaddrinfo
"""


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """Home, report and name look-ups of a run under Prefect and MLflow."""
    folder = tmp_path_factory.mktemp("tracked")
    (folder / "sitecustomize.py").write_text(WATCH_LOOKUPS)
    environment = {"PYTHONPATH": str(folder), "LOOKUPS": str(folder / "lookups"), "HOME": str(folder)}
    report = report_of(llmill("run", "smoke", "--json", home=folder / "home", environment=environment))
    return folder / "home", report, (folder / "lookups").read_text().split()


def prefect_rows(home: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        return database.execute(query).fetchall()


def test_digests_are_those_of_the_plain_path(
    tracked: tuple[Path, dict[str, Any], list[str]], smoke: tuple[Path, dict[str, Any]]
) -> None:
    assert digests(tracked[1]) == digests(smoke[1])


def test_no_name_but_the_loopback_is_looked_up(tracked: tuple[Path, dict[str, Any], list[str]]) -> None:
    assert set(tracked[2]) <= {"127.0.0.1", "localhost", "::1", "None", ""}, "something calls home"


def test_prefect_shows_nine_tasks_the_plan_first_and_a_table_a_stage(
    tracked: tuple[Path, dict[str, Any], list[str]],
) -> None:
    home, report, _ = tracked
    assert prefect_rows(home, "select name, state_type from flow_run") == [(report["run"], "COMPLETED")]
    tasks = prefect_rows(home, "select name, state_type from task_run order by start_time")
    assert tasks == [(name, "COMPLETED") for name in STAGE_NAMES]
    artifacts = [key for (key,) in prefect_rows(home, "select key from artifact order by created")]
    assert artifacts[0] == "plan" and "mlflow" in artifacts
    assert artifacts[-1] == "report"
    ((summary,),) = prefect_rows(home, "select data from artifact where key = 'report'")
    assert "Text it has never seen" in summary and str(report["report"]) in summary and "report.html" in summary
    assert set(STAGE_NAMES) <= set(artifacts) and any(key.endswith("-progress") for key in artifacts)


def test_mlflow_holds_a_parent_a_nested_run_a_stage_and_the_model(
    tracked: tuple[Path, dict[str, Any], list[str]],
) -> None:
    import mlflow

    home, report, _ = tracked
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("llmill")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs.pop(report["run"])
    assert set(runs) == set(STAGE_NAMES)
    assert {run.info.status for run in [parent, *runs.values()]} == {"FINISHED"}
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in runs.values())
    ((flow_run,),) = prefect_rows(home, "select id from flow_run")
    assert f"/runs/flow-run/{flow_run}" in parent.data.tags["mlflow.note.content"]
    (logged,) = (home / "mlflow" / "artifacts" / parent.info.run_id).rglob("report.html")
    assert logged.read_bytes() == Path(report["report"]).read_bytes()
    assert len(client.get_metric_history(runs["pretrain"].info.run_id, "loss")) > 2, "the loss curve"
    assert runs["filter"].data.params["min_words"]
    read = runs["filter"].inputs
    assert read is not None
    sets = [(tag.value, one.dataset.digest) for one in read.dataset_inputs for tag in one.tags]
    assert {context for context, _ in sets} == {"input", "output"}
    parts = digests(report)
    assert all(any(digest in (whole, whole[: len(digest)]) for whole in parts.values()) for _, digest in sets)
    (version,) = client.search_model_versions("name = 'llmill-smoke'")
    release = next(stage for stage in report["stages"] if stage["stage"] == "release")
    assert version.tags["llmill.release"] == release["artifact"]["parts"]["release"]["digest"]


def test_two_runs_can_be_compared_by_what_their_parents_say(tracked: tuple[Path, dict[str, Any], list[str]]) -> None:
    import mlflow

    home, report, _ = tracked
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    (parent,) = client.search_runs(["1"], f"tags.llmill.run = '{report['run']}'")
    assert 15 <= len(parent.data.params) <= 24
    assert parent.data.params["recipe"] == "smoke" and parent.data.params["pretrain.size"] == "nano"
    assert parent.data.params["collect.sources"] == "synthetic (400 documents)"
    scores = next(stage for stage in report["stages"] if stage["stage"] == "evaluate")["artifact"]["summary"]
    assert parent.data.metrics["tuned_bits_per_byte"] == scores["heldout_bits_per_byte_tuned"]
    assert {"base_bits_per_byte", "answers_bits_per_byte", "parameters", "tokens"} <= parent.data.metrics.keys()
    assert parent.data.metrics["seconds"] == pytest.approx(report["seconds"], abs=60)
    assert parent.inputs is not None
    used = {one.dataset.name: one.dataset.digest for one in parent.inputs.dataset_inputs}
    assert set(used) == {"collect-documents", "filter-documents", "filter-pairs", "tokenize-tokens"}
    (tokens,) = (stage["artifact"]["parts"]["tokens"] for stage in report["stages"] if stage["stage"] == "tokenize")
    assert tokens["digest"].startswith(used["tokenize-tokens"])
    tags = parent.data.tags
    assert tags["mlflow.user"] and tags["mlflow.source.type"] == "LOCAL" and tags["mlflow.source.name"]
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert tags.get("mlflow.source.git.commit", "") == head.stdout.strip()
    (pretrain,) = client.search_runs(["1"], "tags.llmill.stage = 'pretrain'")
    for name in ("bits_per_byte", "tokens", "loss"):
        steps = [metric.step for metric in client.get_metric_history(pretrain.info.run_id, name)]
        assert min(steps) > 0, name


LOAD = """
import mlflow, sys
model = mlflow.pyfunc.load_model("models:/llmill-smoke@champion")
print(*model.predict(sys.argv[1]))
pipeline = mlflow.transformers.load_model("models:/llmill-smoke@champion")
(answered,) = pipeline([{"role": "user", "content": sys.argv[1]}])
print(answered["generated_text"][-1]["content"])
"""


def test_the_champion_is_loaded_from_mlflow_and_nothing_is_written_into_the_store(
    tracked: tuple[Path, dict[str, Any], list[str]],
) -> None:
    home, report, _ = tracked
    promoted = json.loads(llmill("promote", report["run"], "--json", home=home).stdout)
    assert promoted["mlflow"] == {"disagreements": [], "note": "its aliases are set"}
    state = json.loads(llmill("champion", "--json", home=home).stdout)
    assert state["mlflow"] == {"disagreements": [], "note": "its aliases say the same"}
    release = next(stage for stage in report["stages"] if stage["stage"] == "release")
    folder = Path(release["artifact"]["parts"]["release"]["uri"].removeprefix("file://"))
    sample = next(one for one in json.loads((folder / "samples.json").read_bytes()) if one["form"] == "chat")
    before = sorted(folder.rglob("*"))
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"}
    said = subprocess.run(
        [sys.executable, "-c", LOAD, sample["prompt"]], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines() == [sample["answer"]] * 2
    assert sorted(folder.rglob("*")) == before
    (weights,) = (home / "mlflow").rglob("model.safetensors")
    assert weights.samefile(folder / "model.safetensors"), "no copy"


@pytest.mark.slow
def test_a_reused_stage_is_cached_in_prefect_and_opens_no_run_in_mlflow(
    tracked: tuple[Path, dict[str, Any], list[str]],
) -> None:
    import mlflow

    home = tracked[0]
    report = report_of(llmill("run", "smoke", "--json", "--force", "release", home=home))
    assert outcomes(report) == {name: "built" if name == "release" else "reused" for name in STAGE_NAMES}
    states = prefect_rows(home, "select state_name from task_run order by start_time desc limit 9")
    assert [state for (state,) in states] == ["Completed", *["Cached"] * 8]
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("llmill")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.llmill.stage = 'collect'")
    assert len(runs) == 1
    assert len(client.search_model_versions("name = 'llmill-smoke'")) == 1, "an equal release is registered once"


@pytest.mark.slow
def test_a_failed_stage_is_failed_everywhere_and_says_its_message(home: Path) -> None:
    result = llmill("run", "smoke", "--json", "--set", "filter.min_words=100000", home=home)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "min_words" in result.stderr
    assert json.loads(result.stdout)["status"] == "failed"
    assert prefect_rows(home, "select state_type from flow_run") == [("FAILED",)]
    assert prefect_rows(home, "select name from task_run where state_type = 'FAILED'") == [("filter",)]
    assert processes_of(home) == []


ADDRESS = """
import os, sys
from pathlib import Path
from flows.prefect.servers import prefect_environment
prefect_environment(Path(os.environ["LLMILL_HOME"]))
from prefect.settings import PREFECT_API_URL, PREFECT_HOME
print(PREFECT_API_URL.value(), PREFECT_HOME.value())
"""


def test_an_address_that_the_user_has_set_is_kept(home: Path, tmp_path: Path) -> None:
    profile = 'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'
    (tmp_path / ".prefect").mkdir()
    (tmp_path / ".prefect" / "profiles.toml").write_text(profile)
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("PREFECT_HOME", None)
    said = subprocess.run([sys.executable, "-c", ADDRESS], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["http://127.0.0.1:9/api", str(home / "prefect")]
    environment["PREFECT_API_URL"] = "http://127.0.0.1:7/api"
    said = subprocess.run([sys.executable, "-c", ADDRESS], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split()[0] == "http://127.0.0.1:7/api"


@pytest.mark.slow
def test_two_runs_at_once_build_each_stage_once(home: Path) -> None:
    command = [*llmill_command(), "run", "smoke", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    reports = [json.loads(process.communicate(timeout=600)[0]) for process in both]
    built = [name for report in reports for name, outcome in outcomes(report).items() if outcome == "built"]
    assert sorted(built) == sorted(STAGE_NAMES)
    assert processes_of(home) == []


@pytest.mark.slow
def test_what_a_dead_run_left_open_is_closed_by_the_next(home: Path) -> None:
    import mlflow

    process = subprocess.Popen([*llmill_command(), "run", "smoke"], stdout=subprocess.DEVNULL)
    wait_until(lambda: list(home.glob("work/pretrain-*")), "pretraining is under way", process)
    process.kill()
    process.wait()
    report_of(llmill("run", "smoke", "--json", home=home))
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("llmill")
    assert experiment is not None
    statuses = [run.info.status for run in client.search_runs([experiment.experiment_id])]
    assert "RUNNING" not in statuses and "KILLED" in statuses
    states = [state for (state,) in prefect_rows(home, "select state_type from flow_run order by start_time")]
    assert states == ["CRASHED", "COMPLETED"]


@pytest.mark.slow
def test_the_uis_are_served_and_nothing_is_left_behind(tracked: tuple[Path, dict[str, Any], list[str]]) -> None:
    from flows.prefect.servers import free_port

    home = tracked[0]
    for how in ("interrupt", "kill"):
        ports = free_port(), free_port()
        process = subprocess.Popen(
            [*llmill_command(), "ui", "--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1])],
            env={**os.environ, "LLMILL_HOME": str(home)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        said = process.stdout.readline() + process.stdout.readline()
        assert str(ports[0]) in said and str(ports[1]) in said
        for port in ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                assert answer.status == 200
        if how == "interrupt" and chromium_path():
            with browser_page() as page:
                page.visit(said.splitlines()[1].split()[1], width=1300)
                page.wait_until("document.body.innerText.includes('Run Name')")
                assert "/runs?workflowType=machine_learning" in page.evaluate("location.href"), (
                    "not an overview of traces"
                )
        process.terminate() if how == "interrupt" else process.kill()
        process.wait(PATIENCE_SECONDS)
        wait_until(lambda: processes_of(home) == [], "MLflow's own children look for their parent every few seconds")
