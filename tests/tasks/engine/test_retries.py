"""Retries and timeouts of a stage, on toy stages: what is tried again, how often, and what ends in time."""

import http.server
import multiprocessing
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from storage.canonical import digest_file
from storage.errors import ConfigError, DataError, LlmillError, TimeLimitError
from storage.store.artifacts import StoredFile
from storage.store.local import Store
from tasks.engine.builder import Builder
from tasks.engine.config import LOCATION, StageConfig
from tasks.engine.context import Context, Execution, Job, Summary
from tasks.engine.listener import Listener, StageResult
from tasks.engine.retries import MAX_WAIT_SECONDS, Retry, StageLimits, draw_waits, time_limit
from tasks.engine.stage import engine_in_force, stage

QUICK = {"retry_delay_seconds": 0.01, "workers": 1}
SECOND = 1 / 60  # in minutes


@pytest.fixture
def server() -> Iterator[tuple[str, list[int]]]:
    """An address, and the statuses with which it answers one request after the other; then always 200."""
    answers: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}", answers
        serving.shutdown()


class FetchConfig(StageConfig):
    address: str = Field("", description="Where to ask.", json_schema_extra=LOCATION)


@stage("collect", parts=("out",))
def fetch(config: FetchConfig, *, context: Context) -> Summary:
    urllib.request.urlopen(config.address, timeout=10).close()
    (context.part("out") / "out.txt").write_text("fetched")
    return {}


class Witness(Listener):
    def __init__(self) -> None:
        self.retries: list[Retry] = []
        self.results: list[StageResult] = []

    def retrying(self, retry: Retry) -> None:
        self.retries.append(retry)

    def finished(self, result: StageResult) -> None:
        self.results.append(result)


def fetch_from(home: Path, address: str, **execution: Any) -> Witness:
    witness = Witness()
    with (
        Builder(Store(home), Execution(**{**QUICK, **execution}), listeners=[witness]) as builder,
        engine_in_force(builder),
    ):
        try:
            fetch(FetchConfig(address=address))
        except Exception as error:
            assert witness.results[-1].error == str(error)
    return witness


def test_a_busy_server_is_asked_again_and_what_was_needed_is_on_record(
    home: Path, server: tuple[str, list[int]]
) -> None:
    address, answers = server
    answers += [503, 429]
    witness = fetch_from(home, address, retries=2)
    (result,) = witness.results
    assert (result.outcome, result.attempts) == ("built", 3)
    assert [(retry.number, retry.of) for retry in witness.retries] == [(1, 2), (2, 2)]
    assert ["503" in witness.retries[0].error, "429" in witness.retries[1].error] == [True, True]
    (record,) = Store(home).builds_of("collect")
    assert record["attempts"] == 3
    assert [retry["error"] for retry in record["retries"]] == [retry.error for retry in witness.retries]


@pytest.mark.parametrize(
    ("execution", "attempts"),
    [
        ({"retries": 1}, 2),
        ({"retries": 0}, 1),
        ({"retries": 0, "stages": {"collect": {"retries": 2}}}, 3),
        ({"retries": 5, "stages": {"collect": {"retries": 0}, "filter": {"retries": 7}}}, 1),
    ],
)
def test_retries_end_where_the_limits_of_the_stage_say(
    home: Path, server: tuple[str, list[int]], execution: dict[str, Any], attempts: int
) -> None:
    server[1].extend([503] * 20)
    witness = fetch_from(home, server[0], **execution)
    (result,) = witness.results
    assert (result.outcome, result.attempts, len(server[1])) == ("failed", attempts, 20 - attempts)


def test_an_answer_that_will_not_change_is_not_asked_for_again(home: Path, server: tuple[str, list[int]]) -> None:
    server[1].extend([404, 404])
    assert fetch_from(home, server[0]).results[0].attempts == 1
    assert server[1] == [404]


@pytest.mark.parametrize("error", [DataError("bad record"), ConfigError("no"), TypeError("a bug"), MemoryError()])
def test_errors_of_data_settings_and_code_are_not_retried(home: Path, error: Exception) -> None:
    attempts = []

    @stage("wrong", parts=("out",))
    def wrong(config: StageConfig, *, context: Context) -> Summary:
        attempts.append(1)
        raise error

    with (
        Builder(Store(home), Execution(workers=1)) as builder,
        engine_in_force(builder),
        pytest.raises(type(error)),
    ):
        wrong(StageConfig())
    assert (len(attempts), builder.results[0].attempts) == (1, 1)


