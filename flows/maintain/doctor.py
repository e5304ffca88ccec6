"""`llmill doctor`: is this machine ready? One line each: ok, note or problem, and the fix.

Asks the network only for a shared store that is set. torch is not imported: its version is read from its metadata, a
GPU is searched for in `/dev`. All of it takes about a second.
"""

import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flows.mlflow.place import ARTIFACTS_VARIABLE as ARTIFACTS
from flows.mlflow.place import UI_VARIABLE as UI
from flows.mlflow.place import VARIABLE as MLFLOW
from flows.prefect.database import VARIABLES as DATABASES
from flows.prefect.database import check_scheme
from flows.prefect.servers import VARIABLE as PREFECT
from storage.addresses import check_form, proxies, redacted
from storage.errors import ConfigError, LlmillError
from storage.files import locked
from storage.home import VARIABLE, home
from storage.postgres import check_driver, is_postgres
from storage.runs import RUNNING, runs
from storage.store.local import Store
from storage.store.remote import VARIABLE as SHARED
from storage.store.remote import remote_in_force
from tasks.train.device import COMPILER, missing_for_compiling, training_device
from tasks.wording import size

PYTHONS = ((3, 11), (3, 13))  # from the first, below the second: pyproject.toml
NEEDED_BYTES = 1 << 30  # the quick recipe writes about a tenth of it
TIGHT_BYTES = 10 << 30
NEEDED_MEMORY = 2 << 30
PORTS = ((4200, "Prefect", "--prefect-port"), (5000, "MLflow", "--mlflow-port"))
BREAKING = {  # package -> what another version of it does
    "fastapi": "with this fastapi Prefect's server answers every run with a TypeError",
    "sqlalchemy": "with this sqlalchemy Prefect's server starts no run that is on a schedule",
}
SHOWN = {  # variable -> what it changes, where that needs to be said
    PREFECT: "runs are sent to this server; unset it to use the one of the home",
    **dict.fromkeys(DATABASES, "a Prefect server that llmill starts keeps its runs there"),
    MLFLOW: "figures are sent there; unset it to use the database of the home",
    UI: "links to MLflow's UI begin so",
    ARTIFACTS: "MLflow keeps its files there, where its address is a database",
    "HF_HOME": "",
    "HF_HUB_OFFLINE": "",
    "CUDA_VISIBLE_DEVICES": "",
    VARIABLE: "",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was examined, what was found, and what to do where that is needed."""

    name: str
    state: Literal["ok", "note", "problem"]
    found: str
    fix: str = ""


def examine() -> list[Finding]:
    """All findings, in the order of the table; raises nothing for what it finds."""
    path = home()
    return [
        _llmill(),
        _python(),
        *_packages(),
        _torch(),
        *_device(),
        _memory(),
        *_home(path),
        *_shared_store(),
        *_ports(),
        *_proxies(),
        *_settings(),
    ]


def _llmill() -> Finding:
    return Finding("llmill", "ok", f"{_version('llmill') or 'not installed'}, code in {Path(__file__).parents[2]}")


def _python() -> Finding:
    found = f"{platform.python_version()} in {sys.prefix}"
    if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        return Finding("Python", "ok", found)
    return Finding("Python", "problem", found, "use Python 3.11 or 3.12")


def _packages() -> Iterator[Finding]:
    """What llmill's own metadata asks for against what is installed: among it the versions known to break."""
    try:
        requirements = importlib.metadata.requires("llmill") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", "problem", "llmill is not installed", "make install, or pip install -e .")
        return
    from packaging.requirements import Requirement

    wrong = []
    checked = 0
    for line in requirements:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        checked += 1
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version.partition("+")[0], prereleases=True):
            wrong.append(f"{requirement.name} {version}, needs {requirement.specifier}")
    if wrong:
        fix = "pip install -c deployments/constraints.txt -e ."
        fix += "".join(f" ({BREAKING[name]})" for line in wrong if (name := line.partition(" ")[0]) in BREAKING)
        yield Finding("packages", "problem", "; ".join(wrong), fix)
    else:
        yield Finding("packages", "ok", f"{checked} of {checked} have versions known to work")


def _torch() -> Finding:
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return Finding("torch", "problem", "not installed", "make install, or make install TORCH_INDEX=URL")
    return Finding("torch", "ok", version)


