"""A run of another pipeline: its own stages are planned, built, checked and said."""

import io
from pathlib import Path

import pytest

from flows.build import Recipe
from flows.pipeline import Pipeline, stages_called
from flows.plan import make_plan
from flows.recipe import load_recipe
from flows.run import execute
from storage.errors import ConfigError
from storage.runs import find_run
from storage.store.local import Store
from tasks.collect.stage import collect
from tasks.deduplicate import deduplicate
from tasks.engine.planner import Options


def gather(recipe: Recipe) -> object:
    return deduplicate(recipe.deduplicate, collect(recipe.collect))


GATHER = Pipeline("gather", gather, stages_called(gather))


def test_a_run_walks_the_pipeline_that_it_is_given(home: Path) -> None:
    result, error = execute(load_recipe("smoke"), Options(), io.StringIO(), plain=True, pipeline=GATHER)
    assert error is None and result["status"] == "completed"
    assert [row["stage"] for row in result["stages"]] == ["collect", "deduplicate"]
    assert find_run(home, "latest")["pipeline"] == "gather"
    plan = make_plan(Store(home), load_recipe("smoke"), Options(), GATHER)
    assert [(line.stage, line.decision.will) for line in plan] == [("collect", "reuse"), ("deduplicate", "reuse")]


def test_only_its_own_stages_can_be_named(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"Stages: collect, deduplicate$"):
        make_plan(Store(home), load_recipe("smoke"), Options(to="pretrain"), GATHER)


def test_after_a_failure_its_own_stages_are_skipped(home: Path) -> None:
    recipe = load_recipe("smoke", ["collect.synthetic=null", f"collect.files=[{{path: {home / 'gone.txt'}}}]"])
    (home / "gone.txt").write_text("a text")
    result, error = execute(recipe, Options(), io.StringIO(), plain=True, pipeline=GATHER)
    assert [row["outcome"] for row in result["stages"]] == ["failed", "skipped"] and error is not None
