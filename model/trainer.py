"""The training loop, for pretraining and fine-tuning: `python -P -m model.trainer JOB.json`.

It runs in a child process and talks through files of its work folder: `metrics.jsonl` (a row an optimizer step),
`checkpoints/`, and at the end `result.json`; final weights go to the output folder. Killed at any moment and started
again, it ends with the same weights bit for bit: a batch is a function of (seed, step), and all else is in the
checkpoint. SIGTERM finishes the step, saves and exits with status 143.
"""

import json
import math
import signal
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.classes import as_classifier
from model.distillation import distilled_nats, load_teacher, restored_snapshot, snapshot, weights_of_snapshot
from model.job import Source, TrainingJob
from model.lora import adapt, load_trained, merge, save_adapter, trained
from model.loss import Loss, learning_of
from model.optimizer import Optimizer
from model.parallel import Workers, add_gradients
from model.transformer import Transformer, initialise, load_model, save_model
from model.validation import BITS_PER_BYTE, Validation, open_validation
from storage.errors import ConfigError, DataError, LlmillError, refused_number
from storage.files import fsync_path, write_json
from storage.processes import REFUSED, watch_parent

TERMINATED = 128 + signal.SIGTERM
MAX_SKIPPED_IN_A_ROW = 3


class Trainer:
    """One run: model, optimizer, data, and how far it is."""

    def __init__(self, job: TrainingJob) -> None:
        if job.processes > 1:
            raise ConfigError(f"processes: {job.processes} are asked for, and this trainer is one; set it to 1")
        configure_torch(job)
        self.job, self.identity = job, job.identity()
        self.workers = Workers(job.threads if job.device == "cpu" else 1)
        self.work = Path(job.work)
        self.metrics_path = self.work / "metrics.jsonl"
        self.device = torch.device(job.device)
        dtype = torch.bfloat16 if job.dtype == "bfloat16" else torch.float32
        if job.initial is None:
            self.model = Transformer(job.shape, dtype)
            initialise(self.model, job.seed)
            self.model.to(self.device)
        else:
            self.model = load_model(Path(job.initial), self.device, dtype).train()
        if job.shape.classes and not self.model.shape.classes:
            self.model = as_classifier(self.model, job.shape.classes).train()
        self.model.requires_grad_(True)
        if job.adapter is not None:
            adapt(self.model, job.adapter, job.seed)
        if job.compiled:
            self.model.compile_blocks()
        self.parameters = list(trained(self.model).values())
        self.optimizer = Optimizer(self.model, job.optimizer)
        learning = learning_of(job)
        self.batches, self.loss = learning.batches(job), learning.loss(job)
        self.teacher = load_teacher(job, self.device, dtype) if job.teacher else None
        # Of a loss in nats per token; of no text for a loss that is none of a text's tokens.
        self.bits_per_byte = 1 / math.log(2) / (self.batches.bytes_per_token or math.nan)
        self.validation = open_validations(job, job.validation)
        self.step = 0
        self.state: dict[str, Any] = {"tokens": 0, "skipped": 0, "skipped_in_a_row": 0, "before": {}}
        self.terminated = False

    def run(self) -> int:
        """Train to the end; returns the exit status."""
        signal.signal(signal.SIGTERM, self._on_terminate)
        self._resume()
        if self.step == 0:
            self.state["before"] = self._validate(open_validations(self.job, self.job.validation_before))
        with self.metrics_path.open("a", encoding="utf-8") as metrics:
            while self.step < self.job.schedule.steps:
                started = time.perf_counter()
                row = self._advance()
                seconds = time.perf_counter() - started
                if self.step % self.job.validation_interval == 0 and self.step < self.job.schedule.steps:
                    row |= self._headline()
                # The one figure that varies from run to run: what reads this file for an artifact leaves it out.
                row["tokens_per_second"] = row["step_tokens"] / seconds
                metrics.write(json.dumps(row) + "\n")
                metrics.flush()
                if self.terminated or self.step % self.job.checkpoint_interval == 0:
                    self._save()
                if self.terminated:
                    return TERMINATED
        self._finish()
        return 0

    def _advance(self) -> dict[str, Any]:
        """One optimizer step; returns its row of metrics."""
        batch = self.batches.batch(self.step).within(self.job.shape.context_length)
        lost = add_gradients(self.model, batch, self.job.micro_batch_tokens, self.workers, self._loss_now())
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.job.optimizer.clip_norm))
        loss = float(lost) / max(1, batch.losses)
        factor = self.job.schedule.factor(self.step)
        if math.isfinite(loss) and math.isfinite(norm):
            self.optimizer.step(factor, self.workers.map)
            self.state["skipped_in_a_row"] = 0
        else:
            self._skip(loss, norm)
        self.optimizer.zero_gradients()
        self.step += 1
        self.state["tokens"] += batch.valid
        return {
            "step": self.step,
            "tokens": self.state["tokens"],
            "step_tokens": int(batch.inputs.size),
            "loss": _finite(loss),
            "bits_per_byte": _finite(loss * self.bits_per_byte),
            "learning_rate": self.job.optimizer.matrix_rate * factor,
            "gradient_norm": _finite(norm),
        }

    def _loss_now(self) -> Loss:
        """The loss of this step: with soft targets as soon as there is a teacher."""
        soft = self.job.soft_targets
        if soft is None or self.step < soft.first_step(self.job.schedule.steps):
            return self.loss
        if self.teacher is None:
            self.teacher = snapshot(self.model)
            _say(f"step {self.step}: these weights are the teacher from here on")
        return partial(distilled_nats, soft, self.teacher)

    def _skip(self, loss: float, norm: float) -> None:
        """A loss or gradient that is not finite must never reach the weights."""
        self.state["skipped"] += 1
        self.state["skipped_in_a_row"] += 1
        _say(f"step {self.step + 1}: loss {loss}, gradient norm {norm}: update skipped")
        if self.state["skipped_in_a_row"] >= MAX_SKIPPED_IN_A_ROW:
            raise DataError(
                f"training diverged: loss or gradient was not finite in {MAX_SKIPPED_IN_A_ROW} steps in a row, the "
                f"last of them step {self.step + 1}. Lower matrix_rate and embedding_rate, or lengthen the warm-up."
            )

    def _validate(self, chosen: dict[str, Validation]) -> dict[str, float | None]:
        """The figures of each sample, bits per byte under its name alone; None where one is no finite number."""
        figures: dict[str, float | None] = {}
        self.model.eval()
        with torch.compiler.set_stance("force_eager") if self.job.compiled else nullcontext():  # rows of all lengths
            for name, one in chosen.items():
                for figure, value in one.figures(self.model, self.workers).items():
                    figures[name if figure == BITS_PER_BYTE else f"{name}_{figure}"] = _finite(value)
        self.model.train()
        return figures

    def _headline(self) -> dict[str, float | None]:
        name, validation = next(iter(self.validation.items()))
        return {f"validation_{validation.headline}": next(iter(self._validate({name: validation}).values()))}

    def _on_terminate(self, signum: int, frame: FrameType | None) -> None:
        self.terminated = True

    # Checkpoints ------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in trained(self.model).items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}
        tensors |= {f"teacher.{name}": tensor for name, tensor in self._earlier_self().items()}
        tensors["random"] = torch.get_rng_state()
        fsync_path(self.metrics_path)  # the checkpoint must not be ahead of its metrics
        save_checkpoint(self.work / "checkpoints", Checkpoint(self.step, tensors, self.state), self.identity)

    def _earlier_self(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of a teacher that is no other model."""
        if self.teacher is None or self.job.teacher:
            return {}
        return weights_of_snapshot(self.teacher, self.model)

    def _resume(self) -> None:
        checkpoint = load_checkpoint(self.work / "checkpoints", self.identity)
        if checkpoint is not None:
            load_trained(self.model, _with_prefix(checkpoint.tensors, "model."))
            self.optimizer.load_state(_with_prefix(checkpoint.tensors, "optimizer."))
            torch.set_rng_state(checkpoint.tensors["random"])
            self.step, self.state = checkpoint.step, checkpoint.state
            if earlier := _with_prefix(checkpoint.tensors, "teacher."):
                self.teacher = restored_snapshot(self.model, earlier)
            _say(f"resumed at step {self.step}")
        cut_metrics(self.metrics_path, self.step)

    def _finish(self) -> None:
        output = Path(self.job.output)
        output.mkdir(parents=True, exist_ok=True)
        if self.job.adapter is not None:
            save_adapter(self.model, self.job.adapter, Path(str(self.job.initial)), Path(self.job.adapter_output))
            merge(self.model)
        save_model(self.model, output)
        result = {
            "parameters": self.job.shape.parameters,
            "trained_parameters": sum(parameter.numel() for parameter in self.parameters),
            "steps": self.step,
            "tokens": self.state["tokens"],
            "skipped": self.state["skipped"],
            "before": self.state["before"],
            "after": self._validate(self.validation),
        }
        write_json(self.work / "result.json", result)


def configure_torch(job: TrainingJob) -> None:
    """Threads and determinism of this process."""
    torch.set_num_threads(1)  # model.parallel: several threads share the rows of a batch, not its operations
    # Some CUDA kernels have no deterministic form: there, a warning; on a CPU all have.
    torch.use_deterministic_algorithms(True, warn_only=job.device != "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs a pass over every new tensor
    torch.set_float32_matmul_precision("highest" if job.device == "cpu" else "high")
    torch.manual_seed(job.seed)


def open_validations(job: TrainingJob, sources: dict[str, Source]) -> dict[str, Validation]:
    """The held-out samples by name."""
    given = (job.validation_tokens, job.preference, job.masked_share)
    return {name: open_validation(source, *given) for name, source in sources.items()}


def cut_metrics(path: Path, step: int) -> None:
    """Keep the rows up to a step: what a killed run wrote after its last checkpoint will be written again."""
    kept = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # the line that a kill cut short
                break
            if row["step"] > step:
                break
            kept.append(line + "\n")
    temporary = path.with_name(f".{path.name}")
    temporary.write_text("".join(kept), encoding="utf-8")
    temporary.replace(path)


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _finite(value: float) -> float | None:
    """The value, or None where it is infinite or NaN, which JSON does not have."""
    return value if math.isfinite(value) else None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def main(arguments: list[str]) -> int:
    """Run the job of a file; an error that the user can fix is its message and status 2.

    What the operating system refuses is the status alone: on a full disk there is no room for a message.
    """
    job = TrainingJob.read(Path(arguments[0]))
    if job.parent_pid is not None:
        watch_parent(job.parent_pid)
    try:
        return Trainer(job).run()
    except LlmillError as error:
        _say(str(error))
        return error.exit_status
    except Exception as error:
        number = refused_number(error)
        if number is None:
            raise
        return REFUSED + number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
