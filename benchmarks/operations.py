"""How long an operator waits: `python -m benchmarks.operations`. Needs nothing but this checkout; about six minutes.

The smoke recipe through `llmill ui`, its worker and the deployments on a new home: from Submit to the first stage, a
run in which all is reused, a retraining with nothing new, from Cancel and from kill -9 to the end of all processes, and
to Crashed. Times as Prefect's UI shows them, wall seconds.
"""

import os
import signal
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "flows")]

from operator_home import Operator  # noqa: E402
from support import wait_until  # noqa: E402

ROUNDS = 3


def main() -> None:
    """Measure and print a table."""
    for variable in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        os.environ.pop(variable, None)
    with tempfile.TemporaryDirectory() as folder, Operator(Path(folder) / "home") as operator:
        first = operator.submit()
        operator.ended(first)
        row("Submit to first stage, new home", [first_stage(operator, first)])
        reused: list[str] = []
        for _ in range(ROUNDS):
            reused.append(operator.submit())
            operator.ended(reused[-1])
        row("Submit to first stage", [first_stage(operator, one) for one in reused])
        row("Submit to Completed, all nine reused", [whole(operator, one) for one in reused])

        first = operator.submit(deployment="retrain/retrain-weekly")
        operator.ended(first)
        again = operator.submit(deployment="retrain/retrain-weekly")
        operator.ended(again)
        row("Submit to Completed, retraining with nothing new", [whole(operator, again)])

        form = operator.form() | {"to": "pretrain"}
        form["recipe"]["pretrain"] |= {"steps": 5000, "tokens": None}
        gone, cancelled = [], []
        for _ in range(ROUNDS):
            flow_run = training(operator, form)
            started = time.monotonic()
            operator.set_state(flow_run, {"type": "CANCELLING"})
            wait_until(lambda: not processes(operator), "all gone")
            gone.append(time.monotonic() - started)
            operator.ended(flow_run)
            cancelled.append(time.monotonic() - started)
        row("Cancel to no process left", gone)
        row("Cancel to Cancelled", cancelled)

        flow_run = training(operator, form)
        started = time.monotonic()
        for worker in operator.processes("worker start"):
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not processes(operator), "all gone")
        row("kill -9 of the worker to no process left", [time.monotonic() - started])
        operator.ended(flow_run)
        row("kill -9 of the worker to Crashed", [time.monotonic() - started])


def training(operator: Operator, form: dict[str, Any]) -> str:
    """A flow run that is pretraining."""
    flow_run = operator.submit(form)
    wait_until(lambda: operator.processes("model.trainer"), "training")
    time.sleep(3.0)
    return flow_run


def processes(operator: Operator) -> list[int]:
    return operator.processes("prefect.engine", "model.trainer")


def first_stage(operator: Operator, flow_run: str) -> float:
    """Seconds from Submit to the start of the first task."""
    body = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 1}
    task = operator.api("task_runs/filter", body)[0]
    return moment(task["start_time"]) - moment(operator.api(f"flow_runs/{flow_run}")["created"])


def whole(operator: Operator, flow_run: str) -> float:
    """Seconds from Submit to the end."""
    run = operator.api(f"flow_runs/{flow_run}")
    return moment(run["end_time"]) - moment(run["created"])


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def row(what: str, seconds: list[float]) -> None:
    """The middle one, and all where there are several."""
    several = f"  ({', '.join(f'{one:.1f}' for one in seconds)})" if len(seconds) > 1 else ""
    print(f"{what:<52}{sorted(seconds)[len(seconds) // 2]:6.1f} s{several}", flush=True)


if __name__ == "__main__":
    main()
