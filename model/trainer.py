"""The training loop, for pretraining and fine-tuning: `python -P -m model.trainer JOB.json`.

It runs in a child process and talks through files of its work folder: `metrics.jsonl` (a row an optimizer step),
`checkpoints/`, and at the end `result.json`; final weights go to the output folder. Killed at any moment and started
again, it ends with the same weights bit for bit: a batch, and what dropout leaves out of it, are functions of
(seed, step), and all else is in the checkpoint. SIGTERM ends it where it is, be it in a step, a validation or in
compiling: it saves and exits with status 143. What it does where training goes wrong says model/policy.py.
"""

import math
import os
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import policy
from model.batches import Batch
from model.checkpoint import Checkpoint, Saver
from model.distillation import distilled_nats, load_teacher, restored_snapshot, snapshot, weights_of_snapshot
from model.dropout import with_noise
from model.job import TrainingJob
from model.loss import Loss, learning_of
from model.metrics import cut_metrics, write_metrics
from model.optimizer import Optimizer
from model.output import write_outcomes, write_output, write_result
from model.parallel import Workers, add_gradients
from model.ranks import LAUNCHER, device_of, join
from model.sharding import add_sharded_gradients
from model.start import configure_torch, first_model, open_validations
from model.termination import TERMINATED, TerminatedError, Termination
from model.trained import Trained
from model.validation import BITS_PER_BYTE, Validation
from storage.errors import DataError, LlmillError, refused_number
from storage.files import fsync_path
from storage.processes import REFUSED, watch_parent


