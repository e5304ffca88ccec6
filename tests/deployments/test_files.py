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

from deployments.server.pricing import SHIPPED as PRICES
from flows.cli.main import _parser
from flows.prefect.deployments import SHIPPED, TEMPLATES

FOLDER = ROOT / "deployments"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMAGE = f"llmill:{PROJECT['version']}"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = dict(
    line.split("=", 1) for line in (FOLDER / ".env.example").read_text().splitlines() if line and line[0] != "#"
)
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
PINNED = re.compile(r"[\w./-]+:\d[\w.-]*@sha256:[0-9a-f]{64}")
GPU: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "compose.gpu.yaml").read_text())["services"]
SECRET = re.compile(r"PASSWORD|SECRET|AUTH|ACCESS_KEY|TOKEN")


def instructions() -> list[tuple[str, list[str]]]:
    """The Dockerfile's lines, continued ones joined, as instruction and words."""
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    return [(line.split()[0], shlex.split(line.partition(" ")[2])) for line in lines]


def llmill_services() -> dict[str, dict[str, Any]]:
    return {name: service for name, service in SERVICES.items() if service["image"].startswith("llmill:")}


def test_every_image_of_ours_is_that_of_this_version() -> None:
    files = [path for path in (*FOLDER.glob("*"), *FOLDER.glob("kubernetes/*")) if path.is_file()]
    tags = [(path.name, tag) for path in files for tag in re.findall(r"\bllmill:\d[\w.-]*", path.read_text())]
    assert len(tags) >= 5 and [one for one in tags if one[1] not in (IMAGE, f"{IMAGE}-gpu")] == []


# compose.yaml ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_confined_and_watched(name: str) -> None:
    service = SERVICES[name]
    ours = name in llmill_services()
    assert service["image"] == IMAGE if ours else PINNED.fullmatch(service["image"]), service["image"]
    assert not ours or (service["read_only"] and service["cap_drop"] == ["ALL"] and "/tmp:size=1g" in service["tmpfs"])
    assert "no-new-privileges:true" in service["security_opt"] and not service.get("privileged")
    assert "healthcheck" in service or name in llmill_services()  # the image has one
    assert service["restart"] == ("no" if name == "deploy" else "unless-stopped")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded_and_so_is_its_log(name: str) -> None:
    service = SERVICES[name]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert service["logging"]["driver"] == "json-file"
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert ("shm_size" in service) == (name in ("worker", "postgres"))


def test_own_texts_are_mounted_read_only_and_the_recipe_of_the_docs_reads_them(tmp_path: Path) -> None:
    from flows.recipe import load_recipe

    for name in ("worker", "deploy"):
        (mount,) = (one for one in SERVICES[name]["volumes"] if isinstance(one, dict))
        assert (mount["type"], mount["target"], mount["read_only"]) == ("bind", "/data", True)
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    (tmp_path / "recipe.yaml").write_text(block)
    (source,) = load_recipe(str(tmp_path / "recipe.yaml")).collect.files
    assert str(source.path).startswith("/data/")


def test_workers_with_gpus_differ_in_image_torch_and_devices_alone() -> None:
    assert GPU.keys() == {"worker"} and GPU["worker"].keys() == {"image", "build", "deploy"}
    assert GPU["worker"]["image"] == f"{IMAGE}-gpu"
    assert GPU["worker"]["build"]["args"].keys() == SERVICES["worker"]["build"]["args"].keys()
    (device,) = GPU["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia" and device["capabilities"] == ["gpu"]


def test_mlflow_asks_for_a_password_and_whoever_calls_it_has_one() -> None:
    assert "--app-name=basic-auth" in SERVICES["mlflow"]["command"]
    settings, worker = SERVICES["mlflow"]["environment"], SERVICES["worker"]["environment"]
    assert settings["MLFLOW_AUTH_ADMIN_USERNAME"] == worker["MLFLOW_TRACKING_USERNAME"]
    assert VARIABLE.findall(settings["MLFLOW_AUTH_ADMIN_PASSWORD"])[0][0] == "MLFLOW_PASSWORD"
    assert worker["MLFLOW_TRACKING_PASSWORD"] == "${MLFLOW_PASSWORD}"
    mounts = {one.split(":")[1] for one in SERVICES["mlflow"]["volumes"]}
    assert settings["MLFLOW_AUTH_CONFIG_PATH"] in mounts


def test_the_worker_is_asked_for_its_health_where_it_serves_it() -> None:
    _, option, port = SERVICES["worker"]["command"]
    assert option == "--health-port"
    assert f"http://127.0.0.1:{port}/health" in SERVICES["worker"]["healthcheck"]["test"][-1]


def test_what_a_service_waits_for_can_come_true() -> None:
    for service in SERVICES.values():
        for other, wanted in service.get("depends_on", {}).items():
            conditions = {"service_healthy": "healthcheck" in SERVICES[other]}
            conditions["service_completed_successfully"] = SERVICES[other]["restart"] == "no"
            assert conditions[wanted["condition"]], other


def test_variables_are_those_of_the_example_and_all_have_a_value() -> None:
    text = "".join((FOLDER / name).read_text() for name in ("compose.yaml", "compose.gpu.yaml"))
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
    assert len(ports) == 3 and EXAMPLE["UI_ADDRESS"] == "127.0.0.1"
    assert all(port.startswith("${UI_ADDRESS:-127.0.0.1}:") for port in ports)


def test_no_secret_stands_in_a_file() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name) and not name.endswith(("_PATH", "_USERNAME")):
                assert re.fullmatch(r"(llmill:)?\$\{\w+(:\?[^}]*)?\}", value), name
            assert not re.search(r"://[^:/]*:(?!\$\{)[^/@]*@", value or ""), name  # without one it is that of .env
    secrets = {name for name in EXAMPLE if SECRET.search(name) or name.endswith("_KEY")}
    assert len(secrets) == 6 and not any(EXAMPLE[name] for name in secrets)
    assert "deployments/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_mounts_volumes_networks_and_commands_exist() -> None:
    commands = next(action.choices for action in _parser()._actions if isinstance(action.choices, dict))
    for name, service in SERVICES.items():
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
        for mount in (one for one in service.get("volumes", []) if isinstance(one, str)):
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
    modules = [path.relative_to(ROOT) for path in FOLDER.rglob("*.py")]
    assert len(modules) > 10
    for path in (*modules, PRICES.relative_to(ROOT)):
        assert {str(one) for one in (path, *path.parents)} & sources, f"{path} is not in the image"
    read = (SHIPPED, *TEMPLATES.values())  # by `llmill deploy`
    assert {str(path.relative_to(ROOT)) for path in read} <= sources


