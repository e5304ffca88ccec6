"""Owns the trainer's process: starts it, watches it, and never leaves it behind.

The trainer runs apart from the flow: a crash of it is an error message here, not the end of Prefect's process; its
threads and its allocator's settings are its own; and so is its session, so that Ctrl-C reaches it through us, as
SIGTERM, and it has time to save. It ends itself when we are gone (storage.processes.watch_parent).
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from storage.bystander import bystander
from storage.errors import DataError, refusal
from storage.listing import first_few
from storage.processes import REFUSED, program_environment
from storage.pulse import FOLDER, Pulse
from storage.store.artifacts import Part
from tasks.engine.context import Context, Summary
from tasks.notices import NOTICES
from tasks.train.meeting import Alone, together

if TYPE_CHECKING:
    from model.job import TrainingJob

POLL_SECONDS = 0.2
GRACE_SECONDS = 12.0  # for the trainer to finish its step and save; the launcher of several kills them sooner
LOG_TAIL_CHARACTERS = 2000

TRAINING_FILE = "training.json"
CURVE_POINTS = 1000
MOST_EVENTS = 5  # that are said one by one
VARYING = ("tokens_per_second", "step_tokens")  # of a row of metrics.jsonl: not for an artifact


def train(job: "TrainingJob", context: Context) -> dict[str, Any]:
    """Carry out a job in a child process; returns its result. Forwards metrics and progress while it runs."""
    work = Path(job.work)
    (work / "result.json").unlink(missing_ok=True)
    shutil.rmtree(work / "compiled", ignore_errors=True)  # code that was being written when a trainer was killed
    metrics = MetricsTail(work / "metrics.jsonl", job.schedule.steps, context)
    with (
        contextlib.closing(metrics),
        together(job, context) as machines,
        (work / "trainer.log").open("wb") as log,
    ):
        machines.job.write(work / "job.json")
        pulse = Pulse(work / FOLDER, context.execution.silence_seconds, "execution.silence_seconds")
        process = start_trainer(machines.job, work / "job.json", log, descriptors=machines.descriptors)
        try:
            machines.begin(work / "job.json")
            _watch(process, metrics.forward, pulse, machines)
        finally:
            if process.poll() is None:
                machines.end()
                end_trainer(process, at_once=machines.lost)
            elif process.returncode:
                machines.end()
    status, tail = machines.outcome(process.returncode, work / "trainer.log")
    if status != 0:
        raise _failure(status, tail)
    result: dict[str, Any] = json.loads((work / "result.json").read_bytes())
    return result


@bystander
def start_trainer(
    job: "TrainingJob", job_file: Path, log: IO[bytes], *, descriptors: Sequence[int] = (), code: Path | None = None
) -> "subprocess.Popen[bytes]":
    """The process that carries out the job of a file on this machine: its trainer, or the launcher of several.

    `descriptors` are handed on to it; `code` is the folder of the packages that it runs, by default this process's.
    """
    program = "model.trainer" if job.ranks == 1 else "model.launcher"
    environment = trainer_environment() | (compiler_environment(job) if job.compiled else {})
    if code is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(code), *filter(None, [environment.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-P", "-m", program, str(job_file), *map(str, descriptors)],
        env=environment,
        cwd=job.work,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        pass_fds=descriptors,
    )


def trainer_environment() -> dict[str, str]:
    """The trainer's environment: our code, and the settings of the libraries that it computes with."""
    environment = program_environment()
    environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = "1"  # model.parallel has its own threads
    environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # deterministic matrix products on a GPU
    # glibc gives large freed blocks back to the kernel and asks for them again: a seventh of a small model's step.
    environment["MALLOC_MMAP_THRESHOLD_"] = environment["MALLOC_TRIM_THRESHOLD_"] = str(2**32 - 1)
    return environment


def compiler_environment(job: "TrainingJob") -> dict[str, str]:
    """Where torch's compiler keeps its code: in the job's work folder, and as code alone, since graphs are pickled. On
    a CPU it works in the trainer's process: those that it starts would outlive a kill."""
    settings = {
        "TORCHINDUCTOR_CACHE_DIR": str(Path(job.work) / "compiled" / str(job.node.number if job.node else 0)),
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "0",
        "TORCHINDUCTOR_AUTOGRAD_CACHE": "0",
    }
    return settings | ({"TORCHINDUCTOR_COMPILE_THREADS": "1"} if job.device == "cpu" else {})


