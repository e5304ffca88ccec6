"""The last lines of a run that did not come to its end: the stage, the way on, and all that an end says."""

import io
import re
from pathlib import Path

import pytest
from support import Command

from flows.build import Recipe
from flows.pipeline import Pipeline, stages_called
from flows.recipe import load_recipe
from flows.run import execute
from storage.errors import DataError
from storage.runs import runs
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Summary
from tasks.engine.planner import Options
from tasks.engine.stage import stage

FAILING = ("--plain", "--to", "filter", "--set", "filter.min_words=100000")


class PressConfig(StageConfig):
    """Nothing to set."""


raised: BaseException | None = None


@stage("press", parts=("words",))
def press(config: PressConfig, *, context: Context) -> Summary:
    (context.part("words") / "words.txt").write_text("a word")
    return {"notices": ["one thing is to be said"]}


@stage("crush", parts=("words",), reads={"pressed": ("words",)})
def crush(config: PressConfig, pressed: object, *, context: Context) -> Summary:
    assert raised is not None
    raise raised


def said_by(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines from the end on of a run whose second stage ends so."""

    def walk(recipe: Recipe) -> None:
        crush(PressConfig(), press(PressConfig()))

    monkeypatch.setitem(globals(), "raised", error)
    out = io.StringIO()
    pipeline = Pipeline("pressing", walk, stages_called(walk))
    _, ended_by = execute(load_recipe("smoke"), Options(), out, plain=True, pipeline=pipeline)
    assert ended_by is error
    lines = out.getvalue().splitlines()
    return lines[next(number for number, line in enumerate(lines) if re.match(r"(failed|interrupted) in ", line)) :]


def check_rest(lines: list[str], home: Path) -> None:
    """What the end of a good run says too."""
    assert lines[:2] == ["            1 built, 0 reused, 1 notice", "notice      one thing is to be said"]
    assert lines[2] == f"report      {home / 'runs' / runs(home)[-1]['run']}.html"


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (RuntimeError("a bug"), "failed in N s: crush failed; go on with llmill retry DIGITS"),
        (KeyboardInterrupt(), "interrupted in N s: stopped in crush; go on with llmill retry DIGITS"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_last_line_names_the_stage_and_the_command(
    error: BaseException, end: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *rest = said_by(error, monkeypatch)
    digits = runs(home)[-1]["run"][-4:]
    assert re.sub(r"in [\d.]+ s", "in N s", first).replace(digits, "DIGITS") == end
    check_rest(rest, home)


def test_what_the_user_can_fix_may_be_fixed_in_the_recipe_and_run_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *rest = said_by(DataError("no words"), monkeypatch)
    digits = runs(home)[-1]["run"][-4:]
    assert len(first) <= 80 and second.startswith(" " * 12)
    said = f"s: crush failed; fix it and go on with llmill retry {digits}, or change the recipe and run it again: "
    assert f"{first} {second.strip()}".endswith(f"{said}what is built is reused"), "cut where 80 columns end"
    check_rest(rest, home)


def test_the_command_that_the_end_names_goes_on(home: Path, command: Command) -> None:
    def end(out: str) -> str:
        return str(re.findall(r"filter failed.*(llmill retry [0-9a-f]{4})", out)[0])

    status, out, _ = command("run", "smoke", *FAILING, home=home)
    assert status == 2
    status, out, _ = command(*end(out).split()[1:], "--plain", home=home)
    assert status == 2 and "0 built, 2 reused" in out and end(out)
