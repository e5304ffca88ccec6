"""Training speed on this machine: our step against transformers' Qwen3 with AdamW, same shape, same batch.

    python benchmarks/training_speed.py [--threads 2] [--rounds 6] [--size nano] [--vocabulary 4096]

Variants run in turn, round by round, in one process, so that a busy machine slows all alike; printed are medians of
wall time and of CPU time, which other programs disturb less, and the ratio to the peer by CPU time.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

# As the trainer is started: see tasks/training.py. Must stand before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from model.batches import Batch
from model.optimizer import Optimizer, OptimizerSettings
from model.parallel import Workers, add_gradients
from model.shape import SIZES, Shape
from model.transformer import Transformer, initialise

STEPS_A_ROUND = 3


def our_step(shape: Shape, batch: Batch, threads: int, dtype: torch.dtype) -> Callable[[], None]:
    """Forward, backward, clipping, Muon and AdamW, as model.trainer does it."""
    model = Transformer(shape, dtype)
    initialise(model, seed=1)
    optimizer, workers = Optimizer(model, OptimizerSettings(0.02, 0.01)), Workers(threads)

    def step() -> None:
        torch.set_num_threads(1)
        add_gradients(model, batch, 65_536, workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(1.0, workers.map)
        optimizer.zero_gradients()

    return step


def peer_step(shape: Shape, batch: Batch, threads: int) -> Callable[[], None]:
    """The same with transformers' model and loss, and torch.optim.AdamW."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    model = Qwen3ForCausalLM(Qwen3Config(**shape.to_huggingface()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.002, fused=True)
    ids = torch.from_numpy(batch.inputs)

    def step() -> None:
        torch.set_num_threads(threads)
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def muon_step(shape: Shape, threads: int) -> Callable[[], None]:
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
    variants = {
        "transformers + AdamW": peer_step(shape, batch, options.threads),
        "llmill, 1 thread": our_step(shape, batch, 1, torch.float32),
        f"llmill, {options.threads} threads": our_step(shape, batch, options.threads, torch.float32),
        "llmill, bfloat16, 1 thread": our_step(shape, batch, 1, torch.bfloat16),
        "optimizer alone, 1 thread": muon_step(shape, 1),
    }
    wall: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name, step in variants.items():
            step()
            for _ in range(STEPS_A_ROUND):
                started, used = time.perf_counter(), time.process_time()
                step()
                wall[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - used)
    tokens = rows * size.context_length
    peer = statistics.median(cpu["transformers + AdamW"])
    print(f"{options.size}: {shape.parameters:,} parameters, {tokens:,} tokens a step")
    for name in variants:
        seconds, used = statistics.median(wall[name]), statistics.median(cpu[name])
        print(
            f"{name:30} {seconds * 1000:7.0f} ms  {tokens / seconds:8,.0f} tokens/s  {used * 1000:7.0f} CPU-ms  "
            f"{tokens / used:8,.0f} tokens/CPU-s  {peer / used:5.2f} x"
        )


if __name__ == "__main__":
    main()
