"""Failed runs of the deployment, retried: from the command line, with Prefect's own, and in a browser."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark_files import write_benchmarks
from browser import browser_page, chromium_path
from operator_home import Operator
from support import outcomes, wait_until


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_benchmarks(tmp_path_factory.mktemp("benchmark") / "tasks")


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
