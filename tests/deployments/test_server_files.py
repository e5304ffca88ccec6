"""How the model server is run in containers: what `compose.yaml` and `kubernetes/server.yaml` say, held against it."""

from typing import Any

import yaml
from test_files import COMPOSE, FOLDER, IMAGE, check_confined

from deployments.server.app import HEALTH
from deployments.server.run import TOLD_SECONDS
from deployments.server.settings import ServerSettings
from storage.database import VARIABLE

SERVER: dict[str, Any] = COMPOSE["services"]["server"]
OBJECTS = {one["kind"]: one for one in yaml.safe_load_all((FOLDER / "kubernetes" / "server.yaml").read_text())}
POD: dict[str, Any] = OBJECTS["Deployment"]["spec"]["template"]["spec"]
LAST_SECONDS = ServerSettings().stop_seconds + TOLD_SECONDS + 1  # uvicorn's own end comes last


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_compose_serves_the_champion_where_its_health_is_asked() -> None:
    assert SERVER["command"][:2] == ["serve", "champion"] and option(SERVER["command"], "--host") == "0.0.0.0"
    port = option(SERVER["command"], "--port")
    assert SERVER["ports"][0].endswith(f":{port}")
    assert HEALTH[1] == "/readyz" and f"http://127.0.0.1:{port}{HEALTH[1]}" in SERVER["healthcheck"]["test"][-1]
    assert SERVER["profiles"] == ["serve"], "it starts when there is a model, not before"


def test_compose_gives_answers_under_way_their_time_to_end() -> None:
    assert int(SERVER["stop_grace_period"].removesuffix("s")) > LAST_SECONDS
    assert SERVER["init"] and SERVER["command"], "the signal reaches the server itself"


def test_compose_keeps_keys_and_ledger_in_a_database_that_is_made() -> None:
    address = SERVER["environment"][VARIABLE]
    assert address.startswith("postgresql://") and "${POSTGRES_PASSWORD}" in address
    database = address.rpartition("/")[2]
    assert f"create database {database};" in (FOLDER / "postgres.sql").read_text().splitlines()
    assert "postgres" in SERVER["depends_on"]


def test_a_pod_of_the_server_is_confined_and_bounded() -> None:
    check_confined(POD)
    (container,) = POD["containers"]
    assert container["image"] == IMAGE and "command" not in container, "the image's own entrypoint"
    assert not POD["automountServiceAccountToken"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert "/var/lib/llmill" in mounted.values()
    assert {volume["name"] for volume in POD["volumes"]} == mounted.keys()
    assert all(volume["emptyDir"]["sizeLimit"] for volume in POD["volumes"])


def test_a_pod_is_asked_for_its_health_where_it_serves_it() -> None:
    (container,) = POD["containers"]
    assert container["args"][:2] == ["serve", "champion"] and option(container["args"], "--host") == "0.0.0.0"
    (port,) = container["ports"]
    assert str(port["containerPort"]) == option(container["args"], "--port")
    alive, ready = HEALTH
    for probe, path in (("livenessProbe", alive), ("readinessProbe", ready), ("startupProbe", ready)):
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
    (served,) = OBJECTS["Service"]["spec"]["ports"]
    assert served["targetPort"] == port["name"]
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [OBJECTS["Service"]["spec"]["selector"]]
    selectors += [OBJECTS[kind]["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")]
    assert selectors == [labels] * 3


def test_a_pod_ends_after_its_answers_and_another_is_there_before() -> None:
    (container,) = POD["containers"]
    name, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    assert name == "sleep" and POD["terminationGracePeriodSeconds"] > float(pause) + LAST_SECONDS
    rolling = OBJECTS["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert rolling["maxUnavailable"] == 0 and rolling["maxSurge"] >= 1
    assert OBJECTS["Deployment"]["spec"]["replicas"] > OBJECTS["PodDisruptionBudget"]["spec"]["minAvailable"]


def test_the_server_alone_is_called_and_reaches_its_database() -> None:
    policy = OBJECTS["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == {"app": "llmill-server"}
    (called,), (reached,) = policy["ingress"], policy["egress"]
    assert [port["port"] for port in called["ports"]] == [8000] and [port["port"] for port in reached["ports"]] == [
        5432
    ]
