"""Training speed on this machine: our step against transformers' Qwen3 with AdamW, same shape, same batch.

    python -m benchmarks.training_speed [--threads 2] [--rounds 6] [--size nano] [--vocabulary 4096]
    python -m benchmarks.training_speed --device cuda --size 124m --vocabulary 50304 --rounds 2

Variants run in turn, round by round, in one process, so that a busy machine slows all alike; printed are medians of
wall time and, on a CPU, of CPU time, which other programs disturb less, and the ratio to the peer. A GPU's peers
compute in bfloat16 (autocast), in parts of a batch that fit into its memory with all scores.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

# As the trainer is started: see tasks/train/trainer_process.py. Must be before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch

from model.batches import Batch
from model.huggingface import config_of
from model.loss import target_nats
from model.optimizer import Optimizer, OptimizerSettings
from model.parallel import Workers, add_gradients
from model.shape import SIZES, Shape
from model.transformer import Transformer, initialise
from tasks.train.device import float32_arithmetic

STEPS_A_ROUND = 3
MICRO_BATCH_TOKENS = 65_536
PEER_MICRO_BATCH_TOKENS = 16_384  # on a GPU; it holds the scores of all places, several times over

Step = Callable[[], None]


def our_step(
    shape: Shape, batch: Batch, threads: int, dtype: torch.dtype, device: str = "cpu", compiled: bool = False
) -> Step:
    """Forward, backward, clipping, Muon and AdamW, as model.trainer does it."""
    model = Transformer(shape, dtype)
    initialise(model, seed=1)
    model.to(device)
    if compiled:
        model.compile_blocks()
    name = str(dtype).removeprefix("torch.")
    arithmetic = float32_arithmetic(name, device)
    optimizer_dtype = getattr(torch, arithmetic.get("optimizer_dtype", name))
    optimizer, workers = Optimizer(model, OptimizerSettings(0.02, 0.01), optimizer_dtype), Workers(threads)
    precision = "medium" if "products" in arithmetic else "highest" if device == "cpu" else "high"

    def step() -> None:
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision(precision)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(True, warn_only=True)
        add_gradients(model, batch, batch.losses, MICRO_BATCH_TOKENS, target_nats, workers)
        optimizer.clip()
        optimizer.step(1.0, workers.map)
        optimizer.zero_gradients()

    return step


def peer_step(shape: Shape, batch: Batch, threads: int) -> Step:
    """The same with transformers' model and loss, and torch.optim.AdamW."""
    model = _peer(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.002, fused=True)
    ids = torch.from_numpy(batch.inputs)

    def step() -> None:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def peer_step_cuda(shape: Shape, batch: Batch, compiled: bool) -> Step:
    """The same on a GPU: bfloat16 by autocast, gradients added up over parts of the batch."""
    model = _peer(shape).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.002, fused=True)
    parts = [torch.from_numpy(part.inputs).to("cuda") for part in batch.split(PEER_MICRO_BATCH_TOKENS)]
    forward = torch.compile(model, dynamic=False) if compiled else model

    def step() -> None:
        torch.use_deterministic_algorithms(False)
        for part in parts:
            with torch.autocast("cuda", torch.bfloat16):
                loss = forward(input_ids=part, labels=part).loss
            (loss / len(parts)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _peer(shape: Shape) -> torch.nn.Module:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**{**config_of(shape), "use_cache": False}))


def muon_step(shape: Shape, threads: int) -> Step:
    """The optimizer alone."""
    model = Transformer(shape)
    initialise(model, seed=1)
    optimizer, workers = Optimizer(model, OptimizerSettings(0.02, 0.01)), Workers(threads)

    def step() -> None:
        torch.set_num_threads(1)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step(1.0, workers.map)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--size", choices=SIZES, default="nano")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    size = SIZES[options.size]
    shape = Shape(
        options.vocabulary,
        *(size.layers, size.width, size.heads, size.key_value_heads, size.head_dim, size.feed_forward),
        size.context_length,
        tied_embeddings=size.tied_embeddings,
    )
    rows = max(1, size.batch_tokens // size.context_length)
    ids = np.random.default_rng(0).integers(0, options.vocabulary, (rows, size.context_length + 1))
    batch = Batch(ids[:, :-1].copy(), ids[:, 1:].copy())
    if options.device == "cuda":
        variants = {
            "transformers + AdamW": peer_step_cuda(shape, batch, compiled=False),
            "transformers + AdamW, compiled": peer_step_cuda(shape, batch, compiled=True),
            "llmill": our_step(shape, batch, 1, torch.bfloat16, "cuda"),
            "llmill, compiled": our_step(shape, batch, 1, torch.bfloat16, "cuda", compiled=True),
        }
    else:
        variants = {
            "transformers + AdamW": peer_step(shape, batch, options.threads),
            "llmill, 1 thread": our_step(shape, batch, 1, torch.float32),
            f"llmill, {options.threads} threads": our_step(shape, batch, options.threads, torch.float32),
            "llmill, bfloat16, 1 thread": our_step(shape, batch, 1, torch.bfloat16),
            "optimizer alone, 1 thread": muon_step(shape, 1),
        }
    print(f"{options.size}: {shape.parameters:,} parameters, {rows * size.context_length:,} tokens a step")
    times = {name: Times() for name in variants}
    for _ in range(options.rounds):
        for name, step in variants.items():
            step()
            for _ in range(STEPS_A_ROUND):
                times[name].take(step, options.device)
    peer = times["transformers + AdamW"]
    for name, taken in times.items():
        print(f"{name:30} {taken.line(rows * size.context_length, peer, shape)}", flush=True)


class Times:
    """Wall and CPU seconds of the steps of a variant."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.cuda = False

    def take(self, step: Step, device: str) -> None:
        self.cuda = device == "cuda"
        self._wait()
        started, used = time.perf_counter(), time.process_time()
        step()
        self._wait()
        self.wall.append(time.perf_counter() - started)
        self.cpu.append(time.process_time() - used)

    def line(self, tokens: int, peer: "Times", shape: Shape) -> str:
        """Milliseconds a step, tokens a second, and the ratio to the peer."""
        seconds, used = statistics.median(self.wall), statistics.median(self.cpu)
        line = f"{seconds * 1000:7.0f} ms  {tokens / seconds:9,.0f} tokens/s"
        if self.cuda:
            attention = 12 * shape.layers * shape.heads * shape.head_dim * shape.context_length
            teraflop = (6 * shape.parameters + attention) * tokens / 1e12
            return f"{line}  {teraflop / seconds:4.0f} TFLOP/s  {statistics.median(peer.wall) / seconds:5.2f} x"
        ratio = statistics.median(peer.cpu) / used
        return f"{line}  {used * 1000:7.0f} CPU-ms  {tokens / used:8,.0f} tokens/CPU-s  {ratio:5.2f} x"

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


if __name__ == "__main__":
    main()
