"""What a stage has to say reaches its user: console, plan, `--json`, inspect, report, and the end of the run."""

import io
from pathlib import Path

import pytest
from pydantic import Field
from support import unwrapped

from flows.build import Recipe
from flows.inspect.artifact import describe, inspect_text
from flows.inspect.diff import compare_runs
from flows.pipeline import Pipeline, stages_called
from flows.plan import make_plan
from flows.recipe import load_recipe
from flows.report.summary import markdown_summary
from flows.run import execute
from flows.terminal.plan_text import notice_lines
from storage.errors import ConfigError
from storage.runs import find_run
from storage.store.local import Store
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Summary
from tasks.engine.planner import Options
from tasks.engine.stage import stage

NOTICE = "sift kept 1 of 9 documents of source <old>: 8 dropped by min_words (sift.min_words)"


class SiftConfig(StageConfig):
    """Settings of a stage that loses much."""

    notices: int = Field(1, ge=0, description="How many sentences it has to say.")


@stage("sift", parts=("words",))
def sift(config: SiftConfig, *, context: Context) -> Summary:
    (context.part("words") / "words.txt").write_text("a word")
    return {"notices": [NOTICE, *(f"notice {number}" for number in range(1, config.notices))], "words": 7}


def pipeline(notices: int = 1) -> Pipeline:
    def walk(recipe: Recipe) -> None:
        sift(SiftConfig(notices=notices))

    return Pipeline("sifting", walk, stages_called(walk))


def run(notices: int = 1) -> tuple[str, dict[str, object]]:
    out = io.StringIO()
    result, error = execute(load_recipe("smoke"), Options(), out, plain=True, pipeline=pipeline(notices))
    assert error is None
    return out.getvalue(), result["stages"][0]


def test_a_notice_stands_under_its_stage_and_at_the_end(home: Path) -> None:
    said, row = run()
    lines = said.splitlines()
    line = next(number for number, line in enumerate(lines) if line.startswith("sift        built"))
    assert lines[line].endswith("  words 7")  # the list is not a figure
    assert unwrapped("\n".join(lines[line + 1 : line + 3])) == f"notice: {NOTICE}"
    end = next(number for number, line in enumerate(lines) if line.startswith("completed"))
    assert "1 built, 0 reused, 1 notice" in lines[end]
    assert unwrapped("\n".join(lines[end + 1 : end + 3])) == f"notice {NOTICE}"
    assert row["notices"] == [NOTICE]


def test_a_run_that_reuses_says_it_again_and_its_plan_too(home: Path) -> None:
    recipe = load_recipe("smoke")
    before = make_plan(Store(home), recipe, Options(), pipeline())
    assert (before[0].record()["notices"], notice_lines(before)) == ([], [])
    run()
    plan = make_plan(Store(home), recipe, Options(), pipeline())
    assert plan[0].record()["notices"] == [NOTICE] and unwrapped(" ".join(notice_lines(plan))) == f"notice {NOTICE}"
    changed = make_plan(Store(home), recipe, Options(), pipeline(2))
    assert changed[0].decision.will == "build" and changed[0].record()["notices"] == []  # of other settings
    said, row = run()
    assert "0 built, 1 reused, 1 notice" in said and row["notices"] == [NOTICE]


def test_many_notices_are_counted_at_the_end(home: Path) -> None:
    said, _ = run(9)
    end = said[said.index("completed") :]
    assert "9 notices" in end and end.count("\nnotice ") == 6 and "and 4 more above" in end


def test_pages_and_figures(home: Path) -> None:
    run()
    run(2)
    store = Store(home)
    latest = find_run(home, "latest")
    report = home / "runs" / f"{latest['run']}.html"
    page = report.read_text()
    header = page[page.index("<header>") : page.index("</header>")]
    assert "2 notices" in header and "source &lt;old&gt;" in header and "<old>" not in page
    assert f"- {NOTICE}" in markdown_summary(store, latest, report, None)
    text = inspect_text(describe(store, "latest/sift"))
    assert f"notice: {NOTICE}" in unwrapped(text) and "notices  " not in text
    first = next(run for run in store.builds_of("sift") if run["identity"]["config"]["notices"] == 1)["run"]
    assert [stage["figures"] for stage in compare_runs(store, first, "latest")["stages"]] == [[]]


def test_a_plan_shows_that_a_long_training_will_not_be_compiled(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)

    def noticed(*changes: str) -> list[str]:
        plan = make_plan(Store(home), load_recipe("quick", changes), Options())
        return [notice for line in plan for notice in line.notices if "compile" in notice]

    gpu = ("pretrain.device=cuda", "pretrain.size=124m", "pretrain.tokens=2_500_000_000")
    (line,) = noticed(*gpu)
    assert "not compiled" in line and "there is no C compiler" in line and "Install" in line
    assert noticed(*gpu, "pretrain.compile=off") == noticed(*gpu[:2]) == noticed("pretrain.device=cpu") == []
    with pytest.raises(ConfigError, match=r"pretrain\.compile is on, but there is no C compiler"):
        noticed(*gpu, "pretrain.compile=on")