@bystander
class MetricsTail:
    """Follows `metrics.jsonl` while it grows and hands its new rows on.

    A trainer that goes on from a checkpoint puts a shorter file in its place, which may have grown past the old one
    before it is looked at: what was read is held open, so that another file is known.
    """

    def __init__(self, path: Path, steps: int, context: Context) -> None:
        self.path, self.steps, self.context = path, steps, context
        self._file: BinaryIO | None = None
        self._last_step = 0
        self._validation: dict[str, float] = {}

    def forward(self) -> None:
        """Send what was written since the last call: rows at the log interval, and where training is."""
        rows = self._new_rows()
        if not rows:
            return
        interval = self.context.execution.log_interval
        chosen = [row for row in rows if row["step"] % interval == 0 or validated(row)]
        if chosen:
            self.context.metrics([{k: v for k, v in row.items() if isinstance(v, int | float)} for row in chosen])
        for row in rows:
            self._validation = validated(row) or self._validation
        newest = rows[-1]
        speed = sum(row["tokens_per_second"] for row in rows) / len(rows)
        bits = {"bits_per_byte": newest["bits_per_byte"]} if newest["bits_per_byte"] is not None else {}
        shown = {"loss": newest["loss"], **bits, "tokens_per_second": speed}
        self.context.progress(newest["step"], self.steps, "steps", **shown, **self._validation)

    def _new_rows(self) -> list[dict[str, Any]]:
        file = self._current()
        if file is None:
            return []
        begin = file.tell()
        whole, end, _ = file.read().rpartition(b"\n")
        file.seek(begin + len(whole) + len(end))
        rows = [row for row in _parse(whole.splitlines()) if row["step"] > self._last_step]
        if rows:
            self._last_step = rows[-1]["step"]
        return rows

    def _current(self) -> BinaryIO | None:
        """The file that is there now, to be read from where it was left."""
        if not self.path.exists():
            return None
        if self._file is None or not os.path.samestat(self.path.stat(), os.fstat(self._file.fileno())):
            self.close()
            self._file = self.path.open("rb")
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def notices_of(result: Mapping[str, Any], others: Sequence[str] = ()) -> Summary:
    """The notices of a training stage: `others`, and what happened in training that should not."""
    happened = [f"step {event['step']}: {event['what']}" for event in result["events"]]
    notices = [*others, *first_few(happened, MOST_EVENTS, "such events")]
    return {NOTICES: notices} if notices else {}


def validated(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of metrics says of held-out data."""
    return {name: value for name, value in row.items() if name.startswith("validation_")}


def write_curve(metrics: Path, target: Path) -> dict[str, Any]:
    """Write the training curve without what varies, thinned to a thousand points; returns the last row."""
    rows = _parse(metrics.read_bytes().splitlines())
    every = -(-len(rows) // CURVE_POINTS)
    with target.open("w", encoding="utf-8") as file:
        for index, row in enumerate(rows):
            if index % every == 0 or index == len(rows) - 1 or validated(row) or "event" in row:
                kept = {name: value for name, value in row.items() if name not in VARYING}
                file.write(json.dumps(kept, sort_keys=True) + "\n")
    return rows[-1]


def write_training(
    stage: str, job: "TrainingJob", result: dict[str, Any], last: dict[str, Any], before: Part | None = None
) -> None:
    """Put `training.json` beside the weights: how they were trained, one object a stage, the previous stages first.

    It holds what decided the weights and what training measured, never when or how fast: equal weights, equal bytes.
    `before` is the part that holds the weights which training began with.
    """
    previous = json.loads((before / TRAINING_FILE).read_bytes()) if before else []
    record = {
        "stage": stage,
        "tokens": result["tokens"],
        "steps": result["steps"],
        "rows_per_step": job.rows_per_step,
        **({"packing": True} if job.packing else {}),
        **({"document_masks": True} if job.apart else {}),
        **({"short_steps": job.short_steps} if job.short_steps else {}),
        **({"shortest_first": True} if job.shortest_first else {}),
        **({"dropout": dataclasses.asdict(job.left_out)} if job.leaves_out else {}),
        **({"soft_targets": dataclasses.asdict(job.soft_targets)} if job.soft_targets else {}),
        **({"teacher": json.loads((Path(job.teacher) / TRAINING_FILE).read_bytes())[0]} if job.teacher else {}),
        "context_length": job.shape.context_length,
        "optimizer": dataclasses.asdict(job.optimizer),
        "schedule": dataclasses.asdict(job.schedule),
        "seed": job.seed,
        "device": job.device,
        "dtype": job.dtype,
        "compiled": job.compiled,
        **({"adapter": dataclasses.asdict(job.adapter)} if job.adapter else {}),
        "data": job.data_digest,
        "training_loss": last["loss"],
        "bits_per_byte_before": result["before"],
        "bits_per_byte": result["after"],
        "skipped_updates": result["skipped"],
        **({"events": result["events"]} if result["events"] else {}),
    }
    text = json.dumps([*previous, record], indent=2, sort_keys=True)
    (Path(job.output) / TRAINING_FILE).write_text(text + "\n", encoding="utf-8")


@bystander
def _watch(process: "subprocess.Popen[bytes]", forward: Callable[[], None], pulse: Pulse, machines: Alone) -> None:
    while process.poll() is None and not machines.is_over():
        forward()
        pulse.check()
        time.sleep(POLL_SECONDS)
    forward()


@bystander
def end_trainer(process: "subprocess.Popen[bytes]", *, at_once: bool = False) -> None:
    """SIGTERM to the trainer's group, time to save, then SIGKILL, or that `at_once`. Leaves nothing behind, even if
    interrupted."""
    try:
        if not at_once:
            _signal(process, signal.SIGTERM)
            process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _signal(process, signal.SIGKILL)
        process.wait()


@bystander
def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


@bystander
def _failure(status: int, log: Path) -> Exception:
    tail = log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARACTERS:].strip()
    if status == DataError.exit_status:
        return DataError("\n".join(dict.fromkeys(tail.splitlines())))  # each of several processes says it
    refused = refusal(OSError(status - REFUSED, ""), log.parent)
    if refused is not None:
        return refused
    number = status - 128 if status > 128 else -status  # of one of several processes the launcher says it so
    known = number in {one.value for one in signal.Signals}
    what = f"signal {signal.Signals(number).name}" if known else f"status {status}"
    return RuntimeError(f"the trainer ended with {what}; the end of its log:\n{tail}")


def _parse(lines: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]
