"""An operator's day on a server that others use too: the UIs in a browser, schedules, pools, verdicts, a password."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browser_page, chromium_path
from operator_home import Operator
from support import ROOT, llmill, llmill_command, wait_until

from flows.prefect.deployments import SHIPPED
from flows.prefect.servers import SILENCE_SECONDS, free_port

pytestmark = pytest.mark.slow
needs_browser = pytest.mark.skipif(chromium_path() is None, reason="no chromium in PATH")

FOREIGN = """
import sys, time
from prefect import flow
@flow(name="other-team-etl")
def etl():
    print("under way", flush=True)
    time.sleep(3600)
etl()
"""


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with Operator(tmp_path_factory.mktemp("operator") / "home") as operator:
        yield operator


@pytest.fixture(scope="module")
def foreign(operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[float, str]]:
    """Since when a flow of another team runs on this server, and its flow run; it beats as Prefect does, each 180 s."""
    address = {"PREFECT_API_URL": f"http://127.0.0.1:{operator.ports[0]}/api"}
    environment = os.environ | address | {"PREFECT_HOME": str(tmp_path_factory.mktemp("others"))}
    environment.pop("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", None)
    process = subprocess.Popen([sys.executable, "-c", FOREIGN], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and "under way" in process.stdout.readline()
        (row,) = operator.api("flow_runs/filter", {"flows": {"name": {"any_": ["other-team-etl"]}}})
        yield time.monotonic(), row["id"]
    finally:
        process.kill()
        process.wait()


def visit(page: Page, address: str, until: str, *, height: int = 900) -> None:
    page.visit(address, width=1300, height=height)
    page.wait_until(f"document.body.innerText.includes({json.dumps(until)})")


def asked_outside(page: Page) -> set[str]:
    """What the UI has asked for since the tab was opened, beyond the loopback."""
    page.evaluate("1")  # what was asked for meanwhile has been heard of
    asked = {e["params"]["request"]["url"] for e in page.events if e["method"] == "Network.requestWillBeSent"}
    return {url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))}


def stages_before(operator: Operator, flow_run: str) -> dict[str, set[str]]:
    """The stages that each stage of a flow run reads, as the graph on its page shows them."""
    graph = operator.api(f"flow_runs/{flow_run}/graph-v2")["nodes"]
    names = {identity: node["label"] for identity, node in graph}
    return {node["label"]: {names[parent["id"]] for parent in node["parents"]} for _, node in graph}


def assets_made(operator: Operator) -> list[tuple[str, set[str]]]:
    """Each asset made so far, with the assets that it was made from."""
    made = {"filter": {"event": {"name": ["prefect.asset.materialization.succeeded"]}}}
    return [
        (
            event["resource"]["prefect.resource.id"],
            {one["prefect.resource.id"] for one in event["related"] if one["prefect.resource.role"] == "asset"},
        )
        for event in operator.api("events/filter", made)["events"]
    ]


@needs_browser
def test_the_form_fits_two_screens_refuses_beside_the_field_and_keeps_the_typed_name(
    operator: Operator, foreign: tuple[float, str]
) -> None:
    pages, build = f"http://127.0.0.1:{operator.ports[0]}", operator.deployments["build/build"]
    with browser_page() as page:
        visit(page, f"{pages}/deployments/deployment/{build}/run", "Vocabulary size")
        heights = "[...document.querySelectorAll('*')].map(one => one.scrollHeight)"
        assert page.evaluate(f"Math.max(...{heights})") <= 2 * 900
        assert "None" not in page.evaluate("document.body.innerText")
        page.evaluate("[...document.querySelectorAll('textarea')].at(-1).focus()")
        page.call("Input.insertText", text="filter.min_wrds=3")
        time.sleep(1)  # the page takes over what was typed after a moment
        page.press("Submit")
        page.wait_until("document.body.innerText.includes('did you mean')")
        refused_plan = llmill("plan", "smoke", "--set", "filter.min_wrds=3", home=operator.home)
        shown = page.evaluate("document.body.innerText")
        assert refused_plan.stderr.removeprefix("llmill: ").strip() in shown
        assert operator.api("flow_runs/count", {"deployments": {"id": {"any_": [build]}}}) == 0

        page.evaluate("[...document.querySelectorAll('textarea')].at(-1).select()")
        page.call("Input.insertText", text="finetune.steps=10")
        page.evaluate("document.querySelector('input').select()")
        page.call("Input.insertText", text="a first try")
        time.sleep(1)
        page.press("Submit")
        made = {"flow_runs": {"name": {"any_": ["a first try"]}}}
        wait_until(lambda: operator.api("flow_runs/filter", made), "the form has made a run")
        (row,) = operator.api("flow_runs/filter", made)
        assert operator.ended(row["id"])["name"] == "Completed"
        row = operator.api(f"flow_runs/{row['id']}")
        run = operator.runs()[-1]
        assert row["name"] == "a first try" and run["run"] in row["tags"]
        assert run["recipe"]["finetune"]["steps"] == 10

        edges = stages_before(operator, row["id"])
        assert edges["collect"] == set() and edges["pretrain"] == {"tokenize"}
        assert {"finetune", "evaluate", "tokenizer", "filter"} == edges["release"]
        body = {"artifacts": {"flow_run_id": {"any_": [row["id"]]}, "type": {"any_": ["progress"]}}}
        bars = operator.api("artifacts/filter", body)
        assert {bar["key"] for bar in bars} >= {"release-progress"} and {bar["data"] for bar in bars} == {100.0}
        wait_until(lambda: len(assets_made(operator)) == 9, "an asset for each stage")
        lineage = dict(assets_made(operator))
        assert lineage["llmill://smoke/tokenize"] == {"llmill://smoke/filter", "llmill://smoke/tokenizer"}
        asked = {"logs": {"flow_run_id": {"any_": [row["id"]]}}, "limit": 200, "sort": "TIMESTAMP_DESC"}
        logs = operator.api("logs/filter", asked)  # the last ones: a busy machine logs more progress
        assert sum("steps  loss" in line["message"] for line in logs) >= 2, "of pretrain and finetune, however short"

        visit(page, f"{pages}/runs/flow-run/{row['id']}", "Beginning flow run")
        visit(page, f"{pages}/dashboard", "Flow Runs")
        visit(page, f"{pages}/", "Flow Runs")
        assert "Dashboard" in page.evaluate("document.body.innerText") and "/v2" not in page.evaluate("location.href")
        visit(page, f"{pages}/deployments", "retrain-weekly")
        visit(page, run["mlflow"]["url"], run["run"])
        assert asked_outside(page) == set()


def test_a_changed_schedule_leaves_no_other_and_pools_are_of_the_right_type(operator: Operator, tmp_path: Path) -> None:
    file, name = tmp_path / "mine.yaml", "retrain/retrain-weekly"
    shipped = SHIPPED.read_text()

    def deployed(text: str) -> "subprocess.CompletedProcess[str]":
        file.write_text(text)
        return operator.llmill("deploy", "smoke", "--file", str(file))

    def schedules() -> list[tuple[str, str]]:
        found = operator.api(f"deployments/{operator.deployments[name]}")["schedules"]
        return [(one["slug"], one["schedule"]["cron"]) for one in found]

    def upcoming() -> set[str]:
        body = {"flow_runs": {"deployment_id": {"any_": [operator.deployments[name]]}}}
        rows = operator.api("flow_runs/filter", body | {"sort": "EXPECTED_START_TIME_ASC"})
        return {row["expected_start_time"][11:16] for row in rows if row["state"]["name"] == "Scheduled"}

    wait_until(lambda: upcoming() == {"03:00"}, "the next Mondays")
    changed = deployed(shipped.replace("cron: 0 3 * * 1", 'cron: "15 4 * * *"').replace("slug: weekly", "slug: daily"))
    assert changed.returncode == 0 and "removed: the schedule 0 3 * * 1 UTC (weekly)" in changed.stdout, changed
    assert schedules() == [("daily", "15 4 * * *")]
    wait_until(lambda: upcoming() == {"04:15"}, "only the new one fires")
    again = operator.llmill("deploy", "smoke")
    assert again.returncode == 0 and "removed: the schedule 15 4 * * * UTC (daily)" in again.stdout
    assert schedules() == [("weekly", "0 3 * * 1")]

    assert operator.api("work_pools/llmill")["concurrency_limit"] == 1
    refused = deployed(shipped.replace("type: process", "type: kubernetes"))
    assert refused.returncode == 2 and "of the type process, not kubernetes" in refused.stderr
    other = shipped.replace("name: llmill\n      type", "name: elsewhere\n      type")
    assert (
        deployed(
            other.replace("type: process", "type: kubernetes").replace("limit: 1\n      job", "limit: 3\n      job")
        ).returncode
        == 0
    )
    pool = operator.api("work_pools/elsewhere")
    assert (pool["type"], pool["concurrency_limit"]) == ("kubernetes", 3)
    template = json.loads((ROOT / "deployments" / "kubernetes" / "base-job-template.json").read_bytes())
    assert pool["base_job_template"] == template
    untold = deployed(other.replace("name: elsewhere", "name: nowhere").replace("      type: process\n", ""))
    assert untold.returncode == 2 and "work_pool.type" in untold.stderr and "kubernetes" in untold.stderr
    assert operator.llmill("deploy", "smoke").returncode == 0


def test_a_retraining_waits_for_a_yes_shows_its_verdict_and_does_not_run_where_nothing_is_new(
    operator: Operator,
) -> None:
    new = "retrain/retrain-on-new-data"
    assert not operator.api(f"deployments/{operator.deployments[new]}")["schedules"][0]["active"]
    asked = operator.submit({"approve": True}, "retrain/retrain-weekly")
    wait_until(lambda: operator.state(asked)["name"] in ("Paused", "Failed", "Crashed"), "it asks")
    assert operator.state(asked)["name"] == "Paused"
    assert "no champion yet" in operator.llmill("champion").stdout
    operator.api(f"flow_runs/{asked}/resume", {"run_input": {"promote": False, "reason": "not today"}})
    state = operator.ended(asked)
    assert state["name"] == "Completed" and "not today" in state["message"]
    assert operator.runs()[-1]["verdict"]["decision"] == "declined"
    assert "no champion yet" in operator.llmill("champion").stdout

    asked = operator.submit({"approve": True}, "retrain/retrain-weekly")
    wait_until(lambda: operator.state(asked)["name"] == "Paused", "it asks again")
    operator.api(f"flow_runs/{asked}/resume", {"run_input": {"promote": True}})
    state = operator.ended(asked)
    assert state["message"].startswith("promoted: the first champion; ")
    runs = [run["run"] for run in operator.runs()]

    def events() -> list[dict[str, Any]]:
        return list(operator.api("events/filter", {"filter": {"event": {"prefix": ["llmill.retraining"]}}})["events"])

    wait_until(lambda: len(events()) == 2, "both events have been emitted")
    assert {event["event"] for event in events()} == {"llmill.retraining.declined", "llmill.retraining.first"}
    assert {event["resource"]["prefect.resource.id"] for event in events()} == {
        f"llmill.run.{run}" for run in runs[-2:]
    }

    state = operator.ended(operator.submit({}, new))
    assert state["name"] == "Completed" and state["message"].startswith("nothing new")
    assert [run["run"] for run in operator.runs()] == runs, "no run"
    state = operator.ended(operator.submit({"settings": "collect.synthetic.documents=440"}, new))
    assert "nothing new" not in state["message"] and len(operator.runs()) == len(runs) + 1


def test_examples_of_notifications_are_automations(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "notifications.yaml"
    text = (ROOT / "deployments" / "notifications.yaml").read_text()
    file.write_text(text.replace("BLOCK", "6f8a5a52-93a4-4a52-8d8c-ffbe0a5a9f0e"))
    address = {"PREFECT_API_URL": f"http://127.0.0.1:{operator.ports[0]}/api"}
    command = [sys.executable, "-m", "prefect", "automation", "create", "--from-file", str(file)]
    made = subprocess.run(command, env=os.environ | address, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    known = {row["name"]: row for row in operator.api("automations/filter", {})}
    assert {name for name in known if name.startswith("llmill: a ")} == {
        "llmill: a retraining has promoted a model",
        "llmill: a retraining has kept the champion",
        "llmill: a run has failed",
    }


def test_runs_of_a_shell_beat_and_runs_of_others_are_left_alone(operator: Operator, foreign: tuple[float, str]) -> None:
    assert llmill("run", "smoke", "--to", "deduplicate", "--force", "deduplicate", home=operator.home).returncode == 0
    identity = operator.runs()[-1]["prefect"]["flow_run"]
    assert operator.api(f"flow_runs/{identity}")["tags"] == ["llmill"]

    def heartbeats() -> list[dict[str, Any]]:
        body = {
            "event": {"name": ["prefect.flow-run.heartbeat"]},
            "any_resource": {"id": [f"prefect.flow-run.{identity}"]},
        }
        return list(operator.api("events/filter", {"filter": body})["events"])

    wait_until(heartbeats, "a heartbeat")
    related = heartbeats()[0]["related"]
    assert any(one["prefect.resource.id"] == "prefect.tag.llmill" for one in related)
    since, other = foreign
    wait_until(lambda: time.monotonic() > since + SILENCE_SECONDS + 20, "longer than a run of ours may be silent")
    assert operator.state(other)["name"] == "Running"


def test_uis_for_others_are_behind_a_password(home: Path) -> None:
    refused = llmill("ui", "--host", "0.0.0.0", home=home)
    assert refused.returncode == 2 and "LLMILL_UI_PASSWORD" in refused.stderr
    ports = free_port(), free_port()
    secret = {"LLMILL_UI_PASSWORD": "open sesame", "LLMILL_HOME": str(home)}
    process = subprocess.Popen(
        [*llmill_command(), "ui", "--host", "0.0.0.0", "--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1])],
        env=os.environ | secret, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def status(port: int, path: str, password: str | None) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        if password:
            import base64

            token = base64.b64encode(f"llmill:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    try:
        assert process.stdout is not None
        while "Ctrl-C" not in (line := process.stdout.readline()):
            assert line, "the UIs did not start"
        for port, path in (
            (ports[0], "/api/admin/version"),
            (ports[1], "/"),
            (ports[1], "/api/2.0/mlflow/experiments/get?experiment_id=0"),
        ):
            assert [status(port, path, password) for password in (None, "open barley", "open sesame")] == [
                401,
                401,
                200,
            ]
        deployed = llmill("deploy", "smoke", home=home, environment=secret)
        assert deployed.returncode == 0, deployed.stderr
        denied = llmill(
            "deploy", "smoke", home=home, environment={"PREFECT_API_URL": f"http://127.0.0.1:{ports[0]}/api"}
        )
        assert denied.returncode == 2 and "401" in denied.stderr, denied.stderr
    finally:
        process.terminate()
        process.wait(60)