def test_the_image_is_pinned_unprivileged_silent_and_watched() -> None:
    lines = instructions()
    arguments = dict(words[0].split("=", 1) for name, words in lines if name == "ARG")
    stages = [words[0].replace("${PYTHON}", arguments["PYTHON"]) for name, words in lines if name == "FROM"]
    assert all(PINNED.fullmatch(stage) and stage.startswith("python:3.1") for stage in stages)
    first = (FOLDER / "Dockerfile").read_text().splitlines()[0]
    assert PINNED.fullmatch(first.removeprefix("# syntax="))
    assert "auth" in arguments["EXTRAS"].split(","), "compose.yaml's MLflow asks for passwords"
    assert set(arguments["EXTRAS"].split(",")) <= PROJECT["optional-dependencies"].keys()
    last = dict(lines)  # the last of each
    user, group = last["USER"][0].split(":")
    assert int(user) > 0 and int(group) > 0
    assert {"HEALTHCHECK", "VOLUME"} <= last.keys() and last["ENTRYPOINT"] == ["[llmill]"]
    silent = {"DO_NOT_TRACK=1", "PREFECT_SERVER_ANALYTICS_ENABLED=false", "MLFLOW_DISABLE_TELEMETRY=true"}
    assert silent <= {word for name, words in lines if name == "ENV" for word in words}
    assert f"LLMILL_HOME={last['VOLUME'][0]}" in [word for name, words in lines if name == "ENV" for word in words]


def test_the_image_that_runs_has_a_compiler_and_writes_to_its_volume_and_tmp_only() -> None:
    lines = instructions()
    start = max(number for number, (name, _) in enumerate(lines) if name == "FROM")
    installed = [words for name, words in lines[start:] if name == "RUN" and "apt-get" in words]
    assert {"gcc", "libc6-dev"} <= set(installed[0])
    settings = dict(word.split("=", 1) for name, words in lines[start:] if name == "ENV" for word in words)
    volume = dict(lines)["VOLUME"][0]
    for name in ("HOME", "LLMILL_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        assert settings[name].startswith(volume), name
    assert settings["PREFECT_UI_STATIC_DIRECTORY"].startswith("/tmp/")


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
    check_confined(pod)
    assert not pod["automountServiceAccountToken"]
    data = next(mount for mount in container["volumeMounts"] if mount["name"] == "data")
    assert data == {"name": "data", "mountPath": "/data", "readOnly": True}
    assert pod["terminationGracePeriodSeconds"] >= 30


def test_the_worker_fits_the_template(template: dict[str, Any]) -> None:
    objects = list(yaml.safe_load_all((FOLDER / "kubernetes" / "worker.yaml").read_text()))
    kinds = {one["kind"]: one for one in objects}
    values = {name: one.get("default") for name, one in template["variables"]["properties"].items()}
    assert {one["metadata"]["namespace"] for one in objects} == {values["namespace"]}
    claims = {one["metadata"]["name"] for one in objects if one["kind"] == "PersistentVolumeClaim"}
    assert claims == {values["home_claim"], values["data_claim"]}
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    check_confined(pod)
    (container,) = pod["containers"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": container["ports"][0]["name"]}
    assert "--with-healthcheck" in container["command"]
    assert pod["serviceAccountName"] == kinds["ServiceAccount"]["metadata"]["name"]
    assert kinds["RoleBinding"]["roleRef"]["name"] == kinds["Role"]["metadata"]["name"]
    assert container["image"] == IMAGE
    assert container["envFrom"] == [{"secretRef": {"name": values["secret_name"]}}]


def check_confined(pod: dict[str, Any]) -> None:
    """Nobody's rights, a root filesystem that cannot be written, limits of memory and CPU."""
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    confined = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == confined
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_nobody_calls_a_pod_and_the_worker_alone_calls_kubernetes() -> None:
    objects = yaml.safe_load_all((FOLDER / "kubernetes" / "worker.yaml").read_text())
    policies = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "NetworkPolicy"}
    everyone, worker = policies["llmill"], policies["llmill-worker"]
    assert everyone["podSelector"] == {} and "ingress" not in everyone
    assert set(everyone["policyTypes"]) == {"Ingress", "Egress"}
    assert all("to" in rule and "ports" in rule for rule in everyone["egress"])
    ports = {port["port"] for rule in everyone["egress"] for port in rule["ports"]}
    assert ports == {53, 4200, 5000, 8333, 443}
    assert worker["podSelector"] == {"matchLabels": {"app": "llmill-worker"}}
