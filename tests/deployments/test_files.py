"""The files of `deployments/`, held against each other, the package and Prefect's own templates. Nothing is started."""

import fnmatch
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT

from flows.cli import _parser

FOLDER = ROOT / "deployments"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMAGE = f"llmill:{PROJECT['version']}"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = dict(
    line.split("=", 1) for line in (FOLDER / ".env.example").read_text().splitlines() if line and line[0] != "#"
)
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
PINNED = re.compile(r"[\w./-]+:\d[\w.-]*")
SECRET = re.compile(r"PASSWORD|SECRET|AUTH|ACCESS_KEY|TOKEN")


def instructions() -> list[tuple[str, list[str]]]:
    """The Dockerfile's lines, continued ones joined, as instruction and words."""
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    return [(line.split()[0], shlex.split(line.partition(" ")[2])) for line in lines]


def llmill_services() -> dict[str, dict[str, Any]]:
    return {name: service for name, service in SERVICES.items() if service["image"].startswith("llmill:")}


# compose.yaml ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_confined_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert PINNED.fullmatch(service["image"]), service["image"]
    assert name not in llmill_services() or service["image"] == IMAGE
    assert "no-new-privileges:true" in service["security_opt"] and not service.get("privileged")
    assert "healthcheck" in service or name in llmill_services()  # the image has one
    assert service["restart"] == ("no" if name == "deploy" else "unless-stopped")


def test_what_a_service_waits_for_can_come_true() -> None:
    for service in SERVICES.values():
        for other, wanted in service.get("depends_on", {}).items():
            conditions = {"service_healthy": "healthcheck" in SERVICES[other]}
            conditions["service_completed_successfully"] = SERVICES[other]["restart"] == "no"
            assert conditions[wanted["condition"]], other


def test_variables_are_those_of_the_example_and_all_have_a_value() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    used: dict[str, set[tuple[str, str]]] = {}
    for name, kind, rest in VARIABLE.findall(text):
        used.setdefault(name, set()).add((kind, rest))
    assert used.keys() == EXAMPLE.keys()
    for name, uses in used.items():
        if EXAMPLE[name]:
            assert uses == {("-", EXAMPLE[name])}, f"{name}: one default, that of the example"
        else:
            assert "?" in {kind for kind, _ in uses}, f"{name}: nothing starts without it"


def test_ports_are_published_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2 and EXAMPLE["PAGES_ADDRESS"] == "127.0.0.1"
    assert all(port.startswith("${PAGES_ADDRESS:-127.0.0.1}:") for port in ports)


def test_no_secret_stands_in_a_file() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                assert re.fullmatch(r"(llmill:)?\$\{\w+(:\?[^}]*)?\}", value), name
            assert not re.search(r"://[^:/]*:(?!\$\{)[^/@]*@", value), name
    secrets = {name for name in EXAMPLE if SECRET.search(name) or name.endswith("_KEY")}
    assert len(secrets) == 4 and not any(EXAMPLE[name] for name in secrets)
    assert "deployments/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_mounts_volumes_networks_and_commands_exist() -> None:
    commands = next(action.choices for action in _parser()._actions if isinstance(action.choices, dict))
    for name, service in SERVICES.items():
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            assert (FOLDER / source).is_file() if source[0] == "." else source in COMPOSE["volumes"], mount
        if name in llmill_services() and "entrypoint" not in service:
            assert service["command"][0] in commands


# Dockerfile -----------------------------------------------------------------------------------------------------


