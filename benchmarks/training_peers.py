"""Training speed beside nanoGPT's model: equal size, equal batch, CPU time of one thread.

    python -m benchmarks.training_peers --nanogpt CHECKOUT [--rounds 7] [--only float32 ...]

4.3 million parameters: 4 layers, 256 wide, context 256, vocabulary 4,096, 8 rows a step. A step is forward, backward,
clipping and the optimizer's update (nanoGPT's as it comes: AdamW, not fused on a CPU; ours Muon and AdamW). CHECKOUT is
a folder with nanoGPT's model.py. Both have the trainer's settings of the allocator.

Variants run in turn, round by round, in one process, so that a busy machine slows all alike. A line has the median CPU
time of a step, and the median, smallest and largest over the rounds of its speed by that of the peer with equal
settings. `medium` is torch.set_float32_matmul_precision, for the peer alone: with AMX it multiplies in bfloat16
(relative error 2e-3), with AVX-512 alone in float32.
"""

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.training_speed import our_step
from model.batches import Batch
from model.shape import Shape

LAYERS, HEADS, WIDTH, CONTEXT, VOCABULARY, ROWS = 4, 4, 256, 256, 4096, 8
FEED_FORWARD = 704  # of SwiGLU: 4.3 million parameters, as nanoGPT's with GELU
SHAPE = Shape(VOCABULARY, LAYERS, WIDTH, HEADS, HEADS, WIDTH // HEADS, FEED_FORWARD, CONTEXT)
STEPS_A_ROUND = 3
# As the trainer is started: see tasks/train/trainer_process.py. A process reads them as it begins.
SETTINGS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "4294967295"}
SETTINGS["MALLOC_TRIM_THRESHOLD_"] = SETTINGS["MALLOC_MMAP_THRESHOLD_"]

Step = Callable[[], None]


def nanogpt_module(checkout: Path) -> Any:
    """nanoGPT's model.py; our package has its name."""
    spec = importlib.util.spec_from_file_location("nanogpt", checkout / "model.py")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt"] = module
    spec.loader.exec_module(module)
    return module


def nanogpt_step(checkout: Path, batch: Batch, *, bfloat16: bool, medium: bool, compiled: bool) -> Step:
    """A step of nanoGPT's model by its own optimizer; in bfloat16 by autocast."""
    module = nanogpt_module(checkout)
    torch.manual_seed(1)
    model = module.GPT(module.GPTConfig(CONTEXT, VOCABULARY, LAYERS, HEADS, WIDTH, dropout=0.0, bias=False))
    optimizer = model.configure_optimizers(0.1, 6e-4, (0.9, 0.95), "cpu")
    forward = torch.compile(model) if compiled else model
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)

    def step() -> None:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("medium" if medium else "highest")
        with torch.autocast("cpu", torch.bfloat16) if bfloat16 else nullcontext():
            _, loss = forward(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


@dataclass
class Variant:
    """A step and the CPU seconds that it took, a list a round."""

    step: Step
    peer: str  # with equal settings
    rounds: list[float] = field(default_factory=list)

    def measure(self) -> None:
        self.step()
        taken = []
        for _ in range(STEPS_A_ROUND):
            started = time.process_time()
            self.step()
            taken.append(time.process_time() - started)
        self.rounds.append(statistics.median(taken))

    def line(self, peer: "Variant") -> str:
        used = statistics.median(self.rounds)
        ratios = [theirs / ours for theirs, ours in zip(peer.rounds, self.rounds, strict=True)]
        speed = f"{used * 1000:7.0f} CPU-ms  {ROWS * CONTEXT / used:8,.0f} tokens/CPU-s"
        return f"{speed}  {statistics.median(ratios):5.2f} x ({min(ratios):.2f} to {max(ratios):.2f}) of {self.peer}"


def variants(checkout: Path, batch: Batch) -> dict[str, Callable[[], Variant]]:
    """What is compared, each made when it is asked for."""
    found: dict[str, Callable[[], Variant]] = {}

    def add(name: str, peer: str, step: Callable[..., Step], *given: Any, **settings: Any) -> None:
        found[name] = lambda: Variant(step(*given, **settings), peer)

    for kind, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        for how, compiled in (("", False), (" compiled", True)):
            peer = f"nanoGPT {kind}{how}"
            settings = {"bfloat16": kind == "bfloat16", "compiled": compiled}
            add(peer, peer, nanogpt_step, checkout, batch, medium=False, **settings)
            add(f"llmill {kind}{how}", peer, our_step, SHAPE, batch, 1, dtype, compiled=compiled)
    medium = "nanoGPT medium compiled"
    add(medium, medium, nanogpt_step, checkout, batch, bfloat16=False, medium=True, compiled=True)
    return found


def main() -> None:
    if any(os.environ.get(name) != value for name, value in SETTINGS.items()):
        command = [sys.executable, "-m", "benchmarks.training_peers", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | SETTINGS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants, by their names")
    options = parser.parse_args()
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, CONTEXT + 1))
    batch = Batch(ids[:, :-1].copy(), ids[:, 1:].copy())
    made = {
        name: make()
        for name, make in variants(options.nanogpt, batch).items()
        if not options.only or name in options.only
    }
    print(f"{SHAPE.parameters:,} parameters, {ROWS * CONTEXT:,} tokens a step")
    for variant in made.values():  # allocates, and compiles
        variant.step()
    for _ in range(options.rounds):
        for variant in made.values():
            variant.measure()
    for name, variant in made.items():
        print(f"{name:26} {variant.line(made.get(variant.peer, variant))}", flush=True)


if __name__ == "__main__":
    main()
