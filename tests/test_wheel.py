"""The wheel: it holds what the packages have, and a model comes out of it where there is no checkout."""

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from local_stages import STAGE_NAMES
from support import ROOT

PACKAGES = ("flows", "tasks", "model", "storage", "deployments")

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(*paths: str) -> set[str]:
    """Files that belong to the project: with those about to be added, without those that git ignores."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout, so nobody knows which files belong to the project")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *paths, cwd=ROOT).splitlines()
    return {name for name in listed if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no earlier build's leftovers come in and the checkout stays clean."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    for private in ("deployments/.env", "deployments/data/poem.yaml", "deployments/data/code.py"):
        (source / private).parent.mkdir(exist_ok=True)
        (source / private).write_text("# not for others\n")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", made)
    run(sys.executable, "-m", "pip", "wheel", *options, source, cwd=made)
    (path,) = made.glob("llmill-*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and the libraries of this one: not the editable install, whose hook stays out
    since the path file of one folder runs no path files of another."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    libraries = [path for path in sys.path if path.endswith("-packages")]
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text("\n".join(libraries))
    return python


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == tracked(*PACKAGES)


def test_the_wheel_states_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
        assert {"License-Expression: Apache-2.0", "License-File: LICENSE"} <= set(lines)
        (licence,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_a_model_comes_out_of_the_wheel(python: Path, home: Path, tmp_path: Path) -> None:
    site = python.parents[1] / "lib"
    code = f"import importlib.util as u; [print(*u.find_spec(n).submodule_search_locations) for n in {PACKAGES}]"
    assert all(Path(line).is_relative_to(site) for line in run(python, "-c", code, cwd=tmp_path).splitlines())

    llmill = python.with_name("llmill")
    made = json.loads(run(llmill, "run", "smoke", "--plain", "--json", cwd=tmp_path))
    assert [stage["outcome"] for stage in made["stages"]] == ["built"] * len(STAGE_NAMES)
    (copy,) = (path for path in (home / "cache" / "code").iterdir() if path.is_dir())
    (package,) = site.glob("python*/site-packages/flows")
    assert sources(copy / "flows") == sources(package), "the run's copy of the code is the wheel's"
    assert run(llmill, "generate", "Where does Ada Holm live?", cwd=tmp_path).strip()


def sources(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.py")}
