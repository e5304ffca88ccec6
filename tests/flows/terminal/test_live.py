"""The line of a stage that ends: what became better comes first."""

import io

from flows.build import Recipe
from flows.pipeline import Pipeline, stages_called
from flows.recipe import load_recipe
from flows.run import execute
from tasks.engine.about import About
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Summary
from tasks.engine.planner import Options
from tasks.engine.stage import stage

TAUGHT = About(telling=("loss", "loss_before", "loss_of_no_model"))


class TeachConfig(StageConfig):
    """Nothing to set."""


@stage("teach", parts=("words",), about="test_live.TAUGHT")
def teach(config: TeachConfig, *, context: Context) -> Summary:
    (context.part("words") / "words.txt").write_text("a word")
    return {"pairs": 1_100, "loss_before": 3.25, "loss": 1.5}


def test_what_became_better_is_said_before_what_was_counted(home: object) -> None:
    def walk(recipe: Recipe) -> None:
        teach(TeachConfig())

    out = io.StringIO()
    execute(load_recipe("smoke"), Options(), out, plain=True, pipeline=Pipeline("teaching", walk, stages_called(walk)))
    line = next(line for line in out.getvalue().splitlines() if line.startswith("teach       built"))
    assert line.split(" s  ")[1] == "loss 1.5, loss before 3.25, pairs 1,100"
