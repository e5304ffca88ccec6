"""The training loop, for pretraining and fine-tuning: `python -P -m model.trainer JOB.json`.

It runs in a child process and talks through files of its work folder: `metrics.jsonl` (a row an optimizer step),
`checkpoints/`, and at the end `result.json`; final weights go to the output folder. Killed at any moment and started
again, it ends with the same weights bit for bit: a batch is a function of (seed, step), and all else is in the
checkpoint. SIGTERM ends it where it is, be it in a step, a validation or in compiling: it saves and exits with status
143. What it does where training goes wrong says model/policy.py.
"""

import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from model import policy
from model.batches import Batch
from model.checkpoint import Checkpoint, Saver
from model.distillation import distilled_nats, load_teacher, restored_snapshot, snapshot, weights_of_snapshot
from model.job import TrainingJob
from model.lora import load_trained, merge, save_adapter, trained
from model.loss import Loss, learning_of
from model.metrics import cut_metrics, write_metrics
from model.optimizer import Optimizer
from model.parallel import Workers, add_gradients
from model.start import configure_torch, first_model, open_validations
from model.transformer import save_model
from model.validation import BITS_PER_BYTE, Validation
from storage.errors import ConfigError, DataError, LlmillError, refused_number
from storage.files import fsync_path, write_json
from storage.processes import REFUSED, watch_parent

TERMINATED = 128 + signal.SIGTERM


class TerminatedError(Exception):
    """SIGTERM came while nothing was changed that would have to be whole."""


