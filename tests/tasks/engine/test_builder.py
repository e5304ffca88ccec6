"""The engine's promises, on toy stages: keys, reasons, early cut-off, shards, locks."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from support import PATIENCE_SECONDS, wait_until
from toy_stages import CALLS, CountConfig, UniqueConfig, WordsConfig, outcomes, plan, run, shout, words

from storage.canonical import digest_file
from storage.store.artifacts import Artifact, StoredFile
from storage.store.local import Store
from tasks.engine.builder import Builder
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Execution, Job, Summary
from tasks.engine.listener import StageResult
from tasks.engine.planner import Options
from tasks.engine.stage import engine_in_force, stage


def test_a_second_run_reuses_everything_and_the_plan_says_so_before(home: Path) -> None:
    assert plan(home)["count"] == ("build", ("never built",))
    assert set(outcomes(run(home)).values()) == {"built"}
    assert {will for will, _ in plan(home).values()} == {"reuse"}
    before = CALLS.copy()
    assert set(outcomes(run(home)).values()) == {"reused"}
    assert before == CALLS


def test_planning_writes_nothing(home: Path) -> None:
    plan(home)
    assert list(home.rglob("*")) == []


def test_a_changed_setting_that_changes_nothing_kept_builds_one_stage_only(home: Path) -> None:
    run(home)
    changed = UniqueConfig(min_letters=2)
    assert plan(home, changed) == {
        "words": ("reuse", ("up to date",)),
        "unique": ("build", ("config unique.min_letters: 0 -> 2",)),
        "count": ("maybe", ("input unique/words may change",)),
    }
    assert outcomes(run(home, unique_config=changed)) == {"words": "reused", "unique": "built", "count": "reused"}


def test_a_changed_setting_that_changes_the_output_rebuilds_what_reads_it(home: Path) -> None:
    run(home)
    results = run(home, unique_config=UniqueConfig(min_letters=3))
    assert outcomes(results) == {"words": "reused", "unique": "built", "count": "built"}
    assert re.fullmatch(r"input unique/words: [0-9a-f]{8} -> [0-9a-f]{8}", results["count"].why[0])
    assert outcomes(run(home)) == {"words": "reused", "unique": "reused", "count": "reused"}, "the old result stays"


def test_what_is_observed_outside_enters_the_key_and_is_cut_off_when_nothing_follows(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(home)
    monkeypatch.setenv("TOY_SOURCE", "2")
    results = run(home)
    assert outcomes(results) == {"words": "built", "unique": "reused", "count": "reused"}
    assert results["words"].why == ("source clock changed",)


def test_a_location_is_not_in_the_identity(home: Path) -> None:
    run(home, WordsConfig(where="/here"))
    assert set(outcomes(run(home, WordsConfig(where="/there"))).values()) == {"reused"}


def test_force_builds_and_equal_contents_cut_off_below(home: Path) -> None:
    first = run(home)
    again = run(home, options=Options(force=frozenset({"unique"})))
    assert outcomes(again) == {"words": "reused", "unique": "built", "count": "reused"}
    assert first["unique"].artifact == again["unique"].artifact


def test_equal_recipes_give_equal_digests_in_two_homes(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a"), run(tmp_path / "b b")
    assert [r.artifact.digest for r in first.values() if r.artifact] == [
        r.artifact.digest for r in second.values() if r.artifact
    ]


def test_keep_adopts_a_result_whose_code_alone_has_changed(home: Path) -> None:
    store = Store(home)
    run(home)
    (record,) = store.builds_of("unique")
    code = {**record["identity"]["code"], "toy.helper": "1"}
    older = {**record, "key": "0" * 64, "identity": {**record["identity"], "code": code}}
    (home / "builds" / "unique" / f"{record['key']}.json").unlink()
    store.record_build(older)
    assert plan(home)["unique"][0] == "build"
    kept = run(home, options=Options(keep=frozenset({"unique"})))
    assert outcomes(kept)["unique"] == "reused"
    assert outcomes(run(home))["unique"] == "reused", "the adoption is on the record"
    assert {build.get("adopted_from") for build in store.builds_of("unique")} == {None, "0" * 64}


def test_a_failing_stage_publishes_nothing_and_the_next_run_goes_on(home: Path) -> None:
    @stage("broken", parts=("out",), reads={"source": ("words",)})
    def broken(config: CountConfig, source: Artifact, *, context: Context) -> Summary:
        (context.part("out") / "half.txt").write_text("half")
        raise ValueError("no")

    builder = Builder(Store(home), Execution(workers=1))
    with builder, engine_in_force(builder), pytest.raises(ValueError, match="no"):
        broken(CountConfig(), words(WordsConfig()))
    assert [result.outcome for result in builder.results] == ["built", "failed"]
    assert not (home / "store" / "parts" / "broken").exists() and not (home / "builds" / "broken").exists()
    assert outcomes(run(home))["words"] == "reused"


def test_a_stage_that_loses_count_fails(home: Path) -> None:
    @stage("leaky", parts=("out",))
    def leaky(config: CountConfig, *, context: Context) -> Summary:
        context.part("out")
        return {"read": 3, "kept": 1, "dropped": 1, "quarantined": 0}

    builder = Builder(Store(home), Execution(workers=1))
    with builder, engine_in_force(builder), pytest.raises(RuntimeError, match="lost count"):
        leaky(CountConfig())


@stage("shouted", parts=("shards",), reads={"source": ("words",)})
def shouted(config: UniqueConfig, source: Artifact, *, context: Context) -> Summary:
    inputs = (source["words"] / "words.txt").read_text().split()
    folder = context.work
    jobs = []
    for index, word in enumerate(inputs):
        path = folder / f"{index}.txt"
        path.write_text(word)
        file = StoredFile(path.name, digest_file(path), len(word), path)
        jobs.append(Job(f"{index:05}", {"min_letters": 0}, {"words": file}))
    results = context.map(shout, jobs)
    for result in results:
        context.link("shards", f"{result.name}.txt", result.files["shard.txt"])
    return {"shards": len(results), "made": config.min_letters}


@pytest.mark.parametrize("workers", [1, 2])
def test_new_input_costs_new_shards_only(home: Path, workers: int) -> None:
    def shards(text: str) -> tuple[Artifact, set[str]]:
        known = {path.name for path in (home / "store" / "jobs").glob("*")}
        with Builder(Store(home), Execution(workers=workers)) as builder, engine_in_force(builder):
            output = shouted(UniqueConfig(), words(WordsConfig(text=text)))
        assert isinstance(output, Artifact)
        return output, {path.name for path in (home / "store" / "jobs").glob("*")} - known

    first, made = shards("a b c d")
    assert len(made) == 4
    second, made = shards("a b c d e")
    assert len(made) == 1
    assert [file.digest for file in second["shards"].files[:4]] == [file.digest for file in first["shards"].files]
    assert first["shards"].files[0].path.stat().st_ino == second["shards"].files[0].path.stat().st_ino, "stored once"


@pytest.mark.parametrize("workers", [1, 2])
def test_equal_shards_are_worked_on_once_and_stand_in_every_place(home: Path, workers: int) -> None:
    with Builder(Store(home), Execution(workers=workers)) as builder, engine_in_force(builder):
        output = shouted(UniqueConfig(), words(WordsConfig(text="a b a a b")))
    assert isinstance(output, Artifact)
    assert [file.path.read_text() for file in output["shards"].files] == ["A", "B", "A", "A", "B"]


def test_a_forced_build_works_on_its_shards_again(home: Path) -> None:
    first, second = (
        [build["summary"] for build in Store(home).builds_of("shouted")]
        for options in (Options(), Options(force=frozenset({"shouted"})))
        if _shout(home, options)
    )
    assert first == second
    jobs = sorted((home / "store" / "jobs").glob("*.json"))
    times = [path.stat().st_mtime_ns for path in jobs]
    _shout(home, Options(force=frozenset({"shouted"})))
    assert [path.stat().st_mtime_ns for path in jobs] != times


def _shout(home: Path, options: Options) -> bool:
    with Builder(Store(home), Execution(workers=1), options) as builder, engine_in_force(builder):
        shouted(UniqueConfig(), words(WordsConfig()))
    return True


def test_a_source_that_changes_while_it_is_read_is_read_again_by_the_next_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @stage("racing", parts=("out",), observe=lambda config: {"clock": os.environ.get("TOY_SOURCE", "1")})
    def racing(config: CountConfig, *, context: Context) -> Summary:
        monkeypatch.setenv("TOY_SOURCE", "2")  # somebody edits it meanwhile
        (context.part("out") / "out.txt").write_text(os.environ["TOY_SOURCE"])
        return {}

    def build() -> StageResult:
        with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
            racing(CountConfig())
        return builder.results[0]

    monkeypatch.setenv("TOY_SOURCE", "1")
    assert build().outcome == "built"
    monkeypatch.setenv("TOY_SOURCE", "1")
    again = build()
    assert again.outcome == "built" and again.why == ("source clock changed",)


class LooseConfig(StageConfig):
    value: Any = Field(1, description="Anything.")


@stage("loose", parts=("out",))
def loose(config: LooseConfig, *, context: Context) -> Summary:
    (context.part("out") / "out.txt").write_text(repr(config.value))
    return {}


def test_a_setting_that_differs_in_form_only_is_another_key(home: Path) -> None:
    outcomes_seen, reasons = [], []
    for value in (1, True, {}, {"x": None}, {"x": 2}):
        with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
            loose(LooseConfig(value=value))
        outcomes_seen.append(builder.results[0].outcome)
        reasons.append(builder.results[0].why)
    assert outcomes_seen == ["built"] * 5
    assert reasons[3:] == [("config loose: changed in form",), ("config loose.value.x: None -> 2",)]


SLOW_STAGE = """
    import sys, time
    from pathlib import Path
    from storage.store.local import Store
    from tasks.engine.config import StageConfig
    from tasks.engine.context import Execution
    from tasks.engine.builder import Builder
    from tasks.engine.listener import Listener
    from tasks.engine.stage import engine_in_force, stage

    class Waiter(Listener):
        def waits(self, stage, holder):
            Path(sys.argv[2] + ".waits").write_text(f"{stage} waits for {holder}")

    @stage("slow", parts=("out",))
    def slow(config, *, context):
        with open(sys.argv[2], "a") as log:
            log.write("started\\n")
        while not Path(sys.argv[3]).exists():
            time.sleep(0.02)
        (context.part("out") / "out.txt").write_text("done")
        return {}

    options = {"listeners": [Waiter()], "run": "toy-1"}
    with Builder(Store(Path(sys.argv[1])), Execution(workers=1), **options) as builder, engine_in_force(builder):
        print("asks", flush=True)
        slow(StageConfig())
    print(builder.results[0].outcome, *builder.results[0].why)
