"""The command line as a user meets it: exit status, messages, JSON. Real subprocesses on the plain path."""

import gzip
import json
import os
import subprocess
import tomllib
from pathlib import Path

from local_stages import STAGE_NAMES
from support import ROOT, llmill_command, unwrapped


def llmill(*arguments: str, cwd: Path | None = None, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*llmill_command(), *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout, env=dict(os.environ)
    )


def test_a_cut_gz_keeps_its_whole_records(home: Path, tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": f"Document number {n} says something else."}) + "\n" for n in range(400))
    packed = gzip.compress(rows.encode())
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("collect: {files: [{path: a.jsonl.gz, allow_truncated: true}]}\n")
    result = llmill("run", str(recipe), "--plain", "--to", "collect", "--json")
    assert result.returncode == 0, result.stderr
    (stage,) = json.loads(result.stdout)["stages"]
    summary = stage["artifact"]["summary"]
    assert summary["kept"] > 50 and summary["quarantined"] == 1, "whole records before the cut are kept"


def test_a_folder_that_is_gone_and_a_terminal_without_letters(home: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$0" && rmdir "$0" && exec "$@"'
    result = subprocess.run(
        ["sh", "-c", script, gone, *llmill_command(), "plan", "smoke"], capture_output=True, text=True
    )
    assert result.returncode == 2 and "the current folder is gone" in unwrapped(result.stderr)
    (home / "runs").mkdir()
    run = {"format": 1, "run": "é", "recipe_name": "é", "status": "completed", "started": "2026", "stages": []}
    (home / "runs" / "é.json").write_text(json.dumps(run))
    result = subprocess.run(
        [*llmill_command(), "runs"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and "\\xe9" in result.stdout, result.stderr


def test_nothing_is_lost_by_a_failure(home: Path) -> None:
    failed = llmill("run", "smoke", "--plain", "--json", "--to", "filter", "--set", "filter.min_words=100000")
    report = json.loads(failed.stdout)
    assert report["status"] == "failed"
    outcomes = {stage["stage"]: stage["outcome"] for stage in report["stages"]}
    assert outcomes["deduplicate"] == "built" and outcomes["filter"] == "failed" and outcomes["release"] == "skipped"
    fixed = llmill("run", "smoke", "--plain", "--json", "--to", "filter")
    outcomes = {stage["stage"]: stage["outcome"] for stage in json.loads(fixed.stdout)["stages"]}
    assert outcomes == {"collect": "reused", "deduplicate": "reused", "filter": "built"}


def test_the_plan_imports_nothing_heavy_and_writes_caches_alone(home: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from flows.cli.main import main\n"
        "try:\n    main(['plan', 'quick', '--json'])\n"
        "finally:\n"
        "    heavy = {'prefect', 'mlflow', 'torch', 'datasets', 'lm_eval', 'transformers', 'fsspec', 's3fs'}\n"
        "    heavy = (heavy | {'botocore'}) & set(sys.modules)\n"
        "    print(sorted(heavy), file=sys.stderr)\n"
    )
    python = llmill_command()[0].removesuffix("llmill") + "python"
    result = subprocess.run([python, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr.strip() == "[]"
    stages = json.loads(result.stdout)["stages"]
    assert [stage["will"] for stage in stages] == ["build"] * len(STAGE_NAMES)
    assert {path.name for path in home.iterdir()} <= {"cache"}
    assert {path.name for path in (home / "cache").iterdir()} <= {"file-hashes.sqlite", "reach"}


def test_the_version_is_that_of_the_project(home: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert llmill("--version").stdout == f"llmill {version}\n"
    first = llmill("doctor").stdout.splitlines()[0]
    assert first.split(maxsplit=2) == ["ok", "llmill", f"{version}, code in {ROOT}"]


def test_help_names_every_command(home: Path) -> None:
    result = llmill("--help")
    assert result.returncode == 0
    building, looking = ("run", "plan", "generate", "ui"), ("runs", "report", "diff", "inspect", "cat", "explain")
    for command in (*building, *looking, "verify", "gc", "doctor"):
        assert f"    {command} " in result.stdout
