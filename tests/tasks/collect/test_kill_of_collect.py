"""kill -9 amid archives and pages: what is finished is not read again, and what comes out is the same."""

import os
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest
from support import digests, llmill, llmill_command, processes_of, report_of, wait_until

PAGE = "<html><title>{0}</title><body><article>{1}</article></body></html>"


def archives(folder: Path, count: int) -> None:
    """Archives of pages and mails, each large enough to be read alone (slices.py)."""
    folder.mkdir()
    for number in range(count):
        (folder / "page").mkdir(exist_ok=True)
        with tarfile.open(folder / f"{number}.tar", "w") as archive:
            for page in range(60):
                words = "".join(f"<p>Paragraph {n} of page {page} in archive {number}.</p>" for n in range(2000))
                path = folder / "page" / f"{page}.html"
                path.write_text(PAGE.format(page, words))
                archive.add(path, f"{page}.html")
                path.unlink()
    (folder / "page").rmdir()


@pytest.mark.slow
def test_a_killed_run_reads_only_what_is_missing(tmp_path: Path) -> None:
    archives(tmp_path / "texts", 6)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"collect: {{files: [{{path: '{tmp_path / 'texts'}'}}]}}\n")
    command = ["run", str(recipe), "--to", "collect"]
    whole = report_of(llmill(*command, "--json", home=tmp_path / "whole"))

    home = tmp_path / "killed"
    process = subprocess.Popen(
        [*llmill_command(), *command],
        env={**os.environ, "LLMILL_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(jobs(home)) >= 2, "two archives are read", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not [*processes_of(home)], "no process of the killed run is left")
    before = jobs(home)
    assert 2 <= len(before) < 6
    again = report_of(llmill(*command, "--json", home=home))
    assert before.items() <= jobs(home).items(), "what was finished stays"
    assert digests(again) == digests(whole)


def jobs(home: Path) -> dict[str, int]:
    """The records of finished jobs, with the moment of each."""
    return {path.name: path.stat().st_mtime_ns for path in (home / "store" / "jobs").rglob("*.json")}
