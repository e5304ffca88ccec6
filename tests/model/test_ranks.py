"""Processes that train together: they end where one would, and none of them outlives another.

Two processes of this machine, tied by gloo, replicated and sharded; a start costs about 10 s of CPU time.
"""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import PATIENCE_SECONDS, is_alive, listening_elsewhere, living_processes, wait_until
from trainer_process import ROOT, SHAPE, STEPS, curve, make_job, run_to_end, start, wait_for_step, weights, write_walks

from model.batches import Batch, ExampleSet
from model.classes import labelled
from model.job import Node, Source, TrainingJob
from model.lora import LowRank
from model.optimizer import OptimizerSettings
from model.ranks import Ranks
from model.transformer import Transformer, initialise, save_model
from storage.pulse import FOLDER

ENDING_SECONDS = 15  # within which all are gone after one was killed
ROUNDING = 1e-5
pytestmark = pytest.mark.usefixtures("untouched_process")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_walks(tmp_path_factory.mktemp("tokens"))


def job_of(tokens: Path, folder: Path, **changes: Any) -> TrainingJob:
    """Steps that take long enough to be met in the middle."""
    return make_job(tokens, folder, **{"threads": 1, "rows_per_step": 48, **changes})


def trained(tokens: Path, folder: Path, **changes: Any) -> TrainingJob:
    job = job_of(tokens, folder, **changes)
    run_to_end(job)
    return job


