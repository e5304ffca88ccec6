"""Runs of the deployment: the form, what it refuses, cancelling, dying workers, and going on with what is left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import write_benchmarks
from browser import browser_page, chromium_path
from local_stages import STAGE_NAMES
from operator_home import Operator
from support import ROOT, digests, llmill, outcomes, report_of, wait_until

from flows.prefect.deployments import SHIPPED
from flows.prefect.servers import SILENCE_SECONDS


def test_the_full_form_has_a_widget_for_every_field() -> None:
    """Titles, descriptions and kinds that Prefect's form knows: nothing is left to its editor of raw JSON."""
    from prefect.utilities.callables import parameter_schema

    from flows.prefect.deployed import build_full

    schema = parameter_schema(build_full).model_dump()
    definitions, leaves = schema["definitions"], []

    def walk(field: dict[str, Any], where: str) -> None:
        if "$ref" in field:
            return walk(definitions[field["$ref"].rpartition("/")[2]], where)
        choices = field.get("anyOf") or field.get("allOf") or []
        if choices:
            for choice in choices:
                walk(choice, where)
        elif field.get("properties"):
            for name, inner in field["properties"].items():
                named = {**inner, **(definitions[inner["$ref"].rpartition("/")[2]] if "$ref" in inner else {})}
                assert inner.get("description") or named.get("description"), f"{where}.{name} has no description"
                walk(inner, f"{where}.{name}")
        elif field.get("type") == "array":
            assert "prefixItems" not in field, where
            walk(field["items"], f"{where}[]")
        else:
            kind = field.get("type") or ("string" if {"const", "enum"} & field.keys() else None)
            assert kind in ("string", "integer", "number", "boolean", "null"), f"{where}: {field}"
            leaves.append(where)

    walk({"properties": schema["properties"]}, "")
    assert len(set(leaves)) > 100
    assert {leaf.split(".")[2] for leaf in leaves if leaf.startswith(".recipe.")} > {"collect", "filter", "execution"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, which the worker runs: a helper can be edited."""
    folder = tmp_path_factory.mktemp("project")
    for package in ("flows", "tasks", "model", "storage", "deployments"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_benchmarks(tmp_path_factory.mktemp("benchmark") / "tasks")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Iterator[Operator]:
    folder, elsewhere = tmp_path_factory.mktemp("operator"), tmp_path_factory.mktemp("system")
    with Operator(folder / "home", environment={"PYTHONPATH": str(project), "TMPDIR": str(elsewhere)}) as operator:
        yield operator
    wait_until(lambda: not operator.processes(""), "Ctrl-C leaves nothing behind")
    assert list(elsewhere.iterdir()) == [], "servers, workers and runs write into the home only"


@pytest.mark.slow
def test_a_run_from_the_form_is_the_run_of_the_command_line(
    operator: Operator, smoke: tuple[Path, dict[str, Any]]
) -> None:
    flow_run = operator.submit()
    assert operator.completed(flow_run)
    run = operator.runs()[-1]
    assert digests(run) == digests(smoke[1])
    assert operator.api(f"flow_runs/{flow_run}")["name"] == run["run"]
    assert run["run"].startswith("smoke-nano-")
    assert operator.task_runs(flow_run) == [(name, "Completed") for name in STAGE_NAMES]
    body = {"artifacts": {"flow_run_id": {"any_": [flow_run]}}}
    artifacts = sorted(operator.api("artifacts/filter", body), key=lambda row: row["created"])
    keys = [row["key"] for row in artifacts]
    assert keys[0] == "plan" and keys[-1] == "report" and {"mlflow", *STAGE_NAMES} <= set(keys)
    assert str(operator.ports[1]) in next(row["data"] for row in artifacts if row["key"] == "mlflow")

    again = operator.submit()
    assert operator.completed(again)
    assert operator.task_runs(again) == [(name, "Cached") for name in STAGE_NAMES]
    assert operator.runs()[-1]["status"] == "reused"


@pytest.mark.slow
def test_the_weekly_retraining_keeps_a_champion_where_nothing_is_new_one_at_a_time(operator: Operator) -> None:
    name = "retrain/retrain-weekly"
    deployment = operator.api(f"deployments/{operator.deployments[name]}")
    (schedule,) = deployment["schedules"]
    assert schedule["active"] and schedule["schedule"] == {"cron": "0 3 * * 1", "timezone": "UTC", "day_or": True}
    both = [operator.submit(deployment=name) for _ in range(2)]
    assert [operator.ended(one)["name"] for one in both] == ["Completed", "Completed"]
    earlier, later = sorted((operator.api(f"flow_runs/{one}") for one in both), key=lambda run: str(run["start_time"]))
    assert earlier["end_time"] <= later["start_time"], "one at a time; the other waits"
    assert [run["verdict"]["decision"] for run in operator.runs()[-2:]] == ["first", "kept"]
    assert {state for _, state in operator.task_runs(later["id"])} == {"Cached"}
    champion = json.loads(operator.llmill("champion", "--json").stdout)
    assert champion["mlflow"]["disagreements"] == []


@pytest.mark.slow
def test_a_schedule_starts_its_run_by_itself_until_it_is_set_again(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "often.yaml"
    file.write_text(SHIPPED.read_text().replace("0 3 * * 1", '"* * * * *"'))
    deployment = operator.deployments["retrain/retrain-weekly"]

    def scheduled(*states: str) -> list[dict[str, Any]]:
        names = {"name": {"any_": list(states)}}
        body = {"flow_runs": {"deployment_id": {"any_": [deployment]}, "state": names}}
        return [row for row in operator.api("flow_runs/filter", body) if row["auto_scheduled"]]

    assert operator.llmill("deploy", "smoke", "--file", str(file)).returncode == 0
    wait_until(lambda: scheduled("Completed"), "the clock starts a run, and it ends")
    assert operator.llmill("deploy", "smoke").returncode == 0
    (run, *_) = scheduled("Completed")
    assert set(operator.task_runs(run["id"])) and operator.runs()[-1]["verdict"]["decision"] == "kept"
    wait_until(lambda: not scheduled("Running", "Pending"), "none is under way")
    wait_until(lambda: scheduled("Scheduled"), "the next Monday")
    assert {row["expected_start_time"][11:16] for row in scheduled("Scheduled")} == {"03:00"}


@pytest.mark.slow
def test_a_wrong_value_is_refused_at_submit_and_a_wrong_whole_before_the_first_stage(operator: Operator) -> None:
    full = "build/build-full"
    form = operator.form(full)
    form["recipe"]["filter"]["min_words"] = -3
    refused = operator.api(f"deployments/{operator.deployments[full]}/create_flow_run", {"parameters": form})
    assert refused["status"] == 409 and "recipe.filter.min_words" in refused["detail"]
    short = {"parameters": operator.form() | {"vocabulary_size": 5}}
    refused = operator.api(f"deployments/{operator.deployments['build/build']}/create_flow_run", short)
    assert refused["status"] == 409 and "vocabulary_size" in refused["detail"] and "260" in refused["detail"]
    state = operator.ended(operator.submit(operator.form() | {"settings": "evaluate.stride=4000"}))
    refused = llmill("run", "smoke", "--set", "evaluate.stride=4000", home=operator.home)
    assert refused.returncode == 2 and state["name"] == "Failed"
    message = state["message"].partition("evaluate.stride=4000")[2]
    assert "more than the model's context" in message and message in refused.stderr
    form = operator.form(full)
    form["recipe"]["filter"]["min_wrds"] = 3  # a deployment of an older version, whose recipe had this field
    operator.api(f"deployments/{operator.deployments[full]}", {"enforce_parameter_schema": False}, "PATCH")
    message = operator.ended(operator.submit(form, full))["message"]
    assert "filter.min_wrds: unknown key" in message and "llmill deploy" in message
    assert operator.llmill("deploy", "smoke").returncode == 0, "which renews it"


@pytest.mark.slow
def test_cancelled_then_killed_then_restarted_it_ends_with_the_weights_of_an_undisturbed_run(
    operator: Operator, smoke: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    form = operator.form() | {"to": "pretrain", "settings": "pretrain.steps=800\nexecution.checkpoint_interval=20"}
    before = operator.built()
    flow_run = operator.submit(form)
    wait_until(operator.training, "a checkpoint")
    operator.set_state(flow_run, {"type": "CANCELLING"})
    wait_until(lambda: not operator.processes("prefect.engine", "model.trainer"), "all gone")
    assert operator.ended(flow_run)["name"] == "Cancelled"
    assert operator.runs()[-1]["status"] == "interrupted" and operator.training()

    handed = operator.llmill("retry", operator.runs()[-1]["run"])
    assert handed.returncode == 0 and "Prefect has" in handed.stdout, handed.stderr
    wait_until(lambda: operator.processes("model.trainer"), "training again")
    for worker in operator.processes("worker start"):
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not operator.processes("prefect.engine", "model.trainer"), "all gone")
    crashed = operator.ended(flow_run)
    assert crashed["name"] == "Crashed" and "gone" in crashed["message"]

    operator.retry(flow_run)
    wait_until(lambda: operator.processes("model.trainer"), "training with a new worker")
    elsewhere, over = operator.run_elsewhere(), operator.run_elsewhere()
    for running in (elsewhere, over):
        operator.heartbeat(running)
    operator.stop()
    wait_until(lambda: not operator.processes(""), "Ctrl-C leaves nothing behind")
    assert {flow_run, elsewhere, over} <= operator.watched()
    operator.stay_away()
    operator.record_end(over)
    operator.start()
    assert over not in operator.watched()
    operator.heartbeat(elsewhere)
    assert operator.state(flow_run)["name"] == "Crashed"
    heard = time.monotonic() + SILENCE_SECONDS / 2
    wait_until(lambda: flow_run not in operator.watched(), "its end is heard: no silence of before ends its next try")
    assert time.monotonic() < heard, "it was not heard: its silence was over"
    assert operator.state(elsewhere)["name"] == "Running", "nobody could hear it while the server was away"
    operator.set_state(elsewhere, {"type": "CANCELLED"})
    operator.retry(flow_run)
    assert operator.completed(flow_run)
    assert operator.built()["pretrain"] == before.get("pretrain", 0) + 1
    assert [run["status"] for run in operator.runs()[-4:]] == ["interrupted", "crashed", "crashed", "completed"]

    home = tmp_path / "undisturbed"
    shutil.copytree(smoke[0], home, symlinks=True)
    settings = ("--set", "pretrain.steps=800", "--set", "pretrain.tokens=null", "--to", "pretrain")
    undisturbed = report_of(llmill("run", "smoke", "--plain", "--json", *settings, home=home))
    assert digests(operator.runs()[-1])["pretrain/model"] == digests(undisturbed)["pretrain/model"]


@pytest.mark.slow
def test_retry_builds_what_failed_and_what_follows(operator: Operator, benchmark: Path) -> None:
    tasks = [{"name": "colours", "path": str(benchmark)}]
    settings = f"pretrain.steps=60\nevaluate.tasks={json.dumps(tasks)}"
    flow_run = operator.submit(operator.form() | {"settings": settings})
    wait_until(lambda: operator.processes("work/finetune"), "fine-tuning")  # what is missing before is found before it
    away = benchmark.with_name("away")
    benchmark.rename(away)
    state = operator.ended(flow_run)
    assert state["name"] == "Failed" and str(benchmark) in state["message"]
    before = operator.built()
    again = operator.llmill("retry", operator.runs()[-1]["run"], "--json")
    assert json.loads(again.stdout)["workers"] == 1
    wait_until(lambda: operator.api(f"flow_runs/{flow_run}")["run_count"] == 2, "a second attempt")
    assert operator.ended(flow_run)["name"] == "Failed" and operator.built() == before

    away.rename(benchmark)
    address = {"PREFECT_API_URL": f"http://127.0.0.1:{operator.ports[0]}/api"}
    command = [sys.executable, "-m", "prefect", "flow-run", "retry", flow_run]
    subprocess.run(command, env=os.environ | address, check=True, capture_output=True)
    wait_until(lambda: operator.api(f"flow_runs/{flow_run}")["run_count"] == 3, "a third attempt")
    assert operator.completed(flow_run)
    assert operator.built() == before | {name: before.get(name, 0) + 1 for name in ("evaluate", "release")}
    built = [name for name, outcome in outcomes(operator.runs()[-1]).items() if outcome == "built"]
    assert built == ["evaluate", "release"]


def first_line_of_measured(source: str, line: str) -> str:
    """The source of the model card with one more line in the helper that words its figures."""
    docstring = '    """A figure of a table'
    assert source.count(docstring) == 1
    return source.replace(docstring, f"    {line}\n{docstring}")


@pytest.mark.slow
def test_after_a_helper_is_repaired_retry_builds_what_failed(operator: Operator, project: Path) -> None:
    helper = project / "tasks" / "release" / "card.py"
    source = helper.read_text()
    helper.write_text(first_line_of_measured(source, 'raise ValueError("a bug")'))
    flow_run = operator.submit(operator.form() | {"settings": "finetune.steps=8"})
    state = operator.ended(flow_run)
    assert state["name"] == "Failed" and "a bug" in state["message"]
    before = operator.built()
    helper.write_text(source)
    operator.retry(flow_run)
    wait_until(lambda: operator.state(flow_run)["name"] != "AwaitingRetry", "another attempt")
    assert operator.completed(flow_run)
    assert operator.built() == before | {"release": before.get("release", 0) + 1}


@pytest.mark.slow
@pytest.mark.skipif(chromium_path() is None, reason="no chromium in PATH")
def test_a_run_is_submitted_seen_to_fail_and_retried_in_a_browser(operator: Operator, project: Path) -> None:
    pages = f"http://127.0.0.1:{operator.ports[0]}"
    build = operator.deployments["build/build"]
    everything = {"sort": "START_TIME_DESC", "flow_runs": {"deployment_id": {"any_": [build]}}}
    known = {row["id"] for row in operator.api("flow_runs/filter", everything)}

    def made() -> list[str]:
        return [row["id"] for row in operator.api("flow_runs/filter", everything) if row["id"] not in known]

    helper = project / "tasks" / "release" / "card.py"
    source = helper.read_text()
    try:
        with browser_page() as page:
            helper.write_text(first_line_of_measured(source, 'raise ValueError("a slip")'))
            page.visit(f"{pages}/deployments/deployment/{build}/run", width=1300)
            page.wait_until("document.body.innerText.includes('Vocabulary size')")
            page.press("Submit")
            wait_until(made, "the form has made a run")
            (flow_run,) = made()
            assert operator.ended(flow_run)["name"] == "Failed"
            before = operator.built()
            page.visit(f"{pages}/runs/flow-run/{flow_run}", width=1300)
            page.wait_until("document.body.innerText.includes('a slip')")
            helper.write_text(first_line_of_measured(source, "pass"))
            page.press("Retry")
            page.wait_until("document.querySelector('[role=dialog], .p-modal') !== null")
            page.press("Retry")
            wait_until(lambda: operator.api(f"flow_runs/{flow_run}")["run_count"] == 2, "another attempt")
            assert operator.completed(flow_run)
            assert operator.built() == before | {"release": before.get("release", 0) + 1}
    finally:
        helper.write_text(source)
