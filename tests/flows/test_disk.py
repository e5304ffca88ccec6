"""A full and a read-only disk: the message names the path and the fix, and with room the same command goes on."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bad_input import published
from operator_home import Operator
from support import digests, llmill, llmill_command, outcomes, processes_of, report_of, unwrapped, wait_until

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Disk:
    """A file system in memory."""

    path: Path

    def change(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)

    def leave(self, free: int) -> None:
        """Fill it up to so many bytes, in a file that `empty` removes; others may be writing at the same time."""
        status = os.statvfs(self.path)
        wanted = max(0, status.f_bavail * status.f_frsize - free)
        with (self.path / "filling").open("wb", buffering=0) as file, suppress(OSError):
            while wanted > 0:
                wanted -= file.write(bytes(min(wanted, MEBIBYTE)))

    def empty(self) -> None:
        (self.path / "filling").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here: this needs root")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def refused(result: "subprocess.CompletedProcess[str]", *pieces: str) -> None:
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    for piece in pieces:
        assert unwrapped(piece) in unwrapped(result.stderr[result.stderr.index("llmill: ") :])


FULL = ("no space left on the disk", "Make room and run the same command again")


@pytest.mark.parametrize("free", (0, 20_000, pytest.param(200_000, marks=pytest.mark.slow)))
def test_a_disk_that_fills_while_collecting(free: int, disk: Disk, smoke: tuple[Path, dict[str, Any]]) -> None:
    """No room for the run file, for a shard, for the published part."""
    home = disk.path / "home"
    command = ("run", "smoke", "--plain", "--to", "deduplicate")
    home.mkdir()
    disk.leave(free)
    refused(llmill(*command, home=home), str(home), *FULL)
    disk.empty()
    report = report_of(llmill(*command, "--json", home=home))
    assert outcomes(report)["deduplicate"] == "built"
    assert digests(report).items() <= digests(smoke[1]).items()
    assert "running" not in llmill("runs", home=home).stdout


@pytest.mark.slow
@pytest.mark.parametrize("interval", (10, 1000))
def test_a_disk_that_fills_while_training(interval: int, disk: Disk, smoke: tuple[Path, dict[str, Any]]) -> None:
    """No room for a checkpoint, and none for the finished weights."""
    home = disk.path / "home"
    shutil.copytree(smoke[0], home, symlinks=True)
    command = ["run", "smoke", "--plain", "--to", "pretrain", "--force", "pretrain"]
    command += ["--set", f"execution.checkpoint_interval={interval}"]
    kept = published(home)
    disk.leave(MEBIBYTE)
    refused(llmill(*command, home=home), str(home / "work"), *FULL)
    assert published(home) == kept
    assert processes_of(home) == []
    disk.empty()
    report = report_of(llmill(*command, "--json", home=home))
    assert outcomes(report)["pretrain"] == "built"
    assert digests(report).items() <= digests(smoke[1]).items()


@pytest.mark.slow
def test_a_disk_that_fills_under_prefect_and_mlflow(disk: Disk, smoke: tuple[Path, dict[str, Any]]) -> None:
    """No room for their databases at the start, then for a checkpoint, which they cannot record."""
    home = disk.path / "home"
    shutil.copytree(smoke[0], home, symlinks=True)
    command = ("run", "smoke", "--to", "pretrain", "--force", "pretrain", "--set", "pretrain.steps=2000")
    disk.leave(MEBIBYTE)
    refused(llmill(*command, home=home, timeout=600), str(home), *FULL)
    disk.empty()
    process = subprocess.Popen(
        [*llmill_command(), *command],
        env={**os.environ, "LLMILL_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: list(home.glob("work/pretrain-*/keep/checkpoints/step-*")), "a checkpoint is saved", process)
    disk.leave(0)
    said = process.communicate(timeout=600)[1]
    refused(subprocess.CompletedProcess(command, process.returncode, "", said), *FULL)
    assert processes_of(home) == []
    disk.empty()
    assert llmill(*command, "--set", "pretrain.steps=40", home=home).returncode == 0


@pytest.mark.slow
def test_a_disk_that_fills_under_a_deployment_is_made_good_by_room_and_retry(disk: Disk) -> None:
    """Prefect's and MLflow's databases lie on the same disk: their servers can record nothing meanwhile."""
    disk.change("size=512m")
    home = disk.path / "home"
    with Operator(home) as operator:
        form = {"to": "pretrain", "settings": "pretrain.steps=1500\nexecution.checkpoint_interval=20"}
        flow_run = operator.submit(form)
        wait_until(operator.training, "a checkpoint")
        kept = published(home)
        disk.leave(0)
        wait_until(lambda: not operator.processes("prefect.engine", "model.trainer"), "the run ends")
        assert published(home) == kept
        disk.empty()
        assert operator.ended(flow_run)["name"] in ("Failed", "Crashed")
        assert operator.llmill("verify").returncode == 0
        operator.retry(flow_run)
        wait_until(lambda: operator.state(flow_run)["name"] != "AwaitingRetry", "another attempt")
        assert operator.ended(flow_run)["name"] == "Completed"
        assert outcomes(operator.runs()[-1])["collect"] == "reused"


def test_a_disk_that_is_read_only(disk: Disk, smoke: tuple[Path, dict[str, Any]]) -> None:
    """Nothing can be built there, and everything can be looked at."""
    home = disk.path / "home"
    shutil.copytree(smoke[0], home, symlinks=True)
    for path in home.glob("store/parts/collect/documents/*/*"):
        os.utime(path)  # a look at it re-hashes it, and wants to note that it is intact
    nobodys = home / "store/parts/filter/documents" / ("0" * 64) / "00000.parquet"
    nobodys.parent.mkdir()
    nobodys.write_bytes(bytes(MEBIBYTE))
    disk.change("ro")
    refused(llmill("run", "smoke", "--plain", home=home), str(home), "cannot be written", "LLMILL_HOME")
    for command in ("plan smoke", "inspect latest/collect", "verify"):
        result = llmill(*command.split(), home=home)
        assert result.returncode == 0, result.stderr
    planned = llmill("gc", "--dry-run", home=home)
    assert "1.0 MB would be freed" in planned.stdout, planned.stderr
    refused(llmill("gc", home=home), str(home), "read-only file system")