@pytest.fixture(scope="module")
def one(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    return trained(tokens, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def pair(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    return trained(tokens, tmp_path_factory.mktemp("pair"), processes=2)


def assert_same_curve(job: TrainingJob, other: TrainingJob) -> None:
    """50 steps whose losses are equal to rounding."""
    ours, theirs = curve(job)[:50], curve(other)[:50]
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for name, least in (("loss", ROUNDING), ("validation_bits_per_byte", ROUNDING), ("gradient_norm", 1e-2)):
        found = [row[name] for row in ours if name in row]
        assert found == pytest.approx([row[name] for row in theirs if name in row], rel=least, abs=least), name


def result(job: TrainingJob) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(job.work) / "result.json").read_text())
    return found


def ranks_of(job: TrainingJob) -> list[int]:
    """The processes that carry out a job, the launcher excepted."""
    commands = living_processes(Path(job.work)).items()
    return [process for process, command in commands if "model.trainer" in command]


def test_two_processes_lose_what_one_loses(one: TrainingJob, pair: TrainingJob) -> None:
    assert_same_curve(pair, one)
    assert result(pair)["after"]["heldout"] == pytest.approx(result(one)["after"]["heldout"], rel=ROUNDING)
    assert sorted(path.name for path in Path(pair.work, FOLDER).iterdir()) == ["rank 0", "rank 1"]
    newest = max(Path(pair.work, "checkpoints").iterdir())
    pieces = [path.stat().st_size for path in newest.glob("tensors-*-of-00002.safetensors")]
    assert len(pieces) == 2 and min(pieces) > 0.8 * max(pieces), "each writes its share"


def test_sharded_they_lose_it_too(one: TrainingJob, tokens: Path, tmp_path: Path) -> None:
    job = trained(tokens, tmp_path / "sharded", processes=2, sharded=True)
    assert_same_curve(job, one)
    assert len(weights(job)) == len(weights(one)), "the whole model is written"


def test_killed_three_times_two_end_where_an_undisturbed_pair_ends(
    pair: TrainingJob, tokens: Path, tmp_path: Path
) -> None:
    """A rank by SIGKILL, the launcher by SIGKILL, and SIGTERM to the launcher, as the stage ends it."""
    job = job_of(tokens, tmp_path / "work of two Ü", processes=2)
    for step, victim, number in ((5, "rank", signal.SIGKILL), (15, "launcher", signal.SIGKILL), (25, "launcher", 15)):
        process = start(job)
        wait_for_step(job, step, process)
        ranks = ranks_of(job)
        assert len(ranks) == 2 and listening_elsewhere({process.pid, *ranks}) == []
        os.kill(ranks[1] if victim == "rank" else process.pid, number)
        killed = time.monotonic()
        status = process.wait(PATIENCE_SECONDS)
        wait_until(lambda: not any(is_alive(rank) for rank in ranks), "no rank is left")  # noqa: B023
        assert time.monotonic() - killed < ENDING_SECONDS
        assert status == {"rank": 128 + signal.SIGKILL, "launcher": -number if number == 9 else 143}[victim]
    saved = int(max(path.name for path in Path(job.work, "checkpoints").iterdir()).removeprefix("step-"))
    assert saved == len(curve(job)), "SIGTERM saves where it is"
    run_to_end(job)
    assert weights(job) == weights(pair)
    assert curve(job) == curve(pair)


def test_a_run_goes_on_in_another_number_of_processes_and_says_so(
    one: TrainingJob, tokens: Path, tmp_path: Path
) -> None:
    job = job_of(tokens, tmp_path / "work", processes=2, sharded=True)
    process = start(job)
    wait_for_step(job, 20, process)
    process.terminate()
    assert process.wait(PATIENCE_SECONDS) == 143
    alone = dataclasses.replace(job, processes_now=1)
    run_to_end(alone)
    assert_same_curve(alone, one)
    (event,) = result(alone)["events"]
    assert "1 processes train from here on, not 2" in event["what"] and event["step"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("kind", ["classes of three texts", "adapter with dropout", "one row"])
def test_every_kind_ends_where_one_process_ends(kind: str, sharded: bool, tokens: Path, tmp_path: Path) -> None:
    """Classes, adapters and what dropout leaves out, also with fewer rows than there are processes."""
    changes: dict[str, Any] = {}
    if kind == "one row":
        changes = {"rows_per_step": 1}
    elif kind == "adapter with dropout":
        base = Transformer(SHAPE)
        initialise(base, 3)
        (tmp_path / "start").mkdir()
        save_model(base, tmp_path / "start")
        changes = {
            "initial": str(tmp_path / "start"),
            "adapter": LowRank(4, 8.0),
            "adapter_output": str(tmp_path / "adapter"),
            "dropout": 0.1,
        }
    else:
        ExampleSet.write(tmp_path / "texts", [labelled([1, *range(2 + row, 9 + row)], row % 3) for row in range(9)])
        source = Source("classes", str(tmp_path / "texts"))
        changes = {
            "objective": "classes",
            "shape": dataclasses.replace(SHAPE, classes=("few", "some", "many")),
            "data": source,
            "validation": {"heldout": source},
            "rows_per_step": 3,
            "optimizer": OptimizerSettings(0.002, 0.001),  # at higher rates three rows make rounding grow
        }
    two = trained(tokens, tmp_path / "two", processes=2, sharded=sharded, **changes)
    alone = trained(tokens, tmp_path / "alone", **changes)
    assert_same_curve(two, alone)


FAILING = """
import sys
from pathlib import Path
import model.trainer, torch.distributed
real, calls = model.trainer.add_gradients, []

def failing(*given):
    calls.append(given)
    if len(calls) == 3 and sys.argv[2] == "1":
        raise getattr(__builtins__, sys.argv[3])("in one alone")
    return real(*given)

model.trainer.add_gradients = failing
status = model.trainer.main([sys.argv[1]])
print("still a group:", torch.distributed.is_initialized(), file=sys.stderr)
sys.exit(status)
"""


def two_by_hand(job: TrainingJob, error: str) -> list[tuple[int, str]]:
    """Status and messages of two ranks that another launcher has started; in one of them an error is raised once."""
    work = Path(job.work)
    job.write(work / "job.json")
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "PYTHONPATH": str(ROOT)}
    logs = [work / f"log of {rank}" for rank in range(2)]
    processes = []
    for rank, log in enumerate(logs):
        with log.open("wb") as messages:
            process = subprocess.Popen(
                [sys.executable, "-W", "default", "-c", FAILING, str(work / "job.json"), str(rank), error],
                env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
                stderr=messages,
            )
        processes.append(process)
    return [(process.wait(PATIENCE_SECONDS), log.read_text()) for process, log in zip(processes, logs, strict=True)]


def test_where_one_is_short_of_memory_all_take_smaller_parts_and_part_in_order(
    one: TrainingJob, tokens: Path, tmp_path: Path
) -> None:
    job = job_of(tokens, tmp_path / "work", processes=2)
    for status, said in two_by_hand(job, "MemoryError"):
        assert status == 0 and said.endswith("still a group: False\n")
        assert "warn" not in said.lower() and "destroy" not in said
    (event,) = result(job)["events"]
    assert event == {"step": 3, "what": "out of memory: 32 tokens at once from here on"}
    assert len(curve(job)) == STEPS
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(curve(job), curve(one), strict=True)) < ROUNDING


