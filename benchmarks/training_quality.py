"""Bits per byte of held-out text after equal CPU time, beside nanoGPT's, nanochat's and litgpt's recipes.

    python -m benchmarks.training_quality --text BOOKS.jsonl --peers FOLDER [--minutes 10] [--seeds 1 2 3] [--only NAME]

BOOKS.jsonl has a document a row, with `id` and `text`; every seventh, by id, is held out (100,000 characters from its
middle are scored). FOLDER holds checkouts `nanoGPT`, `nanochat` and `litgpt`; litgpt needs the package lightning. One
tokenizer for all (BPE, 4,096 tokens, of the training documents), one batch (8 rows of 256 tokens), rows in an order by
seed alone, 4 blocks, 256 wide, bfloat16, one thread, a process for each training. The clock is that process's CPU
time; the first three steps, which allocate and compile, are not on it, nor is scoring. All rates follow the share of
the time that is over, so that each ends its schedule.

Each trains as its own code does it: nanoGPT with AdamW and its cosine, at the best of the rates that were tried (its
own for small models, 1e-3, is worse here), litgpt's Llama with AdamW likewise, nanochat with its optimizer, schedules
of rate, momentum and decay and full windows, as its recipe for CPUs has them, and with its rates for half a million
tokens a step as they are (scaled to the batch, by its rule, they are worse here).
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.training_peers import nanogpt_module

# As the trainer is started: see tasks/train/trainer_process.py. A process reads them as it begins.
SETTINGS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "4294967295"}
SETTINGS |= {"MALLOC_TRIM_THRESHOLD_": "4294967295", "NANOCHAT_DTYPE": "bfloat16"}
VOCABULARY, CONTEXT, ROWS, LAYERS, WIDTH, HEAD = 4096, 256, 8, 4, 256, 64
HELD_OUT_EVERY, HELD_OUT_CHARACTERS = 7, 100_000
UNCOUNTED_STEPS = 3
END = "<|end|>"  # before each document; its id is 0


@dataclass(frozen=True)
class Training:
    """A model, and how it learns: `step` takes inputs and targets (rows, context), how many steps were before, and the
    share of the time that is over; `nats` gives the summed loss of rows."""

    model: Any
    step: Callable[[np.ndarray, np.ndarray, int, float], None]
    nats: Callable[[np.ndarray, np.ndarray], float]


def prepare(text: Path, folder: Path) -> None:
    """Tokens of the documents to train on, and of the held-out excerpts, with the bytes of these."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    with text.open(encoding="utf-8") as lines:
        rows = sorted((json.loads(line) for line in lines), key=lambda row: str(row["id"]))
    held_out = [row["text"] for row in rows[HELD_OUT_EVERY // 2 :: HELD_OUT_EVERY]]
    excerpts = [whole[len(whole) // 2 :][:HELD_OUT_CHARACTERS] for whole in held_out]
    training = [row["text"] for place, row in enumerate(rows) if place % HELD_OUT_EVERY != HELD_OUT_EVERY // 2]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, special_tokens=[END], show_progress=False
    )
    tokenizer.train_from_iterator(training, trainer)

    def ids(texts: list[str]) -> list[np.ndarray]:
        return [np.array([0, *tokenizer.encode(text).ids], dtype=np.int64) for text in texts]

    np.savez(folder / "held_out.npz", *ids(excerpts))
    np.save(folder / "training.npy", np.concatenate(ids(training)))
    (folder / "bytes.json").write_text(json.dumps(sum(len(excerpt.encode()) for excerpt in excerpts)))


def batches(tokens: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets without end, each row of an epoch once."""
    epoch = 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation((len(tokens) - 1) // CONTEXT)
        for first in range(0, len(order) - ROWS + 1, ROWS):
            rows = np.stack([tokens[row * CONTEXT : (row + 1) * CONTEXT + 1] for row in order[first : first + ROWS]])
            yield rows[:, :-1].copy(), rows[:, 1:].copy()
        epoch += 1


def llmill(checkout: Path, seed: int, *, tied: bool) -> Training:
    """Size `micro` as `pretrain` trains it, with a context of 256."""
    import torch

    from model.batches import Batch
    from model.loss import target_nats
    from model.optimizer import Optimizer, OptimizerSettings
    from model.parallel import Workers, add_gradients
    from model.transformer import Transformer, initialise
    from tasks.train.pretrain import PretrainConfig

    config = PretrainConfig(size="micro", context_length=CONTEXT, tied_embeddings=tied)
    shape = config.shape(VOCABULARY)
    model = Transformer(shape, torch.bfloat16)
    initialise(model, seed)
    model.compile_blocks()
    rates = OptimizerSettings(*config.rates_from_nothing(shape), momentum=config.momentum)
    optimizer, workers = Optimizer(model, rates, torch.bfloat16), Workers(1)

    def step(inputs: np.ndarray, targets: np.ndarray, before: int, over: float) -> None:
        batch = Batch(inputs, targets)
        add_gradients(model, batch, batch.losses, config.micro_batch_tokens, target_nats, workers)
        optimizer.clip()
        optimizer.step(min(1.0, over / config.warmup_share, (1 - over) / config.decay_share))
        optimizer.zero_gradients()

    return Training(model, step, lambda inputs, targets: float(target_nats(model, Batch(inputs, targets))))


def nanogpt(checkout: Path, seed: int, *, rate: float = 3e-3) -> Training:
    """nanoGPT with the settings of its small recipe but for the rate: warm-up, and a cosine to a tenth."""
    import torch

    module = nanogpt_module(checkout / "nanoGPT")
    torch.manual_seed(seed)
    model = module.GPT(module.GPTConfig(CONTEXT, VOCABULARY, LAYERS, WIDTH // HEAD, WIDTH, dropout=0.0, bias=False))
    optimizer = model.configure_optimizers(0.1, rate, (0.9, 0.99), "cpu")

    def loss(inputs: np.ndarray, targets: np.ndarray) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return model(torch.from_numpy(inputs), torch.from_numpy(targets))[1]

    return Training(model, partial(_adamw_step, model, optimizer, loss, rate), partial(_summed, loss))


def litgpt(checkout: Path, seed: int, *, rate: float = 2e-3) -> Training:
    """litgpt's Llama of the same size with the settings of its pretraining but for the rate."""
    import torch
    import torch.nn.functional as F

    sys.path.insert(0, str(checkout / "litgpt"))
    from litgpt.config import Config
    from litgpt.model import GPT

    torch.manual_seed(seed)
    sizes = {"block_size": CONTEXT, "vocab_size": VOCABULARY, "padded_vocab_size": VOCABULARY, "n_layer": LAYERS}
    sizes |= {"n_head": WIDTH // HEAD, "n_embd": WIDTH, "intermediate_size": 704}
    kind = {"rotary_percentage": 1.0, "parallel_residual": False, "bias": False}
    model = GPT(Config(**sizes, **kind, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP"))
    model.apply(model._init_weights)
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    forward = torch.compile(model, dynamic=False)

    def loss(inputs: np.ndarray, targets: np.ndarray) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            scores = (forward if model.training else model)(torch.from_numpy(inputs))
        return F.cross_entropy(scores.flatten(0, 1).float(), torch.from_numpy(targets).flatten())

    return Training(model, partial(_adamw_step, model, optimizer, loss, rate), partial(_summed, loss))


def nanochat(checkout: Path, seed: int) -> Training:
    """nanochat at depth 4 with heads of 64 and full windows, as its script for CPUs has them."""
    import torch

    sys.path.insert(0, str(checkout / "nanochat"))
    from nanochat.gpt import GPT, GPTConfig

    torch.manual_seed(seed)
    heads = WIDTH // HEAD
    model = GPT(GPTConfig(CONTEXT, VOCABULARY, LAYERS, heads, heads, WIDTH, window_pattern="L"))
    model.init_weights()
    optimizer = model.setup_optimizer(0.008, 0.3, 0.02, 0.0, 0.5)
    forward = torch.compile(model, dynamic=False)

    def loss(inputs: np.ndarray, targets: np.ndarray) -> Any:
        return (forward if model.training else model)(torch.from_numpy(inputs), torch.from_numpy(targets))

    def step(inputs: np.ndarray, targets: np.ndarray, before: int, over: float) -> None:
        left = min(1.0, (1 - over) / 0.65)  # of the last 0.65 of the time
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * min((before + 1) / 40, left + (1 - left) * 0.05)
            if group["kind"] == "muon":
                group["momentum"] = min(0.85 + 0.12 * before / 400, 0.97 * left + 0.90 * (1 - left))
        loss(inputs, targets).backward()
        optimizer.step()
        model.zero_grad(set_to_none=True)

    return Training(model, step, partial(_summed, loss))


def _adamw_step(
    model: Any,
    optimizer: Any,
    loss: Callable[..., Any],
    rate: float,
    inputs: np.ndarray,
    targets: np.ndarray,
    before: int,
    over: float,
) -> None:
    import torch

    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, over / 0.03) * (0.1 + 0.45 * (1 + math.cos(math.pi * over)))
    loss(inputs, targets).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _summed(loss: Callable[..., Any], inputs: np.ndarray, targets: np.ndarray) -> float:
    return float(loss(inputs, targets)) * inputs.size


TRAININGS: dict[str, Callable[[Path, int], Training]] = {
    "llmill": partial(llmill, tied=False),
    "llmill, tied": partial(llmill, tied=True),
    "nanochat": nanochat,
    "litgpt": litgpt,
    "nanoGPT": nanogpt,
    "nanoGPT at 1e-3": partial(nanogpt, rate=1e-3),
}


def bits_per_byte(training: Training, data: Path) -> float:
    """Of the held-out excerpts, each in rows of the context."""
    import torch

    training.model.eval()
    nats = 0.0
    with torch.no_grad(), np.load(data / "held_out.npz") as excerpts:
        for ids in excerpts.values():
            whole = (len(ids) - 1) // CONTEXT * CONTEXT
            inputs, targets = ids[:whole].reshape(-1, CONTEXT), ids[1 : whole + 1].reshape(-1, CONTEXT)
            for first in range(0, len(inputs), 2 * ROWS):
                nats += training.nats(inputs[first : first + 2 * ROWS], targets[first : first + 2 * ROWS])
            nats += training.nats(ids[None, whole:-1], ids[None, whole + 1 :]) if whole + 1 < len(ids) else 0.0
    return float(nats / math.log(2) / json.loads((data / "bytes.json").read_text()))


def train(name: str, seed: int, data: Path, peers: Path, seconds: float) -> str:
    """One training in this process; returns its line."""
    import torch

    torch.set_num_threads(1)
    training = TRAININGS[name](peers, seed)
    steps, used, started = 0, 0.0, 0.0
    for inputs, targets in batches(np.load(data / "training.npy"), seed):
        if steps == UNCOUNTED_STEPS:
            started = time.process_time()
        training.step(inputs, targets, steps, used / seconds)
        steps += 1
        used = time.process_time() - started if steps > UNCOUNTED_STEPS else 0.0
        if used >= seconds:
            break
    tokens = steps * ROWS * CONTEXT
    size = sum(parameter.numel() for parameter in training.model.parameters()) / 1e6
    rate = tokens / used
    with getattr(torch.compiler, "set_stance", lambda _: nullcontext())("force_eager"):
        found = bits_per_byte(training, data)
    sizes = f"{size:5.2f}M  {tokens / 1e6:6.2f}M tokens  {rate:7,.0f} a CPU-s"
    return f"{name:16} seed {seed}  {sizes}  {found:.4f} bits per byte"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, metavar="BOOKS.jsonl")
    parser.add_argument("--peers", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--prepared", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepared:
        seed = options.seeds[0]
        print(train(options.only[0], seed, options.prepared, options.peers, options.minutes * 60), flush=True)
        return
    with TemporaryDirectory() as folder:
        prepare(options.text, Path(folder))
        for seed in options.seeds:
            for name in options.only:
                one = ["--prepared", folder, "--only", name, "--seeds", str(seed)]
                command = [sys.executable, "-m", "benchmarks.training_quality", *sys.argv[1:], *one]
                subprocess.run(command, env=os.environ | SETTINGS, check=True)


if __name__ == "__main__":
    main()