def test_the_image_holds_the_whole_package() -> None:
    ignored = [line for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"]
    kept = {line[1:] for line in ignored if line[0] == "!"}
    assert ignored[0] == "*"
    copied = [words[:-1] for name, words in instructions() if name == "COPY" and not words[0].startswith("--")]
    sources = {source for words in copied for source in words}
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in kept, f"{source} is not sent to the builder"
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    for pattern in tool["setuptools"]["packages"]["find"]["include"]:
        found = [path.name for path in ROOT.iterdir() if path.is_dir() and fnmatch.fnmatch(path.name, pattern)]
        assert found
        for package in found:
            assert package in sources or any(source.startswith(f"{package}/") for source in sources), package


def test_the_image_is_pinned_unprivileged_silent_and_watched() -> None:
    lines = instructions()
    arguments = dict(words[0].split("=", 1) for name, words in lines if name == "ARG")
    stages = [words[0].replace("${PYTHON}", arguments["PYTHON"]) for name, words in lines if name == "FROM"]
    assert all(re.fullmatch(r"python:3\.1[12]\.\d+-slim-\w+", stage) for stage in stages)
    assert set(arguments["EXTRAS"].split(",")) <= PROJECT["optional-dependencies"].keys()
    last = dict(lines)  # the last of each
    user, group = last["USER"][0].split(":")
    assert int(user) > 0 and int(group) > 0
    assert {"HEALTHCHECK", "VOLUME"} <= last.keys() and last["ENTRYPOINT"] == ["[llmill]"]
    silent = {"DO_NOT_TRACK=1", "PREFECT_SERVER_ANALYTICS_ENABLED=false", "MLFLOW_DISABLE_TELEMETRY=true"}
    assert silent <= {word for name, words in lines if name == "ENV" for word in words}
    assert f"LLMILL_HOME={last['VOLUME'][0]}" in [word for name, words in lines if name == "ENV" for word in words]


# Kubernetes -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return json.loads((FOLDER / "kubernetes" / "base-job-template.json").read_text())


def test_the_template_is_prefects_own_and_more(template: dict[str, Any]) -> None:
    import prefect

    shipped = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"
    own = json.loads(shipped.read_text())["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]
    assert list(differences(own, template)) == []


def differences(own: Any, ours: Any, place: str = "") -> Iterator[str]:
    """Where ours lacks something of Prefect's or changes it; defaults and additions are ours."""
    if isinstance(own, dict):
        for name, value in own.items():
            if name not in ours:
                yield f"{place}.{name} is missing"
            elif name != "default":
                yield from differences(value, ours[name], f"{place}.{name}")
    elif isinstance(own, list) and all(isinstance(one, dict) for one in own):
        for number, (value, other) in enumerate(zip(own, ours, strict=True)):
            yield from differences(value, other, f"{place}[{number}]")
    elif own != ours:
        yield f"{place}: {own!r} -> {ours!r}"


def test_every_place_of_the_template_has_a_variable_and_every_variable_a_place(template: dict[str, Any]) -> None:
    places = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert places == template["variables"]["properties"].keys()


def test_a_job_has_its_gpus_home_and_secrets_and_ends_slowly(template: dict[str, Any]) -> None:
    from prefect.utilities.templating import apply_values

    properties = template["variables"]["properties"]
    values = {name: one["default"] for name, one in properties.items() if "default" in one}
    job: Any = apply_values(template["job_configuration"]["job_manifest"], values | {"gpus": 2, "name": "smoke"})
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["command"] == ["/usr/bin/env"], "the image's own entrypoint would take Prefect's command for its"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert container["envFrom"] == [{"secretRef": {"name": "llmill"}}]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted["home"] == container["env"]["LLMILL_HOME"]
    assert {volume["name"] for volume in pod["volumes"]} == mounted.keys()
    assert pod["securityContext"]["runAsNonRoot"] and pod["terminationGracePeriodSeconds"] >= 30


def test_the_worker_fits_the_template(template: dict[str, Any]) -> None:
    objects = list(yaml.safe_load_all((FOLDER / "kubernetes" / "worker.yaml").read_text()))
    kinds = {one["kind"]: one for one in objects}
    values = {name: one.get("default") for name, one in template["variables"]["properties"].items()}
    assert {one["metadata"]["namespace"] for one in objects} == {values["namespace"]}
    assert kinds["PersistentVolumeClaim"]["metadata"]["name"] == values["home_claim"]
    (container,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == IMAGE
    assert container["envFrom"] == [{"secretRef": {"name": values["secret_name"]}}]
