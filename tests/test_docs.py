"""What the documents say holds: links lead somewhere, commands exist, and the worked example of a new stage works."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from local_stages import STAGE_NAMES as LOCAL_STAGES
from support import ROOT

from flows.cli.main import _parser
from flows.plan import STAGE_NAMES
from flows.recipe import load_recipe

PAGES = [page for pattern in ("*.md", "docs/*.md", "tasks/*/*.md") for page in sorted(ROOT.glob(pattern))]
PACKAGES = ("flows", "tasks", "model", "storage", "tests")

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_COMMAND = re.compile(r"\bllmill (?:<[^>]+>|([a-z]+))((?: [^`\n|#]*)?)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_PATH = re.compile(r"`((?:flows|tasks|model|storage|docs|tests|benchmarks|deployments)/[\w./-]*)`")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = page.read_text()
    for one, other in _LINK.findall(_FENCE.sub("", text)):
        target, _, heading = (one or other).partition("#")
        if target.startswith(("http://", "https://")):
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if heading:
            headings = {_anchor(title) for title in _HEADING.findall(file.read_text())}
            assert heading in headings, f"{page.name}: {heading}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "add-a-stage.md"], ids=_name)
def test_files_that_are_named_exist(page: Path) -> None:
    for path in _PATH.findall(page.read_text()):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_that_docstrings_and_comments_name_exist(package: str) -> None:
    known = {path.name for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    for file in sorted((ROOT / package).rglob("*.py")):
        text = file.read_text()
        for name in re.findall(rf"(?<![\w/.])((?:{'|'.join(PACKAGES)})(?:/[a-z_0-9]+)+\.py)\b", text):
            assert name == "tests/tasks/test_longest.py" or (ROOT / name).is_file(), f"{file} names {name}"
        for name in re.findall(r"\(([a-z_0-9]+\.py)[),]", text):
            assert name in known, f"{file} names {name}"


@pytest.mark.parametrize("folder", ["flows", "tasks/evaluate"])
def test_folders_named_after_a_library_do_not_hide_it(folder: str) -> None:
    """Wherever the command is started: `llmill` imports from its environment, not from the current folder."""
    code = "import importlib.util, flows.cli.main; [print(importlib.util.find_spec(name).origin) for name in {}]"
    names = ("prefect", "mlflow", "lm_eval")
    command = [sys.executable, "-P", "-c", code.format(names)]
    done = subprocess.run(command, cwd=ROOT / folder, capture_output=True, text=True, check=True)
    assert [Path(line).parent.name for line in done.stdout.split()] == list(names)
    assert str(ROOT / "flows") not in done.stdout and str(ROOT / "tasks") not in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_and_their_options_exist(page: Path) -> None:
    commands = _commands()
    for name, rest in _commands_in(page.read_text()):
        assert name in commands, f"{page.name}: llmill {name}"
        known = {option for parser in _with_actions(commands[name]) for option in parser._option_string_actions}
        assert set(_OPTION.findall(rest)) <= known, f"{page.name}: llmill {name} {rest}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_settings_exist(page: Path) -> None:
    settings = re.findall(r"--set ([a-z_]+(?:\.[a-z0-9_]+)+)=(\S+?)(?=[\s`)]|$)", page.read_text())
    for path, value in settings:
        if path.startswith("longest."):
            continue  # the worked example's own
        needed = {
            "collect.files.0": ("collect.files=[{path: x}]",),
            "execution.ray_address": ("execution.executor=ray",),
            "execution.nodes": ("execution.node_address=10.0.0.5:29500", "pretrain.processes=2"),
            "execution.node_address": ("execution.nodes=2", "pretrain.processes=2"),
        }
        extra = [setting for begin, settings in needed.items() if path.startswith(begin) for setting in settings]
        load_recipe("quick", [*extra, f"{path}={'1' if value == '...' else value}"])


def test_the_hooks_before_a_commit_are_what_make_lint_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"].replace(".venv/bin", "$(BIN)") for hook in repository["hooks"]]
    rule = (ROOT / "Makefile").read_text().partition("\nlint: $(VENV)/installed-dev\n")[2].partition("\n\n")[0]
    assert hooks == [line.strip() for line in rule.splitlines()]
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in repository["hooks"])


def test_every_stage_has_its_page() -> None:
    leads = re.findall(r"^\| \[(\w+)\]\(\.\./(\S+)\)", (ROOT / "docs" / "stages.md").read_text(), re.MULTILINE)
    assert tuple(name for name, _ in leads) == STAGE_NAMES
    assert all(re.fullmatch(rf"tasks/\w+/README\.md#{name}|tasks/\w+\.py", page) for name, page in leads)


@pytest.mark.parametrize("page", ["settings", "stages"])
def test_pages_that_are_made_from_the_code_are_those_of_the_code(page: str) -> None:
    command = [sys.executable, "-m", f"docs.{page}"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert made.stdout == (ROOT / "docs" / f"{page}.md").read_text(), "make docs"


def test_the_page_on_new_stages_works_when_it_is_followed(tmp_path: Path) -> None:
    copy = tmp_path / "llmill"
    for package in (*PACKAGES, "deployments"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", copy)
    shutil.copytree(ROOT / "docs", copy / "docs")
    for language, block in _FENCE.findall((ROOT / "docs" / "add-a-stage.md").read_text()):
        header, _, body = block.partition("\n")
        file = copy / header.removeprefix("# ")
        if language == "diff":
            old, new = ("".join(_side(body, sign)) for sign in "-+")
            assert file.read_text().count(old) == 1, f"not in {header} as the page says:\n{old}"
            file.write_text(file.read_text().replace(old, new))
        else:
            assert not file.exists()
            file.write_text(body)

    environment = {**os.environ, "PYTHONPATH": str(copy), "LLMILL_HOME": str(tmp_path / "home")}

    def python(*arguments: str) -> str:
        command = [sys.executable, *(["-m"] if arguments[0] != "-c" else []), *arguments]
        result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    python("ruff", "check", "tasks", "flows", "tests/tasks")
    tested = (
        "tests/tasks/test_longest.py",
        "tests/flows/test_build.py",
        "tests/test_docs.py::test_every_stage_has_its_page",
    )
    for page in ("settings", "stages"):
        (copy / "docs" / f"{page}.md").write_text(python(f"docs.{page}"))
    assert "11 passed" in python("pytest", "-q", "-p", "no:cacheprovider", *tested)
    stages = [*LOCAL_STAGES[:3], "longest", *LOCAL_STAGES[3:]]
    command = ("flows.cli.main", "run", "smoke", "--plain", "--to", "tokenize")
    python(*command)  # builds that the estimate of the next one is made from
    changed = ("--set", "longest.documents=100", "--set", "execution.stages.longest.retries=1")
    plan = json.loads(python("flows.cli.main", "plan", "smoke", *changed, "--json"))["stages"]
    assert [line["stage"] for line in plan] == stages
    assert plan[3]["why"] == ["config longest.documents: 1000000 -> 100"] and plan[3]["estimate_seconds"] is not None
    made = json.loads(python(*command, *changed, "--json"))
    assert [row["outcome"] for row in made["stages"]] == ["reused"] * 3 + ["built"] * 3
    report = Path(made["report"]).read_text()
    assert "Dropped by longest" in report and "shortest words" in report
    (dropped,) = python("flows.cli.main", "cat", "latest/longest/ledger", "--limit", "1").splitlines()
    said = python("flows.cli.main", "explain", "latest", json.loads(dropped)["id"]).splitlines()
    assert said[-1].split()[:3] == ["longest", "dropped", "words"]
    form = python("-c", "from flows.build import Recipe; print(Recipe.model_json_schema()['properties'].keys())")
    assert "'longest'" in form
    assert "| `longest.documents` | 1,000,000 |" in python("docs.settings")
    assert "| [longest](../tasks/longest.py) | Keep the longest training documents |" in python("docs.stages")
    retrained = python("flows.cli.main", "plan", "smoke", "--retrain", "--json")
    assert [line["stage"] for line in json.loads(retrained)["stages"]][3] == "longest"


def _side(diff: str, sign: str) -> Iterator[str]:
    for line in diff.splitlines(keepends=True):
        if line[0] in (" ", sign):
            yield line[1:]


def _commands() -> dict[str, argparse.ArgumentParser]:
    actions = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(next(actions).choices)


def _with_actions(command: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A command, and the actions below it: `llmill keys add`."""
    below = (action for action in command._actions if isinstance(action, argparse._SubParsersAction))
    return [command, *(parser for actions in below for parser in actions.choices.values())]


def _commands_in(text: str) -> Iterator[tuple[str, str]]:
    """Name and rest of each command in a code block or in backticks; prose about llmill is not one."""
    code = [block for _, block in _FENCE.findall(text)] + re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))
    for piece in code:
        for line in piece.splitlines():
            for name, rest in _COMMAND.findall(line.partition("  ")[0] if line.startswith("llmill ") else line):
                if name:
                    yield name, rest


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