class Trainer:
    """One run: model, optimizer, data, and how far it is."""

    def __init__(self, job: TrainingJob) -> None:
        if job.processes > 1:
            raise ConfigError(f"processes: {job.processes} are asked for, and this trainer is one; set it to 1")
        configure_torch(job)
        self.job = job
        self.workers = Workers(job.threads if job.device == "cpu" else 1)
        self.work = Path(job.work)
        self.metrics_path = self.work / "metrics.jsonl"
        self.saver = Saver(self.work / "checkpoints", job.identity(), job.checkpoints_kept)
        self.device = torch.device(job.device)
        dtype = torch.bfloat16 if job.dtype == "bfloat16" else torch.float32
        self.model = first_model(job, self.device, dtype)
        self.parameters = list(trained(self.model).values())
        self.optimizer = Optimizer(self.model, job.optimizer, dtype)
        learning = learning_of(job)
        self.batches, self.loss = learning.batches(job), learning.loss(job)
        self.teacher = load_teacher(job, self.device, dtype) if job.teacher else None
        # Of a loss in nats per token; of no text for a loss that is none of a text's tokens.
        self.bits_per_byte = 1 / math.log(2) / (self.batches.bytes_per_token or math.nan)
        self.validation = open_validations(job, job.validation)
        self.step = 0
        self.state: dict[str, Any] = {
            **policy.first_state(),
            **{"tokens": 0, "before": {}, "events": [], "micro_batch_tokens": job.micro_batch_tokens, "row": None},
        }
        self.best: dict[str, Tensor] = {}  # weights, where training may end early
        self.terminated, self.may_raise = False, False

    def run(self) -> int:
        """Train to the end; returns the exit status."""
        signal.signal(signal.SIGTERM, self._on_terminate)
        self._resume()
        try:
            if self.step == 0:
                self.state["before"] = self._validate(open_validations(self.job, self.job.validation_before))
            self._train()
            self._finish()
        except TerminatedError:
            self._save()
            self.saver.wait()
            return TERMINATED
        return 0

    def _train(self) -> None:
        while self.step < self.job.schedule.steps and not self._is_over():
            row = self.state["row"] or self._timed_step()
            if row is None:  # it went back
                continue
            if self.step % self.job.validation_interval == 0 and self.step < self.job.schedule.steps:
                self.state["row"] = row  # SIGTERM may come before it is written
                row |= self._headline()
            self.state["row"] = None
            write_metrics(self.metrics_path, row)
            if self.terminated:
                raise TerminatedError
            if self.step % self.job.checkpoint_interval == 0 and not self.state["bad_in_a_row"]:
                self._save()

    def _timed_step(self) -> dict[str, Any] | None:
        """`_advance`, and how fast it was."""
        started = time.perf_counter()
        row = self._advance()
        if row is not None:
            # The one figure that varies from run to run: what reads it for an artifact leaves it out.
            row["tokens_per_second"] = row["step_tokens"] / (time.perf_counter() - started)
        return row

    def _advance(self) -> dict[str, Any] | None:
        """One optimizer step; returns its row of metrics, or None where the run went back instead."""
        batch = self.batches.batch(self.step).within(self.job.shape.context_length)
        lost = self._gradients(batch)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.job.optimizer.clip_norm))
        loss = float(lost) / max(1, batch.losses)
        factor = self.job.schedule.factor(self.step) * self.state["rate"]
        fault = policy.fault_of(loss, norm, self.state, self.job.spike_factor)
        if fault is None:
            self.optimizer.step(factor, self.workers.map)
        elif policy.leave_out(self.state):
            self._go_back(fault)
            return None
        else:
            self._note(f"{fault}: update left out")
        self.optimizer.zero_gradients()
        self.step += 1
        self.state["tokens"] += batch.valid
        events = [event["what"] for event in self.state["events"] if event["step"] == self.step]
        return {
            "step": self.step,
            "tokens": self.state["tokens"],
            "step_tokens": int(batch.inputs.size),
            "loss": _finite(loss),
            "bits_per_byte": _finite(loss * self.bits_per_byte),
            "learning_rate": self.job.optimizer.matrix_rate * factor,
            "gradient_norm": _finite(norm),
            **({"event": "; ".join(events)} if events else {}),
        }

    def _gradients(self, batch: Batch) -> Tensor:
        """The gradients of a batch, in smaller parts where memory is short; returns the summed loss."""
        while True:
            try:
                with self._interruptible():
                    return add_gradients(
                        self.model, batch, self.state["micro_batch_tokens"], self.workers, self._loss_now()
                    )
            except Exception as error:
                if not policy.is_out_of_memory(error):
                    raise
            self.optimizer.zero_gradients()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.state["micro_batch_tokens"] = policy.smaller_parts(self.state["micro_batch_tokens"], batch)
            self._note(f"out of memory: {self.state['micro_batch_tokens']:,} tokens at once from here on")

    def _loss_now(self) -> Loss:
        """The loss of this step: with soft targets as soon as there is a teacher."""
        soft = self.job.soft_targets
        if soft is None or self.step < soft.first_step(self.job.schedule.steps):
            return self.loss
        if self.teacher is None:
            self.teacher = snapshot(self.model)
            _say(f"step {self.step}: these weights are the teacher from here on")
        return partial(distilled_nats, soft, self.teacher)

    def _go_back(self, fault: str) -> None:
        """To the newest checkpoint, and on from there at lower rates; DataError where that has not helped before."""
        step, now = self.step + 1, self.state
        self.saver.wait()
        checkpoint = self.saver.newest()
        if checkpoint is None or now["returns"] >= policy.MOST_RETURNS:
            raise DataError(
                f"training diverged: {policy.MOST_BAD_IN_A_ROW} bad steps in a row, the last of them step {step}: "
                f"{fault}. {policy.history(now, checkpoint is not None)}. It held {self.batches.held(self.step)}. "
                "Lower matrix_rate and embedding_rate, lengthen the warm-up, or look at these texts"
            )
        if checkpoint.step == now["returned_to"]:
            self.saver.drop(checkpoint.step)  # what went wrong is in it already
            checkpoint = self.saver.newest() or checkpoint
        self._take_up(checkpoint)
        self.state = policy.after_return(now, checkpoint.state, self.step)
        self._note(f"step {step}: {fault}: back to step {self.step}, at {self.state['rate']:g} of the rates")
        self._save()

    def _note(self, what: str) -> None:
        """Something that happened in the step under way: for the log, the curve and the record of the training."""
        self.state["events"] = [*self.state["events"], {"step": self.step + 1, "what": what}]
        _say(f"step {self.step + 1}: {what}")

    def _validate(self, chosen: dict[str, Validation]) -> dict[str, float | None]:
        """The figures of each sample, bits per byte under its name alone; None where one is no finite number."""
        figures: dict[str, float | None] = {}
        self.model.eval()
        eager = torch.compiler.set_stance("force_eager") if self.job.compiled else nullcontext()  # rows of all lengths
        with self._interruptible(), eager:
            for name, one in chosen.items():
                for figure, value in one.figures(self.model, self.workers).items():
                    figures[name if figure == BITS_PER_BYTE else f"{name}_{figure}"] = _finite(value)
        self.model.train()
        return figures

    def _headline(self) -> dict[str, float | None]:
        """What the curve shows of held-out data; the best weights by it are kept where training may end early."""
        name, validation = next(iter(self.validation.items()))
        value = next(iter(self._validate({name: validation}).values()))
        if self.job.patience is not None and policy.is_best(value, self.step, self.state):
            self.best = {name: tensor.detach().clone() for name, tensor in trained(self.model).items()}
        return {f"validation_{validation.headline}": value}

    def _is_over(self) -> bool:
        """Whether held-out data say that going on makes the model worse."""
        best, patience = self.state["best"], self.job.patience
        if best is None or patience is None or self.state["row"] is not None:
            return False
        return bool(self.step - best["step"] >= patience * self.job.validation_interval)

    def _on_terminate(self, signum: int, frame: FrameType | None) -> None:
        self.terminated = True
        if self.may_raise:
            raise TerminatedError

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """SIGTERM ends what is done meanwhile at once: no weight is changed by it."""
        if self.terminated:
            raise TerminatedError
        self.may_raise = True
        try:
            yield
        finally:
            self.may_raise = False

    # Checkpoints ------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in trained(self.model).items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}
        tensors |= {f"teacher.{name}": tensor for name, tensor in self._earlier_self().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors["random"] = torch.get_rng_state()
        if self.metrics_path.exists():
            fsync_path(self.metrics_path)  # the checkpoint must not be ahead of its metrics
        self.saver.save(Checkpoint(self.step, tensors, self.state))

    def _earlier_self(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of a teacher that is no other model."""
        if self.teacher is None or self.job.teacher:
            return {}
        return weights_of_snapshot(self.teacher, self.model)

    def _resume(self) -> None:
        checkpoint = self.saver.newest()
        if checkpoint is None:
            cut_metrics(self.metrics_path, 0)
            return
        self._take_up(checkpoint)
        _say(f"resumed at step {self.step}")

    def _take_up(self, checkpoint: Checkpoint) -> None:
        load_trained(self.model, _with_prefix(checkpoint.tensors, "model."))
        self.optimizer.load_state(_with_prefix(checkpoint.tensors, "optimizer."))
        torch.set_rng_state(checkpoint.tensors["random"])
        self.step, self.state = checkpoint.step, checkpoint.state
        self.best = _with_prefix(checkpoint.tensors, "best.")
        if self.job.soft_targets is not None and not self.job.teacher:
            earlier = _with_prefix(checkpoint.tensors, "teacher.")
            self.teacher = restored_snapshot(self.model, earlier) if earlier else None
        cut_metrics(self.metrics_path, self.step - (self.state["row"] is not None))

    def _finish(self) -> None:
        self.saver.wait()
        after = self._validate(self.validation)
        if self.best:
            after = self._better(after)
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
            "events": self.state["events"],
            "before": self.state["before"],
            "after": after,
        }
        write_json(self.work / "result.json", result)

    def _better(self, after: dict[str, float | None]) -> dict[str, float | None]:
        """Take the best weights of all validations where those at the end are none; returns the figures of what is
        taken."""
        last = next(iter(after.values()))
        best = self.state["best"]
        if last is not None and last <= best["value"]:
            return after
        load_trained(self.model, self.best)
        self._note(f"the weights of step {best['step']} are taken: they are the best on held-out data")
        return self._validate(self.validation)


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