def test_no_limit_enters_a_key(home: Path, server: tuple[str, list[int]]) -> None:
    assert fetch_from(home, server[0]).results[0].outcome == "built"
    limits = {"retries": 7, "timeout_minutes": 3.0, "stages": {"collect": {"retries": 1, "timeout_minutes": 1.0}}}
    assert fetch_from(home, server[0], **limits).results[0].outcome == "reused"


def test_every_stage_of_the_flow_can_have_limits_of_its_own() -> None:
    from flows.plan import STAGE_NAMES
    from flows.recipe import load_recipe

    recipe = load_recipe("smoke", [f"execution.stages.{name}.retries=7" for name in STAGE_NAMES])
    assert {recipe.execution.limits(name).retries for name in STAGE_NAMES} == {7}


@given(st.integers(0, 20), st.floats(0, 3600))
def test_waits_double_give_or_take_half_and_stay_bounded(retries: int, delay: float) -> None:
    waits = draw_waits(retries, delay)
    assert len(waits) == retries
    for number, wait in enumerate(waits):
        middle = min(MAX_WAIT_SECONDS, delay * 2**number)
        assert 0.5 * middle - 0.001 <= wait <= 1.5 * middle + 0.001


def test_two_runs_do_not_come_back_together() -> None:
    assert draw_waits(5, 2.0) != draw_waits(5, 2.0)


def test_time_is_up_even_where_errors_are_swallowed_and_the_clean_up_runs() -> None:
    cleaned = []
    with pytest.raises(TimeLimitError, match="too long"), time_limit(0.2 * SECOND, "too long"):
        try:
            while True:
                try:
                    time.sleep(60)
                except Exception:
                    continue
        finally:
            cleaned.append(True)
    assert cleaned


def test_what_ends_in_time_or_fails_by_itself_is_left_alone() -> None:
    with time_limit(60 * SECOND, "late"):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    with pytest.raises(ValueError, match="own"), time_limit(60 * SECOND, "late"):
        raise ValueError("own")
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0), "the alarm is gone"


class ShardsConfig(StageConfig):
    shards: int = Field(4, description="How many.")


def hang(config: Any, inputs: dict[str, Path], out: Path) -> Summary:
    """The first shard is done at once; the others wait for a file."""
    while inputs["number"].read_text() != "0" and not Path(inputs["number"].parent, "go").exists():
        time.sleep(0.05)
    (out / "out.txt").write_text(inputs["number"].read_text())
    return {}


@stage("tokenize", parts=("out",))
def hanging(config: ShardsConfig, *, context: Context) -> Summary:
    jobs = []
    for number in range(config.shards):
        path = context.work / f"{number}.txt"
        path.write_text(str(number))
        jobs.append(Job(path.stem, {}, {"number": StoredFile(path.name, digest_file(path), 1, path)}))
    for result in context.map(hang, jobs):
        context.link("out", f"{result.name}.txt", result.files["out.txt"])
    return {}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stage_that_runs_out_of_time_ends_with_its_workers_and_goes_on_later(home: Path, workers: int) -> None:
    limits = {"tokenize": StageLimits(timeout_minutes=(5 if workers > 1 else 1) * SECOND)}
    children = set(multiprocessing.active_children())
    with (
        Builder(Store(home), Execution(workers=workers, retries=3, stages=limits)) as builder,
        engine_in_force(builder),
        pytest.raises(LlmillError, match=r"execution\.stages\.tokenize\.timeout_minutes"),
    ):
        hanging(ShardsConfig())
    assert set(multiprocessing.active_children()) <= children, "a worker is left"
    assert builder.results[0].attempts == 1, "the next attempt would take as long"

    (keep,) = home.glob("work/tokenize-*/keep")
    (keep / "go").touch()
    done = len(list(home.glob("store/jobs/*.json")))
    assert done <= 1, "on a busy machine the first shard may take longer than the limit"
    with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
        hanging(ShardsConfig())
    record = builder.results[0].record
    assert record is not None
    assert (record["shards_built"], record["shards_reused"]) == (4 - done, done)