"""


def start_slow(tmp_path: Path, home: Path, until: Path) -> "subprocess.Popen[str]":
    """A process that builds a stage which ends when a file is there."""
    script = tmp_path / "slow_stage.py"
    script.write_text(textwrap.dedent(SLOW_STAGE))
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen(
        [sys.executable, str(script), str(home), str(tmp_path / "log"), str(until)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_that_need_the_same_key_build_it_once(tmp_path: Path, home: Path) -> None:
    both = [start_slow(tmp_path, home, tmp_path / "go") for _ in range(2)]
    waited = tmp_path / "log.waits"
    wait_until(waited.exists, "one of them hears that it waits for the other")
    (tmp_path / "go").touch()
    said = sorted(process.communicate(timeout=PATIENCE_SECONDS)[0].strip() for process in both)
    assert said == ["asks\nbuilt never built", "asks\nreused built by another run"]
    assert waited.read_text().startswith("slow waits for run toy-1 (process ")
    assert (tmp_path / "log").read_text() == "started\n"


def test_a_killed_holder_of_the_lock_blocks_nobody(tmp_path: Path, home: Path) -> None:
    killed = start_slow(tmp_path, home, tmp_path / "never")
    wait_until((tmp_path / "log").exists, "the stage is under way", killed)
    killed.kill()
    killed.wait()
    said = start_slow(tmp_path, home, tmp_path / "log").communicate(timeout=PATIENCE_SECONDS)[0]
    assert said == "asks\nbuilt never built\n"