def test_where_one_fails_none_waits_for_it(tokens: Path, tmp_path: Path) -> None:
    job = job_of(tokens, tmp_path / "work", processes=2)
    started = time.monotonic()
    (other, _), (failed, said) = two_by_hand(job, "RuntimeError")
    assert failed == 1 and "in one alone" in said and other != 0
    steps = len(curve(job))
    assert steps == 2 and time.monotonic() - started < PATIENCE_SECONDS / 2


def machines(job: TrainingJob) -> list["subprocess.Popen[bytes]"]:
    """The launchers of two machines, with one rank each, in process groups and folders of their own."""
    store = socket.create_server(("127.0.0.1", 0))
    meeting = f"127.0.0.1:{store.getsockname()[1]}"
    launchers = []
    for number in range(2):
        path = Path(job.work) / f"job-{number}.json"
        dataclasses.replace(job, node=Node(number, 2, meeting)).write(path)
        descriptors = [] if number else [store.fileno()]
        with Path(job.work, "log").open("ab") as log:
            launcher = subprocess.Popen(
                [sys.executable, "-P", "-m", "model.launcher", str(path), *map(str, descriptors)],
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LLMILL_HOME": job.work},
                stderr=log,
                start_new_session=True,
                pass_fds=descriptors,
            )
        launchers.append(launcher)
    store.close()
    return launchers


def test_two_machines_end_with_the_bits_of_two_processes_of_one(
    pair: TrainingJob, tokens: Path, tmp_path: Path
) -> None:
    """SIGTERM to one of them has both save, and they meet again."""
    job = job_of(tokens, tmp_path / "work", processes=2)
    launchers = machines(job)
    wait_for_step(job, 20, launchers[0])
    assert listening_elsewhere({*(launcher.pid for launcher in launchers), *ranks_of(job)}) == []
    launchers[1].terminate()
    assert [launcher.wait(PATIENCE_SECONDS) for launcher in launchers] == [143, 143]
    assert len(curve(job)) < STEPS, "it was under way"
    assert [launcher.wait(PATIENCE_SECONDS) for launcher in machines(job)] == [0, 0], Path(job.work, "log").read_text()
    assert weights(job) == weights(pair)
    assert curve(job) == curve(pair)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@given(rows=st.integers(1, 40), together=st.sampled_from([1, 2]), count=st.integers(1, 9))
def test_each_row_of_a_batch_is_one_rank_s(rows: int, together: int, count: int) -> None:
    numbers = np.arange(rows * together)[:, None]
    shares = []
    for rank in range(count):
        ranks = Ranks()
        ranks.rank, ranks.count = rank, count
        share = ranks.share(Batch(numbers, numbers, together=together))
        shares.append([] if share is None else share.inputs[:, 0].tolist())
        assert len(shares[-1]) % together == 0
    assert [row for share in shares for row in share] == numbers[:, 0].tolist()
    cut = [range(rows)[ranks_rows(rank, count, rows)] for rank in range(count)]
    assert [row for part in cut for row in part] == list(range(rows))


def ranks_rows(rank: int, count: int, total: int) -> slice:
    ranks = Ranks()
    ranks.rank, ranks.count = rank, count
    return ranks.rows(total)
