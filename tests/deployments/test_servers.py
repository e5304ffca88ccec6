"""The servers and the worker of compose.yaml on the loopback: their own commands and settings, with other addresses."""

import base64
import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from postgres import PASSWORD, USER, Postgres, postgres
from s3_server import S3Server, s3_server
from support import ROOT, llmill, llmill_command, report_of, wait_until

from flows.prefect.servers import free_port

pytestmark = pytest.mark.slow

FOLDER = ROOT / "deployments"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
VARIABLE = re.compile(r"\$\{(\w+)(?::[-?]([^}]*))?\}")
SECRET = "a1b2c3d4e5f6a7b8c9d0"  # every one of .env


class Deployment:
    """The services of compose.yaml as processes of this machine."""

    def __init__(self, folder: Path, database: Postgres, store: S3Server) -> None:
        self.folder, self.database = folder, database
        self.ports = {"prefect": free_port(), "mlflow": free_port(), "worker": free_port()}
        self.places = {
            f"llmill:{SECRET}@postgres:5432": f"{USER}:{PASSWORD}@127.0.0.1:{database.port}",
            "llmill@postgres:5432": f"{USER}@127.0.0.1:{database.port}",
            "http://s3:8333": store.address,
            "http://prefect:4200": f"http://127.0.0.1:{self.ports['prefect']}",
            "http://mlflow:5000": f"http://127.0.0.1:{self.ports['mlflow']}",
            "0.0.0.0": "127.0.0.1",
            "/etc/llmill/mlflow-auth.ini": str(folder / "mlflow-auth.ini"),
        }
        store.bucket("llmill")
        settings = (FOLDER / "mlflow-auth.ini").read_text()
        (folder / "mlflow-auth.ini").write_text(self.placed(settings, "mlflow"))

    def placed(self, text: str, service: str) -> str:
        """A word of the file with .env's values, and with the addresses of this machine."""
        text = VARIABLE.sub(lambda found: found[2] if found[0].find(":-") > 0 else SECRET, str(text))
        for there, here in self.places.items():
            text = text.replace(there, here)
        inside = {"prefect": "4200", "mlflow": "5000", "worker": "8080"}[service]
        return re.sub(rf"\b{inside}\b", str(self.ports[service]), text)

    def environment(self, service: str) -> dict[str, str]:
        settings = {name: self.placed(value, service) for name, value in SERVICES[service]["environment"].items()}
        settings |= {"PGPASSWORD": PASSWORD} if "PGPASSWORD" in settings else {}
        return {**settings, "AWS_EC2_METADATA_DISABLED": "true"}

    @contextmanager
    def started(self, service: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A service, once its own health check passes."""
        words = [self.placed(word, service) for word in SERVICES[service]["command"]]
        program = SERVICES[service].get("entrypoint")
        command = [str(Path(llmill_command()[0]).parent / program[0])] if program else llmill_command()
        home = self.folder / service
        home.mkdir()
        environment = {**os.environ, "HOME": str(home), "LLMILL_HOME": str(home), **self.environment(service)}
        log = self.folder / f"{service}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, *words], cwd=home, env=environment, stdout=output, stderr=output, start_new_session=True
            )
            try:
                wait_until(lambda: self.is_healthy(service), log.name, process)
                yield process
            finally:
                process.terminate()
                process.wait(60)

    def is_healthy(self, service: str) -> bool:
        _, python, *arguments = (self.placed(word, service) for word in SERVICES[service]["healthcheck"]["test"])
        program = Path(llmill_command()[0]).parent / python
        return subprocess.run([program, *arguments], capture_output=True).returncode == 0

    def status(self, service: str, path: str, password: str | None = None) -> int:
        """What a server answers to somebody without a password, or with this one."""
        return self._ask(service, path, password)[0]

    def asked(self, path: str, body: object) -> Any:
        """What Prefect's API answers to a question with the right password."""
        return json.loads(self._ask("prefect", path, SECRET, json.dumps(body).encode())[1])

    def _ask(self, service: str, path: str, password: str | None, body: bytes | None = None) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[service]}{path}", body)
        request.add_header("Content-Type", "application/json")
        if password is not None:
            credentials = base64.b64encode(f"llmill:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {credentials}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("compose")
    with postgres() as database, s3_server(folder) as store:
        for name in ("prefect", "mlflow"):
            database.create(name)
        yield Deployment(folder, database, store)


def client(deployment: Deployment, *without: str) -> dict[str, str]:
    """The settings of a worker, but for the names that begin so."""
    settings = deployment.environment("worker")
    return {name: value for name, value in settings.items() if not name.startswith(without)}


def test_mlflow_refuses_who_has_no_password_and_takes_the_run_of_a_worker(deployment: Deployment, home: Path) -> None:
    search = "/api/2.0/mlflow/experiments/search?max_results=10"
    settings = client(deployment, "PREFECT", "LLMILL_STORE")
    with deployment.started("mlflow"):
        assert deployment.status("mlflow", "/health") == 200
        assert deployment.status("mlflow", search) == deployment.status("mlflow", search, "wrong") == 401
        assert deployment.status("mlflow", "/") == 401
        assert deployment.status("mlflow", search, SECRET) == 200
        run = report_of(llmill("run", "smoke", "--to", "collect", "--json", home=home, environment=settings))
        statuses = deployment.database.query("mlflow", f"select status from runs where name = '{run['run']}'")
        assert statuses == [("FINISHED",)]
        wrong = settings | {"MLFLOW_TRACKING_PASSWORD": "wrong"}
        command = ("run", "smoke", "--to", "collect", "--force", "collect")
        result = llmill(*command, home=home, environment=wrong)
        assert "MLflow" in result.stdout + result.stderr and "Traceback" not in result.stderr, result.stderr


def test_prefect_refuses_who_has_no_password_and_its_worker_serves_its_health(deployment: Deployment) -> None:
    with deployment.started("prefect"):
        assert deployment.status("prefect", "/api/health") == 200
        pools = "/api/work_pools/llmill"
        assert deployment.status("prefect", pools) == deployment.status("prefect", pools, "wrong") == 401
        assert deployment.status("prefect", pools, SECRET) == 404
        settings = client(deployment, "LLMILL_STORE")
        result = llmill("deploy", "smoke", home=deployment.folder / "deploy", environment=settings)
        assert result.returncode == 0, result.stderr
        assert deployment.status("prefect", pools, SECRET) == 200
        assert not deployment.is_healthy("worker"), "nobody answers yet"
        with deployment.started("worker"):
            wait_until(lambda: [row["status"] for row in workers(deployment)] == ["ONLINE"], "the worker is online")
            assert deployment.is_healthy("worker")
        assert not deployment.is_healthy("worker")


def workers(deployment: Deployment) -> list[dict[str, Any]]:
    """The workers that the pool knows."""
    return list(deployment.asked("/api/work_pools/llmill/workers/filter", {}))
