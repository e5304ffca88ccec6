"""An operator's home in tests: `llmill ui` with its worker, the deployments, and Prefect's API as its UI uses it."""

import json
import os
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from support import living_processes, llmill, llmill_command, users_own_modules, wait_until

from flows.prefect.servers import free_port

TERMINAL = ("Completed", "Failed", "Crashed", "Cancelled")


class Operator:
    """`with Operator(home) as operator`: UIs and worker go on until the end; the deployments hold a recipe.

    They are started in a folder beside the home, among modules of the user's own.
    """

    def __init__(self, home: Path, recipe: str = "smoke", environment: dict[str, str] | None = None) -> None:
        self.home, self.recipe, self.ports = home, recipe, (free_port(), free_port())
        self.environment = environment or {}

    def __enter__(self) -> Self:
        self.folder = users_own_modules(self.home.with_name("my project"))
        self.start()
        result = self.llmill("deploy", self.recipe, "--json")
        if result.returncode != 0:
            self.stop()
            raise AssertionError(result.stderr)
        rows = json.loads(result.stdout)["deployments"]
        self.deployments = {row["deployment"]: row["url"].rpartition("/")[2] for row in rows}
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the UIs on the ports of this operator."""
        self.ui = subprocess.Popen(
            [*llmill_command(), "ui", "--prefect-port", str(self.ports[0]), "--mlflow-port", str(self.ports[1])],
            cwd=self.folder,
            env={**os.environ, **self.environment, "LLMILL_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.ui.stdout is not None
        while "Ctrl-C" not in (line := self.ui.stdout.readline()):
            assert line, "the UIs did not start"

    def stop(self) -> None:
        """Ctrl-C."""
        self.ui.terminate()
        self.ui.wait(60)

    def llmill(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return llmill(*arguments, home=self.home, environment=self.environment)

    def api(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """What Prefect's API answers; an error of the client is returned as its text."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[0]}/api/{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        for wait in (1, 2, 4, 8, None):  # its SQLite is busy for a while now and then: clients ask again
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code != 503 or wait is None:
                    return {"status": error.code, "detail": error.read().decode()}
            time.sleep(wait)

    def form(self, deployment: str = "build/build") -> dict[str, Any]:
        """The parameters that the form shows when it is opened."""
        return dict(self.api(f"deployments/{self.deployments[deployment]}")["parameters"])

    def submit(self, parameters: dict[str, Any] | None = None, deployment: str = "build/build") -> str:
        """Press Submit; returns the flow run."""
        made = self.api(f"deployments/{self.deployments[deployment]}/create_flow_run", {"parameters": parameters or {}})
        assert "id" in made, made
        return str(made["id"])

    def set_state(self, flow_run: str, state: dict[str, Any]) -> None:
        self.api(f"flow_runs/{flow_run}/set_state", {"state": state, "force": True})

    def state(self, flow_run: str) -> dict[str, Any]:
        return dict(self.api(f"flow_runs/{flow_run}")["state"])

    def ended(self, flow_run: str) -> dict[str, Any]:
        """The state in which a flow run ends."""
        wait_until(lambda: self.state(flow_run)["name"] in TERMINAL, "the flow run ends", every=0.2)
        return self.state(flow_run)

    def completed(self, flow_run: str) -> bool:
        """Whether a flow run ends as Completed; otherwise the error says how it has ended."""
        state = self.ended(flow_run)
        assert state["name"] == "Completed", state
        return True

    def retry(self, flow_run: str) -> None:
        """The button on the page of a run."""
        self.set_state(flow_run, {"type": "SCHEDULED", "name": "AwaitingRetry"})

    def run_elsewhere(self) -> str:
        """A flow run that is Running, whose process is on another machine; returns the flow run."""
        path = f"deployments/{self.deployments['build/build']}/create_flow_run"
        return str(self.api(path, {"state": {"type": "RUNNING"}})["id"])

    def heartbeat(self, flow_run: str) -> None:
        """What the process of a flow run sends every half minute; returns when the server has heard it."""
        tag = {"prefect.resource.id": "prefect.tag.llmill", "prefect.resource.role": "tag"}
        event = {
            "id": str(uuid4()),
            "event": "prefect.flow-run.heartbeat",
            "occurred": datetime.now(UTC).isoformat(),
            "resource": {"prefect.resource.id": f"prefect.flow-run.{flow_run}"},
            "related": [tag],
        }
        refused = self.api("events", [event])
        assert refused is None, refused
        wait_until(lambda: flow_run in self.watched(), "its heartbeat is heard")

    def watched(self) -> set[str]:
        """The flow runs that turn Crashed by their silence if nothing is heard of them."""
        with closing(sqlite3.connect(self.home / "prefect" / "prefect.db", timeout=30)) as database:
            keys = database.execute("SELECT bucketing_key FROM automation_bucket WHERE count < 1").fetchall()
        return {json.loads(key)[0].removeprefix("prefect.flow-run.") for (key,) in keys}

    def stay_away(self) -> None:
        """Between `stop` and `start`: as if all that is watched had been silent for too long."""
        self._write("""UPDATE automation_bucket SET "end" = '2026-01-01 00:00:00.000000'""")

    def record_end(self, flow_run: str) -> None:
        """Between `stop` and `start`: as if the server had recorded an end last, and had not come to hear it."""
        self._write("UPDATE flow_run SET state_type = 'COMPLETED', state_name = 'Completed' WHERE id = ?", flow_run)

    def _write(self, statement: str, *values: str) -> None:
        with closing(sqlite3.connect(self.home / "prefect" / "prefect.db")) as database, database:
            assert database.execute(statement, values).rowcount > 0

    def task_runs(self, flow_run: str) -> list[tuple[str, str]]:
        """Names and states of the task runs of a flow run, oldest first."""
        body = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return [(row["name"], row["state"]["name"]) for row in self.api("task_runs/filter", body)]

    def built(self) -> dict[str, int]:
        """How many build records each stage has."""
        return {folder.name: len(list(folder.glob("*.json"))) for folder in sorted(self.home.glob("builds/*"))}

    def runs(self) -> list[dict[str, Any]]:
        from storage.runs import runs

        return runs(self.home)

    def training(self) -> bool:
        """Whether a checkpoint of a pretraining that goes on is there."""
        return bool(list(self.home.glob("work/pretrain-*/keep/checkpoints/step-*/manifest.json")))

    def processes(self, *patterns: str) -> list[int]:
        """The processes of this home whose command line holds one of the patterns."""
        commands = living_processes(self.home).items()
        return [process for process, command in commands if any(pattern in command for pattern in patterns)]
