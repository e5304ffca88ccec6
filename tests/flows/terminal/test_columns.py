"""What the commands print fits 80 columns, but for paths, addresses and names that are longer than what is left."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from support import Command

from flows.build import BUILD
from flows.cli.main import _parser
from flows.terminal.columns import NAMES, WIDTH, folded

COMMANDS = list(next(iter(_parser()._subparsers._group_actions)).choices)  # type: ignore[union-attr,arg-type]
LONG = 30  # a word that is not broken: a path, an address, a digest, the name of a run


def check_columns(text: str) -> None:
    """Every line fits, or ends in one long word that is alone behind at most 50 columns."""
    for line in text.splitlines():
        rest, _, last = line.rpartition(" ")
        fits = len(line) <= WIDTH or (len(last) >= LONG and len(rest) <= 50 and len(rest.split()) <= 4)
        assert fits, f"{len(line)} columns: {line}\n\n{text}"


def test_the_names_of_all_stages_leave_a_space_behind_them() -> None:
    assert all(len(name) < NAMES for name in BUILD.stage_names)


@pytest.fixture(scope="module")
def lived_in(smoke: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the smoke home for all that is printed of it."""
    home = tmp_path_factory.mktemp("columns") / "home"
    shutil.copytree(smoke[0], home, symlinks=True)
    return home


LOOKS = (
    *("runs", "champion", "doctor", "verify", "gc --dry-run", "plan smoke", "plan quick", "plan smoke --retrain"),
    "plan smoke --set filter.preset=gopher --set tokenizer.vocabulary_size=600 --set pretrain.size=micro",
    *(f"inspect latest/{stage}" for stage in ("collect", "filter", "pretrain", "evaluate", "release")),
    *("inspect latest/filter/ledger", "inspect latest/evaluate/scores", "cat latest/filter --limit 0"),
)
ERRORS = (
    *("nonsense", "run smoke --plane", "run smoke --to tokeniser", "inspect latest/tokenzier", "retry latest"),
    *("inspect latest/pretrain/model/x", "diff latest nonsense", "explain latest nonsense", "promote nonsense"),
    *("rollback", "generate x --top-p 3", "gc --keep-runs -1", "runs --status nonsense", "runs --recipe nonsense"),
    "plan smoke --set filter.preset=web --set pretrain.size=tiny --set filter.min_wrods=3",
    "plan smoke --set collect.files=[{path:\u00a0/nowhere}]",
    "plan smoke --set evaluate.stride=4096",
    "ui --prefect-port 4999 --mlflow-port 4999",
    "deploy --file /nowhere/prefect.yaml",
)


@pytest.mark.parametrize("line", [*LOOKS, *ERRORS, "--help", *(f"{name} --help" for name in COMMANDS)])
def test_what_a_command_prints_fits(
    line: str, lived_in: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # argparse's own width is that of the terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # elsewhere a message stays whole
    status, out, err = command(*line.split(" "), home=lived_in)
    assert status in ((2,) if line in ERRORS else (0, 1)), err
    check_columns(out + err)


def test_what_runs_print_fits(lived_in: Path, command: Command) -> None:
    """A champion and a retraining that finds nothing new, a run that fails, and what looks back at them."""
    document = command.json("cat", "latest/filter", "--limit", "1", home=lived_in)[0]["id"]
    dropped = command.json("cat", "latest/filter/ledger", "--limit", "1", home=lived_in)[0]["id"]
    said = [
        command(*line.split(), home=lived_in)
        for line in (
            *("promote latest", "retrain smoke --plain", "run smoke --plain --set filter.min_words=900", "runs"),
            "run smoke --plain --to filter --set filter.min_words=20 --set filter.max_words=3000 --force deduplicate",
            *("retrain smoke --plain --set filter.min_words=900", "champion", "rollback", "gc --dry-run"),
            *(f"explain latest {document}", f"explain latest {dropped}"),
        )
    ]
    for _, out, _ in said:
        check_columns(out)
    assert [status for status, _, _ in said[:7]] == [0, 0, 2, 0, 0, 2, 0]
    names = [run["run"][-4:] for run in command.json("runs", home=lived_in)]
    for new in names[1:]:
        check_columns(command("diff", names[0], new, home=lived_in)[1])


def test_damage_and_what_is_wrong_with_a_machine_fit_too(
    lived_in: Path, home: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(lived_in, home, dirs_exist_ok=True, symlinks=True)
    next(path for path in (home / "store/parts/filter").rglob("*.parquet")).unlink()
    (home / "runs" / "damaged.json").write_text("{")
    monkeypatch.setenv("PREFECT_API_URL", "postgres:/nonsense")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///tmp/some/folder/of/a/user/who/likes/long/names/mlflow.db")
    for line, expected in (("verify", 1), ("doctor", 1), ("plan smoke", 0), ("runs", 0), ("inspect latest/filter", 0)):
        status, out, err = command(*line.split(), home=home)
        assert status == expected, (line, out, err)
        check_columns(out + err)


def test_a_line_goes_on_under_its_last_column() -> None:
    words = "word " * 16 + "end"
    assert folded(f"ok       home  {words}").splitlines()[1].startswith(" " * 15 + "word")
    assert folded(f"    {words}").splitlines()[1].startswith("    word")
    assert folded(f"plain {words}").splitlines()[1].startswith("  word")
    path = "/" + "a" * 100
    assert folded(f"report      {path}") == f"report      {path}"
    assert folded(f"it lies in {path} now").splitlines() == ["it lies in", f"  {path}", "  now"]
    assert folded(f"report      /my texts/{words}") == f"report      /my texts/{words}", "spaces or not"
