"""What an attempt that was killed has left: who goes on from it, who does not, and that the plan says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from storage.errors import ConfigError
from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.engine.builder import Builder
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Execution, Job, Summary
from tasks.engine.listener import StageResult
from tasks.engine.planner import Options, Planner
from tasks.engine.stage import Stage, engine_in_force, stage
from tasks.engine.unfinished import finished_shards

SEEN: list[str] = []  # what the stage found when it began, and the shards that were worked on
KILL = [True]


class TrainConfig(StageConfig):
    seed: int = Field(0, ge=0, description="A number.")


def shard(config: Any, inputs: dict[str, Path], out: Path) -> Summary:
    SEEN.append(config["name"])
    (out / "shard.txt").write_text(config["name"])
    return {}


def shard_reworded(config: Any, inputs: dict[str, Path], out: Path) -> Summary:
    SEEN.append(config["name"] + " again")
    (out / "shard.txt").write_text(config["name"])
    return {}


def train_to_the_end(context: Context, shard: Callable[..., Summary] = shard) -> Summary:
    """Two shards, then training that is killed at step 20 of 40 the first time."""
    results = context.map(shard, [Job(name, {"name": name}) for name in ("a", "b")])
    checkpoints = context.work / "checkpoints"
    SEEN.append(",".join(sorted(path.name for path in checkpoints.glob("*"))) or "nothing")
    (checkpoints / "step-00000020").mkdir(parents=True, exist_ok=True)
    (context.work / "job.json").write_text('{"schedule": {"steps": 40}}')
    if KILL[0]:
        raise KeyboardInterrupt
    (context.part("model") / "model.txt").write_text("model")
    return {"shards": len(results)}


@stage("train", parts=("model",))
def train(config: TrainConfig, *, context: Context) -> Summary:
    return train_to_the_end(context)


@stage("train", parts=("model",))
def train_reworded(config: TrainConfig, *, context: Context) -> Summary:
    unused = None
    del unused
    return train_to_the_end(context)


@stage("train", parts=("model",))
def train_on_reworded_shards(config: TrainConfig, *, context: Context) -> Summary:
    return train_to_the_end(context, shard_reworded)


@stage("train", parts=("model", "curve"))
def train_with_curve(config: TrainConfig, *, context: Context) -> Summary:
    (context.part("curve") / "curve.txt").write_text("curve")
    return train_to_the_end(context)


class TextConfig(StageConfig):
    text: str = Field("a", description="A text.")


@stage("text", parts=("text",))
def write_text(config: TextConfig, *, context: Context) -> Summary:
    (context.part("text") / "text.txt").write_text(config.text)
    return {}


@stage("train", parts=("model",), reads={"text": ("text",)})
def train_on(config: TrainConfig, text: Artifact, *, context: Context) -> Summary:
    return train_to_the_end(context)


def run(home: Path, stage: Stage = train, seed: int = 0, options: Options | None = None) -> StageResult:
    SEEN.clear()
    with Builder(Store(home), Execution(workers=1), options) as builder, engine_in_force(builder):
        stage(TrainConfig(seed=seed))
    return builder.results[-1]


def why(home: Path, stage: Stage = train, seed: int = 0, options: Options | None = None) -> tuple[str, ...]:
    planner = Planner(Store(home), options or Options())
    with engine_in_force(planner):
        stage(TrainConfig(seed=seed))
    return planner.decisions[0][1].why


@pytest.fixture
def killed(home: Path) -> Path:
    """A home in which training was killed at step 20."""
    KILL[0] = True
    with pytest.raises(KeyboardInterrupt):
        run(home)
    KILL[0] = False
    return home


KEEP, FORCE = Options(keep=frozenset({"train"})), Options(force=frozenset({"train"}))


def test_the_same_goes_on_and_the_plan_says_from_where(killed: Path) -> None:
    assert why(killed) == ("goes on from step 20 of 40", "never built")
    assert run(killed).record["resumed"]  # type: ignore[index]
    assert SEEN == ["step-00000020"]


def killed_at_the_third_shard(config: Any, inputs: dict[str, Path], out: Path) -> Summary:
    if config["name"] == "c" and KILL[0]:
        raise KeyboardInterrupt
    return shard(config, inputs, out)


@stage("train", parts=("model",))
def count_words(config: TrainConfig, *, context: Context) -> Summary:
    results = context.map(killed_at_the_third_shard, [Job(name, {"name": name}) for name in "abcd"], "files")
    (context.part("model") / "model.txt").write_text("model")
    return {"shards": len(results)}


def test_the_plan_says_how_many_shards_are_finished(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.engine.workspace.NOTED_SECONDS", 0.0)
    KILL[0] = True
    with pytest.raises(KeyboardInterrupt):
        run(home, count_words)
    assert why(home, count_words) == ("goes on from 2 of 4 files", "never built")
    first = finished_shards(next(home.glob("work/train-*")))
    with pytest.raises(KeyboardInterrupt):
        run(home, count_words)
    assert finished_shards(next(home.glob("work/train-*"))) == first, "what was reused has cost no time"
    assert why(home, count_words, seed=1) == ("never built",)
    assert why(home, count_words, options=FORCE) == ("forced",)
    with pytest.raises(KeyboardInterrupt):
        run(home, count_words, options=FORCE)
    assert SEEN == ["a", "b"], "a forced build counts anew"
    KILL[0] = False
    run(home, count_words)
    assert SEEN == ["c", "d"] and why(home, count_words) == ("up to date",)


def test_where_an_input_may_change_it_may_go_on(home: Path) -> None:
    KILL[0] = True
    with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
        text = write_text(TextConfig())
        with pytest.raises(KeyboardInterrupt):
            train_on(TrainConfig(), text)

    def why(text: str) -> tuple[str, ...]:
        planner = Planner(Store(home), Options())
        with engine_in_force(planner):
            train_on(TrainConfig(), write_text(TextConfig(text=text)))
        return planner.decisions[1][1].why

    assert why("a") == ("goes on from step 20 of 40", "never built")
    assert why("b") == ("may go on from step 20 of 40", "never built")


def test_what_a_killed_build_had_half_written_is_not_part_of_the_next(killed: Path) -> None:
    (folder,) = killed.glob("work/train-*")
    half = folder / "parts" / "model" / "half.txt"  # as kill -9 leaves it
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_text("half")
    artifact = run(killed).artifact
    assert artifact is not None and sorted(path.name for path in artifact["model"].path.iterdir()) == ["model.txt"]


def test_another_setting_abandons_it_and_the_plan_says_why(killed: Path) -> None:
    assert why(killed, seed=1) == ("abandons step 20 of 40: config train.seed: 0 -> 1", "never built")
    run(killed, seed=1)
    assert SEEN == ["a", "b", "nothing"] or SEEN == ["nothing"]


def test_other_code_abandons_it_but_for_keep(killed: Path) -> None:
    (said, _) = why(killed, train_reworded)
    assert said.startswith("abandons step 20 of 40: code ")
    (said, _) = why(killed, train_reworded, options=KEEP)
    assert said.startswith("goes on from step 20 of 40, kept: code ")
    run(killed, train_reworded, options=KEEP)
    assert SEEN == ["step-00000020"]


def test_shards_made_by_other_code_are_made_again_but_for_keep(killed: Path) -> None:
    run(killed, train_on_reworded_shards, options=KEEP)
    assert SEEN == ["step-00000020"]
    run(killed, train_on_reworded_shards, seed=1)
    assert SEEN == ["a again", "b again", "nothing"]


def test_force_goes_on_from_nothing_of_an_unforced_attempt_but_from_its_own(killed: Path) -> None:
    assert why(killed, options=FORCE) == ("abandons step 20 of 40: forced", "forced")
    KILL[0] = True
    with pytest.raises(KeyboardInterrupt):
        run(killed, options=FORCE)
    assert SEEN == ["a", "b", "nothing"]
    KILL[0] = False
    assert why(killed, options=FORCE)[0] == "goes on from step 20 of 40"
    run(killed, options=FORCE)
    assert SEEN[-1] == "step-00000020"


def test_a_kept_result_that_lacks_a_part_is_refused_by_name(home: Path) -> None:
    KILL[0] = False
    run(home)
    with pytest.raises(ConfigError, match=r"--keep train: .* no part curve"):
        why(home, train_with_curve, options=KEEP)
    with pytest.raises(ConfigError, match=r"--keep train: .* no part curve"):
        run(home, train_with_curve, options=KEEP)


def test_a_result_is_kept_though_its_function_has_another_name(home: Path) -> None:
    KILL[0] = False
    first = run(home)
    assert why(home, train_reworded)[0] == "never built in this way"
    kept = run(home, train_reworded, options=KEEP)
    assert kept.outcome == "reused" and kept.artifact == first.artifact