def _device() -> Iterator[Finding]:
    """The GPUs or CPUs, and what a GPU's long trainings are compiled with."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = [
        line.partition(":")[2].strip()
        for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in information.read_text(errors="replace").splitlines()
        if line.startswith("Model")
    ]
    there = names or ["NVIDIA GPU"] * (training_device("auto") != "cpu")
    if not there:
        yield Finding("device", "ok", f"CPU, {cores} core{'s' * (cores != 1)}; no GPU")
        return
    found = f"{', '.join(there)}, {cores} cores"
    if "+cpu" in _version("torch"):
        fix = "this torch is built for CPUs: make install TORCH_INDEX=URL of wheels for CUDA"
        yield Finding("device", "note", found, fix)
        return
    yield Finding("device", "ok", found)
    missing = missing_for_compiling()
    if missing:
        fix = f"install {COMPILER}: long trainings on a GPU are half as fast again when compiled"
        yield Finding("compiler", "note", missing, fix)
    else:
        yield Finding("compiler", "ok", "long trainings are compiled")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _memory() -> Finding:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        total, free = kilobytes["MemTotal"] * 1024, kilobytes["MemAvailable"] * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return Finding("memory", "note", "not known on this system")
    found = f"{size(free)} free of {size(total)}"
    if free < NEEDED_MEMORY:
        return Finding("memory", "note", found, "end what else runs: the quick recipe wants 2 GB")
    return Finding("memory", "ok", found)


def _home(path: Path) -> Iterator[Finding]:
    """Whether the home can be written and locked, how much room it has, and what is there."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        fix = f"set {VARIABLE} to a folder that you may write, or fix its permissions"
        yield Finding("home", "problem", f"{path} cannot be written", fix)
        return
    yield Finding("home", "ok", f"{path}" + ("" if path.is_dir() else " (made by the first run)"))
    free = shutil.disk_usage(existing).free
    if free < NEEDED_BYTES:
        yield Finding("disk", "problem", f"{size(free)} free", f"make room, or set {VARIABLE} to another disk")
    elif free < TIGHT_BYTES:
        yield Finding("disk", "note", f"{size(free)} free", "llmill gc --dry-run shows what could go")
    else:
        yield Finding("disk", "ok", f"{size(free)} free")
    yield _file_system(existing)
    if path.is_dir():
        yield from _store(path)


def _file_system(folder: Path) -> Finding:
    """Locks keep two runs from building one thing twice; hard links keep a shard from being stored twice."""
    name = "file system"
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".llmill-doctor-") as temporary:
            first = Path(temporary) / "first"
            with locked(first), locked(first, blocking=False) as second_holder:
                excludes = not second_holder
            try:
                os.link(first, first.with_name("second"))
                links = True
            except OSError:
                links = False
    except OSError as error:
        return Finding(name, "problem", f"{folder}: {error.strerror}", f"set {VARIABLE} to a local disk")
    if not excludes:
        return Finding(name, "problem", "locks do not exclude", f"set {VARIABLE} to a local disk: runs may collide")
    if not links:
        return Finding(name, "note", "locks work, hard links do not", "shared shards are copied: more disk is used")
    return Finding(name, "ok", "locks and hard links work")


def _store(path: Path) -> Iterator[Finding]:
    try:
        store = Store(path)
        count = sum(store.artifact(digest) is not None for digest in store.artifacts())
        known = runs(path)
    except LlmillError as error:
        yield Finding("store", "problem", str(error), "update llmill")
        return
    under_way = sum(run["status"] == RUNNING for run in known)
    yield Finding(
        "store", "ok", f"{count} artifacts of {len(known)} runs" + f", {under_way} under way" * (under_way > 0)
    )


def _shared_store() -> Iterator[Finding]:
    """Whether the store that several machines share answers, where one is set."""
    try:
        remote = remote_in_force()
        if remote is not None:
            remote.check()
            yield Finding("shared store", "ok", f"{remote.name}, {len(remote.names('store/artifacts')):,} artifacts")
    except LlmillError as error:
        yield Finding("shared store", "problem", str(error), f"fix it, or unset {SHARED}")


def _ports() -> Iterator[Finding]:
    for port, name, option in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                fix = f"if it is not `llmill ui` already: llmill ui {option} PORT"
                yield Finding(f"port {port}", "note", f"in use; {name}'s UI wants it", fix)
                continue
        yield Finding(f"port {port}", "ok", f"free for {name}'s UI")


def _proxies() -> Iterator[Finding]:
    """What is sent through a proxy, and that this machine is reached without one."""
    by_address: dict[str, list[str]] = {}
    for scheme, address in sorted(proxies().items()):
        by_address.setdefault(redacted(address if "://" in address else f"http://{address}"), []).append(scheme)
    for address, schemes in by_address.items():
        direct = f"sent there, except NO_PROXY: {os.environ.get('NO_PROXY') or os.environ.get('no_proxy', 'empty')}"
        yield Finding("proxy", "note", f"{address} for {', '.join(schemes)}", direct)


def _settings() -> Iterator[Finding]:
    """The variables that change what llmill does, without passwords."""
    for name, meaning in SHOWN.items():
        value = os.environ.get(name)
        if value:
            yield _wrong_address(name, value) or Finding(name, "note" if meaning else "ok", redacted(value), meaning)


def _wrong_address(name: str, value: str) -> Finding | None:
    """An address that no run could use, as far as this shows without asking it."""
    try:
        if name in DATABASES:
            check_scheme(name, value)
        elif name in (PREFECT, MLFLOW):
            check_form(name, value, ("http", "https") if name == PREFECT else ())
        if name == MLFLOW and is_postgres(value):
            check_driver(name, value)
    except ConfigError as error:
        return Finding(name, "problem", redacted(value), str(error).rpartition(": ")[2])
    return None


def doctor_report(findings: Sequence[Finding]) -> dict[str, Any]:
    """The `--json` object."""
    problems = sum(finding.state == "problem" for finding in findings)
    return {"ready": not problems, "problems": problems, "findings": [asdict(finding) for finding in findings]}


def doctor_text(findings: Sequence[Finding]) -> str:
    """A line for each finding, the fix under it."""
    width = max(len(finding.name) for finding in findings) + 1
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<9}{finding.name:<{width}} {finding.found}")
        lines += [f"{'':<9}{'':<{width}} {finding.fix}"] * bool(finding.fix)
    problems = sum(finding.state == "problem" for finding in findings)
    end = f"{problems} problem{'s' * (problems != 1)} to fix before a run" if problems else "ready: llmill run"
    return "\n".join([*lines, end])
