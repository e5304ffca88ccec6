"""How far a stage is, shown with a rate of the last half minute; and what a stage may not do in its folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Clock

from storage.canonical import digest_file
from storage.store.artifacts import StoredFile
from storage.store.local import Store
from tasks.engine.builder import Builder
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Execution, Job, Summary
from tasks.engine.listener import Listener
from tasks.engine.meter import RATE_SECONDS, Progress
from tasks.engine.stage import engine_in_force, stage


class Witness(Listener):
    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.rows: list[Any] = []

    def progressed(self, stage: str, progress: Progress) -> None:
        self.progress.append(progress)

    def measured(self, stage: str, rows: Any) -> None:
        self.rows += rows


ACTIONS: list[Callable[[Context], object]] = []


@stage("acting", parts=("out",))
def acting(config: StageConfig, *, context: Context) -> Summary:
    for action in ACTIONS:
        action(context)
    (context.part("out") / "out.txt").write_text("done")
    return {}


def act(home: Path, *actions: Callable[[Context], object]) -> Witness:
    witness = Witness()
    ACTIONS[:] = actions
    with Builder(Store(home), Execution(workers=1), listeners=[witness]) as builder, engine_in_force(builder):
        acting(StageConfig())
    return witness


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("tasks.engine.meter.time", found)
    return found


def rates(witness: Witness) -> list[tuple[float | None, float | None]]:
    return [(one.rate, one.seconds_left) for one in witness.progress]


def test_the_rate_is_that_of_the_last_half_minute(home: Path, clock: Clock) -> None:
    """10 a second for two half minutes, then 1 a second: half a minute later nothing else counts."""

    def progress(done: float, seconds: float) -> Callable[[Context], None]:
        def tell(context: Context) -> None:
            clock.sleep(seconds)
            context.progress(done, 1000, "documents", shards=2)

        return tell

    half = RATE_SECONDS
    steps = [(0, 0), (100, 10), (300, 20), (600, half), (600 + half / 2, half / 2), (601 + half, half / 2 + 1)]
    witness = act(home, *(progress(*step) for step in steps))
    assert [(one.done, one.total, one.unit, one.figures) for one in witness.progress] == [
        (done, 1000, "documents", {"shards": 2}) for done, _ in steps
    ]
    found = rates(witness)
    assert found[0] == (None, None)
    assert found[1] == (10, 90) and found[2] == (10, 70) and found[3] == (10, 40)
    assert found[4] == pytest.approx((315 / 45, 385 / 7))
    assert found[5] == (1, 369)


def test_without_a_step_there_is_no_rate_and_what_starts_over_is_measured_from_there(home: Path, clock: Clock) -> None:
    def tell(done: float, seconds: float) -> Callable[[Context], None]:
        def action(context: Context) -> None:
            clock.sleep(seconds)
            context.progress(done, 100, "steps")

        return action

    witness = act(home, tell(50, 0), tell(50, 5), tell(60, 5), tell(10, 5), tell(30, 5))
    assert rates(witness) == [(None, None), (None, None), (1, 40), (None, None), (4, 17.5)]


def test_rows_of_metrics_are_handed_on(home: Path) -> None:
    assert act(home, lambda context: context.metrics([{"step": 1, "loss": 2.0}])).rows == [{"step": 1, "loss": 2.0}]


def test_a_part_that_is_not_declared_or_not_written_is_an_error_of_the_stage(home: Path) -> None:
    with pytest.raises(KeyError, match="stage acting declares no part 'other'"):
        act(home, lambda context: context.part("other"))

    @stage("forgetful", parts=("out", "more"))
    def forgetful(config: StageConfig, *, context: Context) -> Summary:
        context.part("out")
        return {}

    with (
        Builder(Store(home), Execution(workers=1)) as builder,
        engine_in_force(builder),
        pytest.raises(RuntimeError, match="stage forgetful wrote no part 'more'"),
    ):
        forgetful(StageConfig())


def work(config: Any, inputs: dict[str, Path], out: Path) -> Summary:
    (out / "shard.txt").write_text(inputs["text"].read_text() * 2)
    return {"length": len(inputs["text"].read_text())}


def test_progress_of_shards_counts_those_that_were_there(home: Path) -> None:
    def shards(*texts: str) -> Callable[[Context], None]:
        def action(context: Context) -> None:
            jobs = []
            for number, text in enumerate(texts):
                path = context.work / str(number)
                path.write_text(text)
                jobs.append(Job(f"s{number}", {}, {"text": StoredFile("t", digest_file(path), len(text), path)}))
            results = context.map(work, jobs, "files")
            assert [result.summary["length"] for result in results] == [len(text) for text in texts]
            assert [result.files["shard.txt"].path.read_text() for result in results] == [text * 2 for text in texts]
            raise RuntimeError("enough")

        return action

    def progress_of(*texts: str) -> list[tuple[float, float, str]]:
        witness = Witness()
        ACTIONS[:] = [shards(*texts)]
        with (
            Builder(Store(home), Execution(workers=1), listeners=[witness]) as builder,
            engine_in_force(builder),
            pytest.raises(RuntimeError, match="enough"),
        ):
            acting(StageConfig())
        return [(one.done, one.total, one.unit) for one in witness.progress]

    assert progress_of("a", "bb", "a") == [(0, 2, "files"), (1, 2, "files"), (2, 2, "files")], "equal shards are one"
    assert progress_of("ccc", "bb", "a") == [(2, 3, "files"), (3, 3, "files")]
