"""`llmill doctor`: what it finds on a machine that is ready, and on ones that are not."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from support import llmill

from flows.maintain.doctor import Finding, examine


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_this_machine_is_ready_and_nothing_is_written(home: Path) -> None:
    result = llmill("doctor", home=home)
    assert result.returncode == 0, result.stdout
    lines = result.stdout.splitlines()
    assert lines[-1] == "ready: llmill run" and max(map(len, lines)) < 200
    for name in ("llmill", "Python", "packages", "torch", "device", "memory", "disk", "file system"):
        assert any(line.split(maxsplit=1)[1].startswith(name) for line in lines), name
    assert list(home.iterdir()) == []


def test_addresses_are_shown_without_their_passwords(home: Path) -> None:
    environment = {
        "PREFECT_API_URL": "https://ada:secret@prefect.example/api",
        "MLFLOW_TRACKING_URI": "postgresql://ada:secret@db.example/mlflow",
    }
    result = llmill("doctor", "--json", home=home, environment=environment)
    assert "secret" not in result.stdout and "ada" not in result.stdout.replace(str(home), "")
    found = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert found["PREFECT_API_URL"]["found"] == "https://prefect.example/api"
    assert found["MLFLOW_TRACKING_URI"]["state"] == "note"


def test_databases_are_shown_without_their_passwords_and_wrong_addresses_are_problems(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://ada:se/cr@et@db/prefect")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ada:secret@db/mlflow?password=secret")
    findings = by_name(examine())
    assert findings["PREFECT_API_DATABASE_CONNECTION_URL"].found == "postgresql+asyncpg://db/prefect"
    assert findings["PREFECT_API_DATABASE_CONNECTION_URL"].state == findings["MLFLOW_TRACKING_URI"].state == "note"
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql://ada:secret@db/prefect")
    monkeypatch.setenv("PREFECT_API_URL", "prefect.example:4200/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ada:secret@db:port/mlflow")
    findings |= by_name(examine())
    for name, fix in (
        ("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://USER"),
        ("PREFECT_API_URL", "http://127.0.0.1:4200/api"),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000"),
    ):
        assert findings[name].state == "problem" and fix in findings[name].fix
    assert not any("secret" in finding.found + finding.fix for finding in findings.values())


def test_a_proxy_is_said_and_what_goes_past_it(home: Path) -> None:
    proxy = {"http_proxy": "http://ada:secret@proxy.example:3128", "no_proxy": "inside.example"}
    result = llmill("doctor", "--json", home=home, environment=proxy)
    found = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}["proxy"]
    assert found["state"] == "note" and found["found"].startswith("http://proxy.example:3128 for http")
    assert "inside.example,localhost,127.0.0.1,::1" in found["fix"] and "secret" not in result.stdout


def test_a_home_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = llmill("doctor", home=tmp_path / "file" / "home")
    assert result.returncode == 1 and "cannot be written" in result.stdout and "LLMILL_HOME" in result.stdout


def test_a_version_known_to_break_is_a_problem_with_its_fix(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.151.0" if name == "fastapi" else real(name))
    finding = by_name(examine())["packages"]
    assert finding.state == "problem" and "fastapi 0.151.0, needs <0.151" in finding.found
    assert "constraints.txt" in finding.fix


def test_a_gpu_without_a_compiler_is_noted_with_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata
    import shutil

    assert "compiler" not in by_name(examine()), "on a CPU nothing is compiled"
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("flows.maintain.doctor.training_device", lambda requested: "cuda")
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cu130" if name == "torch" else real(name))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    finding = by_name(examine())["compiler"]
    assert finding.state == "note" and "no C compiler" in finding.found and "gcc" in finding.fix
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/gcc")
    assert by_name(examine())["compiler"].state == "ok"


def test_a_port_in_use_is_noted(home: Path) -> None:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 4200))
        except OSError:
            pytest.skip("another program has port 4200")
        taken.listen()
        finding = by_name(examine())["port 4200"]
    assert finding.state == "note" and "--prefect-port" in finding.fix


def test_a_store_of_a_newer_version_is_a_problem(home: Path) -> None:
    manifest: dict[str, Any] = {"format": 99, "stage": "filter", "parts": {}}
    (home / "store" / "artifacts").mkdir(parents=True)
    (home / "store" / "artifacts" / ("a" * 64 + ".json")).write_text(json.dumps(manifest))
    finding = by_name(examine())["store"]
    assert finding.state == "problem" and "newer llmill" in finding.found