class Trainer:
    """One run: model, optimizer, data, and how far it is."""

    def __init__(self, job: TrainingJob) -> None:
        configure_torch(job)
        self.job, self.ranks = job, join(job)
        self.workers = Workers(job.threads if job.device == "cpu" and not self.ranks.sharded else 1, job.compiled)
        self.metrics_path = Path(job.work) / "metrics.jsonl"
        self.saver = Saver(Path(job.work) / "checkpoints", job.identity(), job.checkpoints_kept, self.ranks)
        self.device = device_of(job)
        dtype, optimizer_dtype = getattr(torch, job.dtype), getattr(torch, job.optimizer_dtype or job.dtype)
        self.model = first_model(job, self.device, dtype, self.ranks)
        self.trained = Trained(self.model, self.ranks)
        self.optimizer = Optimizer(self.model, job.optimizer, optimizer_dtype, self.ranks)
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
            "processes": job.processes,
        }
        self.best: dict[str, Tensor] = {}  # weights, where training may end early
        self.termination = Termination(self.ranks)

    def run(self) -> int:
        """Train to the end; returns the exit status."""
        self.termination.listen()
        self._resume()
        try:
            if self.step == 0:
                self.state["before"] = self._validate(open_validations(self.job, self.job.validation_before), "before")
            self._train()
            self._finish()
        except TerminatedError:
            self._save()
            self.saver.wait()
            self.ranks.leave()
            return TERMINATED
        finally:
            self.saver.give_up()
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
            if self.ranks.first:
                write_metrics(self.metrics_path, row)
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
        self.ranks.beat()
        batch = with_noise(self.batches.batch(self.step).within(self.job.shape.context_length), self.job, self.step)
        lost = self._gradients(batch)
        norm = self.optimizer.clip()
        loss = float(lost) / batch.losses if batch.losses else math.nan
        factor = self.job.schedule.factor(self.step) * self.state["rate"]
        fault = policy.fault_of(loss, norm, self.state, self.job.spike_factor) if batch.losses else policy.NOTHING
        if fault is None:
            self.optimizer.step(factor, self.workers.map)
        elif policy.leave_out(self.state):
            self._go_back(fault)
            return None
        else:
            self._note(f"{fault}: {policy.LEFT_OUT}")
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
        """The gradients of a batch, in smaller parts where memory is short; returns the loss summed over all ranks."""
        while True:
            lost = self.termination.interruptible(partial(self._own_gradients, batch))
            if not self.ranks.worst(lost is None) and lost is not None:
                self.ranks.add([lost, *([] if self.ranks.sharded else self.optimizer.gradients())])
                return lost
            self.optimizer.zero_gradients()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.state["micro_batch_tokens"] = policy.smaller_parts(self.state["micro_batch_tokens"], batch)
            self._note(f"out of memory: {self.state['micro_batch_tokens']:,} tokens at once from here on")

    def _own_gradients(self, batch: Batch) -> Tensor | None:
        """Those of this rank's rows; returns their summed loss, or None where memory is short."""
        given = (max(1, batch.losses), self.state["micro_batch_tokens"], self._loss_now(), self.ranks)
        try:
            if self.ranks.sharded:
                return add_sharded_gradients(self.model, batch, *given, lambda: self.termination.asked)
            return add_gradients(self.model, self.ranks.share(batch), *given[:3], self.workers)
        except Exception as error:
            if self.termination.asked:  # the compiler's own process may have been ended by SIGTERM too
                raise TerminatedError from error
            if not policy.is_out_of_memory(error):
                raise
            if self.ranks.sharded:
                raise DataError("out of memory: lower micro_batch_tokens, or train in more processes") from None
            return None

    def _loss_now(self) -> Loss:
        """The loss of this step: with soft targets as soon as there is a teacher."""
        soft = self.job.soft_targets
        if soft is None or self.step < soft.first_step(self.job.schedule.steps):
            return self.loss
        if self.teacher is None:
            self.teacher = snapshot(self.model)
            self._say(f"step {self.step}: these weights are the teacher from here on")
        return partial(distilled_nats, soft, self.teacher)

    def _go_back(self, fault: str) -> None:
        """To the newest checkpoint, and on from there at lower rates; DataError where that has not helped before."""
        step, now = self.step + 1, self.state
        self._saved()
        checkpoint = self.saver.newest()
        if checkpoint is None or now["returns"] >= policy.MOST_RETURNS:
            raise DataError(
                f"training diverged: {policy.MOST_BAD_IN_A_ROW} bad steps in a row, the last of them step {step}: "
                f"{fault}. {policy.history(now, checkpoint is not None)}. It held {self.batches.held(self.step)}. "
                "Lower matrix_rate and embedding_rate, lengthen the warm-up, or look at these texts"
            )
        if checkpoint.step == now["returned_to"]:
            self.ranks.barrier()
            if self.ranks.first:
                self.saver.drop(checkpoint.step)  # what went wrong is in it already
            self.ranks.barrier()
            checkpoint = self.saver.newest() or checkpoint
        self._take_up(checkpoint)
        self.state = policy.after_return(now, checkpoint.state, self.step)
        self._note(f"step {step}: {fault}: back to step {self.step}, at {self.state['rate']:g} of the rates")
        self._save()

    def _note(self, what: str) -> None:
        """Something that happened in the step under way: for the log, the curve and the record of the training."""
        self.state["events"] = [*self.state["events"], {"step": self.step + 1, "what": what}]
        self._say(f"step {self.step + 1}: {what}")

    def _say(self, line: str) -> None:
        if self.ranks.first:
            _say(line)

    def _validate(self, chosen: dict[str, Validation], moment: str = "") -> dict[str, float | None]:
        """The figures of each sample, bits per byte under its name alone; None where one is no finite number."""
        figures: dict[str, float | None] = {}
        self.model.eval()
        eager = torch.compiler.set_stance("force_eager") if self.job.compiled else nullcontext()  # rows of all lengths
        with eager:
            for name, one in chosen.items():
                self.ranks.beat()
                found = self.termination.interruptible(partial(one.figures, self.model, self.workers))
                for figure, value in found.items():
                    figures[name if figure == BITS_PER_BYTE else f"{name}_{figure}"] = _finite(value)
        self.model.train()
        if moment and self.ranks.first:
            write_outcomes(Path(self.job.work), moment, chosen)
        return figures

    def _headline(self) -> dict[str, float | None]:
        """What the curve shows of held-out data; the best weights by it are kept where training may end early."""
        name, validation = next(iter(self.validation.items()))
        value = next(iter(self._validate({name: validation}).values()))
        if self.job.patience is not None and policy.is_best(value, self.step, self.state):
            self.best = self.trained.copy()
        return {f"validation_{validation.headline}": value}

    def _is_over(self) -> bool:
        """Whether held-out data say that going on makes the model worse."""
        best, patience = self.state["best"], self.job.patience
        if best is None or patience is None or self.state["row"] is not None:
            return False
        return bool(self.step - best["step"] >= patience * self.job.validation_interval)

    # Checkpoints ------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self.trained.pieces().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}
        others = {f"teacher.{name}": tensor for name, tensor in self._earlier_self().items()}
        others |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= self.ranks.pieces(others)
        if self.metrics_path.exists():
            fsync_path(self.metrics_path)  # the checkpoint must not be ahead of its metrics
        self.saver.save(Checkpoint(self.step, tensors, self.state))

    def _saved(self) -> None:
        """Wait until what was saved is whole on the disk."""
        self.saver.wait()
        self.ranks.barrier()

    def _earlier_self(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of a teacher that is no other model."""
        if self.teacher is None or self.job.teacher:
            return {}
        return weights_of_snapshot(self.teacher, self.model)

    def _resume(self) -> None:
        if checkpoint := self.saver.newest():
            self._take_up(checkpoint)
            self._say(f"resumed at step {self.step}")
        else:
            self._cut_metrics(0)
        if self.state["processes"] != (now := self.ranks.count):
            before, self.state["processes"] = self.state["processes"], now
            self._note(f"{now} processes train from here on, not {before}: the same but for rounding, not bit for bit")

    def _take_up(self, checkpoint: Checkpoint) -> None:
        self.trained.load(_with_prefix(checkpoint.tensors, "model."))
        self.optimizer.load_state(_with_prefix(checkpoint.tensors, "optimizer."))
        self.step, self.state = checkpoint.step, checkpoint.state
        self.best = self.trained.held(_with_prefix(checkpoint.tensors, "best."))
        if self.job.soft_targets is not None and not self.job.teacher:
            earlier = _with_prefix(checkpoint.tensors, "teacher.")
            self.teacher = restored_snapshot(self.model, earlier) if earlier else None
        self._cut_metrics(self.step - (self.state["row"] is not None))

    def _cut_metrics(self, step: int) -> None:
        if self.ranks.first:
            cut_metrics(self.metrics_path, step)

    def _finish(self) -> None:
        self._saved()
        after = self._validate(self.validation, "after")
        if self.best:
            after = self._better(after)
        write_output(self.job, self.model, self.trained, sharded=self.ranks.sharded, first=self.ranks.first)
        if self.ranks.first:
            write_result(self.job, self.trained.numbers, self.step, self.state, after)
        self.ranks.leave()

    def _better(self, after: dict[str, float | None]) -> dict[str, float | None]:
        """Take the best weights of all validations where those at the end are none; returns the figures of what is
        taken."""
        last = next(iter(after.values()))
        best = self.state["best"]
        if last is not None and last <= best["value"]:
            return after
        self.trained.put_back(self.best)
        self._note(f"the weights of step {best['step']} are taken: they are the best on held-out data")
        return self._validate(self.validation, "after")


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
    if (parent := os.environ.get(LAUNCHER) if job.ranks > 1 else job.parent_pid) is not None:
        watch_parent(int(parent))
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
