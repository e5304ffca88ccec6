"""The examples of training on several machines, `deployments/slurm/` and `deployments/kubernetes/training.yaml`: their
form, and that what they call is what llmill takes. Neither Slurm nor Kubernetes is there."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT

from flows.cli.main import _parser
from flows.recipe import load_recipe

SBATCH = ROOT / "deployments" / "slurm" / "train.sbatch"
OBJECTS = list(yaml.safe_load_all((ROOT / "deployments" / "kubernetes" / "training.yaml").read_text()))
KINDS: dict[str, dict[str, Any]] = {one["kind"]: one for one in OBJECTS}
IMAGE = f"llmill:{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}-gpu"


def check_commands(first: list[str], other: list[str], nodes: int, processes: int, host: str) -> None:
    """`llmill run` and `llmill join` with the same recipe and settings, which are those of so many machines."""
    assert (first[0], other[0]) == ("run", "join") and first[1:] == other[1:]
    for words in (first, other):
        options = _parser().parse_args(words)
        recipe = load_recipe(options.recipe, options.set)
        assert (recipe.execution.nodes, recipe.pretrain.processes) == (nodes, processes)
        assert str(recipe.execution.node_address).rpartition(":")[0] == host


# Slurm ----------------------------------------------------------------------------------------------------------


def test_the_batch_script_asks_for_one_task_on_each_of_several_nodes_and_time_to_save() -> None:
    lines = SBATCH.read_text().splitlines()
    assert lines[0] == "#!/bin/bash" and SBATCH.stat().st_mode & 0o111
    directives = [line for line in lines if line.startswith("#SBATCH")]
    parsed = [re.fullmatch(r"#SBATCH --([a-z-]+)=(\S+)", line) for line in directives]
    assert all(parsed), directives
    asked = {found[1]: found[2] for found in parsed if found}
    last = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(line.startswith("#") for line in lines[:last]), "Slurm reads no directive after the first command"
    assert int(asked["nodes"]) > 1 and asked["ntasks-per-node"] == "1"
    name, _, seconds = asked["signal"].partition("@")
    assert name == "TERM" and int(seconds) >= 60
    assert subprocess.run(["bash", "-n", SBATCH], capture_output=True, text=True).stderr == ""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment as a job of Slurm has it, with two nodes; `llmill` writes down what it is called with."""
    programs = {
        "scontrol": "echo node07; echo node08",
        "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\n'
        'SLURM_PROCID=1 "$@" & SLURM_PROCID=0 "$@"; status=$?; wait; exit $status',
        "llmill": f'printf "%s\\n" "$@" > "{tmp_path}/$1"; exit "${{STATUS:-0}}"',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "12345678", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[07-08]"}
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    return {**os.environ, **job, "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_GPUS_ON_NODE": "8", "PATH": path}


def test_the_batch_script_starts_the_run_on_the_first_node_and_joins_it_on_the_others(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    given = [str(SBATCH), "smoke", "--set", "filter.min_words=9"]
    assert subprocess.run(given, env=slurm).returncode == 0
    first, other = ((tmp_path / name).read_text().splitlines() for name in ("run", "join"))
    check_commands(first, other, nodes=2, processes=16, host="node07")
    assert "filter.min_words=9" in first
    assert subprocess.run(given, env={**slurm, "STATUS": "2"}).returncode == 2, "the run's status is the job's"
    without = subprocess.run([str(SBATCH)], env=slurm, capture_output=True, text=True)
    assert without.returncode != 0 and "which recipe" in without.stderr


# Kubernetes -----------------------------------------------------------------------------------------------------


def test_the_pods_of_a_training_are_numbered_and_meet_by_the_name_of_the_first() -> None:
    job, service = KINDS["Job"], KINDS["Service"]
    assert {one["metadata"]["namespace"] for one in OBJECTS} == {"llmill"}
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"] > 1
    assert spec["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}, "the run's end is the end"
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"] == spec["template"]["metadata"]["labels"]
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    commands = [
        subprocess.run(
            [*container["command"], *container["args"]],
            env={"PATH": f"{ROOT}/tests/deployments/nothing:/usr/bin:/bin", "JOB_COMPLETION_INDEX": index},
            capture_output=True,
            text=True,
        )
        for index in ("0", "1")
    ]
    assert [command.returncode for command in commands] == [127, 127], "it gets so far as to look for llmill"
    words = container["command"][2]
    assert re.search(r'"\$JOB_COMPLETION_INDEX" = 0 \]; then exec llmill run "\$@"; else exec llmill join "\$@"', words)
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    host = f"{job['metadata']['name']}-0.{pod['subdomain']}"
    nodes = spec["completions"]
    check_commands(["run", *container["args"]], ["join", *container["args"]], nodes, nodes * gpus, host)
    ports = {port["port"] for port in service["spec"]["ports"]} | {one["containerPort"] for one in container["ports"]}
    assert {f"execution.node_address={host}:{port}" for port in ports} <= set(container["args"])


def test_the_pods_share_a_home_are_confined_and_are_reached_by_each_other_alone() -> None:
    pod = KINDS["Job"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    worker = list(yaml.safe_load_all((ROOT / "deployments" / "kubernetes" / "worker.yaml").read_text()))
    shared = {
        one["metadata"]["name"]
        for one in worker
        if one["kind"] == "PersistentVolumeClaim" and one["spec"]["accessModes"] == ["ReadWriteMany"]
    }
    volumes = {one["name"]: one for one in pod["volumes"]}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert volumes.keys() == mounted.keys() and volumes["home"]["persistentVolumeClaim"]["claimName"] in shared
    assert {"name": "LLMILL_HOME", "value": mounted["home"]} in container["env"]
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    confined = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == confined and {"/tmp", "/dev/shm"} <= set(mounted.values())
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys() and pod["terminationGracePeriodSeconds"] >= 30
    policy = KINDS["NetworkPolicy"]["spec"]
    labels = KINDS["Job"]["spec"]["template"]["metadata"]["labels"]
    others = {"podSelector": {"matchLabels": labels}}
    assert policy["podSelector"] == others["podSelector"]
    assert json.dumps([policy["ingress"], policy["egress"]]) == json.dumps([[{"from": [others]}], [{"to": [others]}]])
