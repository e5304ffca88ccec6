"""The command line as a user meets it: exit status, messages, JSON. Real subprocesses on the plain path."""

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest
from support import llmill_command


def llmill(*arguments: str, cwd: Path | None = None, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*llmill_command(), *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout, env=dict(os.environ)
    )


TEXTS = "collect: {{files: [{{path: {path}}}]}}\n"


def recipe(tmp_path: Path, text: str) -> str:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    return str(file)


def refused(result: "subprocess.CompletedProcess[str]", *pieces: str) -> None:
    """Exit status 2, a message with these pieces, no traceback."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    last = result.stderr[result.stderr.index("llmill: ") :]
    for piece in pieces:
        assert piece in last, last


def test_unknown_recipe(home: Path) -> None:
    refused(llmill("run", "quik"), "quik", "did you mean 'quick'")


def test_bad_yaml(home: Path, tmp_path: Path) -> None:
    refused(llmill("run", recipe(tmp_path, "collect: {")), "recipe.yaml", "line 1", "not valid YAML")


def test_unknown_key(home: Path) -> None:
    refused(llmill("run", "smoke", "--set", "filter.min_word=3"), "filter.min_word", "did you mean 'min_words'")


def test_value_out_of_bounds(home: Path) -> None:
    refused(
        llmill("run", "smoke", "--set", "collect.max_bad_fraction=3"), "collect.max_bad_fraction", "less than or equal"
    )


def test_path_that_matches_nothing(home: Path, tmp_path: Path) -> None:
    refused(llmill("run", recipe(tmp_path, TEXTS.format(path="nowhere/*.txt")), "--plain"), "nowhere")


def test_wrong_text_field(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "Some words here.", "title": "x"}\n')
    result = llmill("run", recipe(tmp_path, TEXTS.format(path="a.jsonl")), "--plain")
    refused(result, "a.jsonl", "text", "body")


def test_empty_file(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    refused(llmill("run", recipe(tmp_path, TEXTS.format(path="a.txt")), "--plain"), "a.txt", "empty")


def test_cut_gz(home: Path, tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": f"Document number {n} says something else."}) + "\n" for n in range(400))
    packed = gzip.compress(rows.encode())
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    strict = recipe(tmp_path, "collect: {files: [{path: a.jsonl.gz}], max_bad_fraction: 0}\n")
    refused(llmill("run", strict, "--plain", "--to", "collect"), "a.jsonl.gz", "max_bad_fraction")
    lenient = recipe(tmp_path, "collect: {files: [{path: a.jsonl.gz}], max_bad_fraction: 0.5}\n")
    result = llmill("run", lenient, "--plain", "--to", "collect", "--json")
    assert result.returncode == 0, result.stderr
    (stage,) = json.loads(result.stdout)["stages"]
    summary = stage["artifact"]["summary"]
    assert summary["kept"] > 50 and summary["quarantined"] == 1, "whole records before the cut are kept"


def test_no_document_left_names_the_rule_that_took_most(home: Path) -> None:
    result = llmill("run", "smoke", "--plain", "--to", "filter", "--set", "filter.min_words=100000")
    refused(result, "min_words")


def test_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMILL_HOME", str(tmp_path / "file" / "home"))
    refused(llmill("run", "smoke", "--plain"), "cannot be written", "LLMILL_HOME")


def test_unknown_stage(home: Path) -> None:
    refused(llmill("run", "smoke", "--to", "filtr"), "--to filtr", "filter")


def test_nothing_is_lost_by_a_failure(home: Path) -> None:
    failed = llmill("run", "smoke", "--plain", "--json", "--to", "filter", "--set", "filter.min_words=100000")
    report = json.loads(failed.stdout)
    assert report["status"] == "failed"
    outcomes = {stage["stage"]: stage["outcome"] for stage in report["stages"]}
    assert outcomes["deduplicate"] == "built" and outcomes["filter"] == "failed" and outcomes["release"] == "skipped"
    mended = llmill("run", "smoke", "--plain", "--json", "--to", "filter")
    outcomes = {stage["stage"]: stage["outcome"] for stage in json.loads(mended.stdout)["stages"]}
    assert outcomes == {"collect": "reused", "deduplicate": "reused", "filter": "built"}


def test_the_plan_imports_nothing_heavy_and_writes_nothing(home: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from flows.cli import main\n"
        "try:\n    main(['plan', 'quick', '--json'])\n"
        "finally:\n"
        "    heavy = {'prefect', 'mlflow', 'torch', 'datasets', 'lm_eval', 'transformers'} & set(sys.modules)\n"
        "    print(sorted(heavy), file=sys.stderr)\n"
    )
    python = llmill_command()[0].removesuffix("llmill") + "python"
    result = subprocess.run([python, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr.strip() == "[]"
    stages = json.loads(result.stdout)["stages"]
    assert [stage["will"] for stage in stages] == ["build"] * 9
    assert list(home.rglob("*")) in ([], [home / "cache"], [home / "cache", home / "cache" / "file-hashes.sqlite"])


def test_help_names_every_command(home: Path) -> None:
    result = llmill("--help")
    assert result.returncode == 0
    building, looking = ("run", "plan", "generate", "ui"), ("runs", "report", "diff", "inspect", "cat", "explain")
    for command in (*building, *looking, "verify", "gc", "doctor"):
        assert f"    {command} " in result.stdout
