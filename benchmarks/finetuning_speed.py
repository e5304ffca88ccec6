"""The speed and memory of each kind of fine-tuning, beside transformers with peft: same shape, same rows.

    python -m benchmarks.finetuning_speed [--size micro] [--vocabulary 4096] [--rounds 6]
    python -m benchmarks.finetuning_speed --memory [--size mini] [--rows 2] [--context 128]

Kinds: all weights on pairs, each a row or packed; adapters of rank 8 on all maps of the blocks; preferences (DPO with
likelihoods of the reference that are there, SimPO); classes of texts; plain text, as domain adaptation goes on with;
words hidden in it (an encoder, 15 % of them). The peer is a plain loop: transformers' Qwen3 or EuroBERT, rows padded to
the longest, no mask of attention (rows are filled up on the right, so none is needed; of packed ones positions begin
anew, from which transformers makes the mask), torch.optim.AdamW fused, one thread. Ours is the trainer's step with Muon
and AdamW, one thread. They run in turn, round by round, in one process; printed are, by
medians of CPU time over the four batches of a kind, tokens that are no padding a CPU-second, and ratios to the peer and
to all weights of ours. `--memory`: a process a kind, whose largest resident memory beyond that of its imports is
printed.
"""

import argparse
import dataclasses
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import torch.nn.functional as F

from model.batches import IGNORED, Batch, Example, ExampleSet
from model.classes import as_classifier, labelled
from model.huggingface import config_of
from model.lora import LowRank, adapt
from model.loss import Loss, preferred_nats, target_nats
from model.optimizer import Optimizer, OptimizerSettings
from model.parallel import Workers, add_gradients
from model.preferences import Preference, PreferenceSet
from model.shape import SIZES, Shape
from model.transformer import Transformer, initialise

ALL, PACKED, ADAPTERS, DPO, SIMPO = "all weights", "packed", "adapters", "preferences", "SimPO"
CLASSES_OF_TEXTS, TEXT, HIDDEN = "classes", "plain text", "hidden words"
KINDS = (ALL, PACKED, ADAPTERS, DPO, SIMPO, CLASSES_OF_TEXTS, TEXT, HIDDEN)
PEER, OURS = "transformers", "llmill"
BATCHES, CLASSES, BETA, RANK = 4, 4, 0.1, 8
SIMPO_BETA, SIMPO_MARGIN, HIDDEN_SHARE, MASK = 2.0, 1.0, 0.15, 3
MICRO_BATCH_TOKENS = 65_536

Step = Callable[[], None]


def batches_of(kind: str, shape: Shape, rows: int, folder: Path) -> list[Batch]:
    """Batches of random ids: whole rows of text, or rows of lengths as instructions have them."""
    random = np.random.default_rng(0)
    if kind in (TEXT, HIDDEN):
        ids = random.integers(16, shape.vocabulary_size, (BATCHES, rows, shape.context_length + 1))
        if kind == TEXT:
            return [Batch(one[:, :-1], one[:, 1:]) for one in ids]
        hidden = random.random((BATCHES, rows, shape.context_length)) < HIDDEN_SHARE
        shown = ids[:, :, :-1]
        return [
            Batch(np.where(hide, MASK, one), np.where(hide, one, IGNORED))
            for one, hide in zip(shown, hidden, strict=True)
        ]
    longest = shape.context_length // 2  # of a prompt; an answer is shorter
    prompts, answers = (random.integers(16, most, BATCHES * rows).tolist() for most in (longest, longest // 2))

    def some(count: int) -> list[int]:
        return [int(one) for one in random.integers(0, shape.vocabulary_size, count)]

    numbers = np.arange(BATCHES * rows).reshape(BATCHES, rows)
    if kind == CLASSES_OF_TEXTS:
        examples = [
            labelled(some(size), int(random.integers(CLASSES))) for size in map(sum, zip(prompts, answers, strict=True))
        ]
    else:
        examples = [Example(some(prompt), some(answer), 1) for prompt, answer in zip(prompts, answers, strict=True)]
    if kind not in (DPO, SIMPO):
        ExampleSet.write(folder, examples)
        written = ExampleSet(folder)
        if kind == PACKED:
            return [written.packed(chosen, shape.context_length) for chosen in numbers]
        return [written.batch(chosen) for chosen in numbers]
    PreferenceSet.write(folder, examples, [-float(len(one.answer)) for one in examples])
    return [PreferenceSet(folder).batch(chosen) for chosen in numbers.reshape(-1)[::2].reshape(BATCHES, -1) // 2]


def our_step(kind: str, shape: Shape, batches: Iterator[Batch]) -> Step:
    """A step of our trainer."""
    model = Transformer(shape)
    initialise(model, seed=1)
    if kind == CLASSES_OF_TEXTS:
        model = as_classifier(model, [str(number) for number in range(CLASSES)])
    if kind == ADAPTERS:
        adapt(model, LowRank(RANK, 2.0 * RANK), seed=1)
    losses: dict[str, Loss] = {
        DPO: partial(preferred_nats, Preference("dpo", BETA)),
        SIMPO: partial(preferred_nats, Preference("simpo", SIMPO_BETA, SIMPO_MARGIN)),
    }
    loss = losses.get(kind, target_nats)
    optimizer, workers = Optimizer(model, OptimizerSettings(0.02, 0.01)), Workers(1)

    def step() -> None:
        torch.use_deterministic_algorithms(True)
        batch = next(batches)
        add_gradients(model, batch, batch.losses, MICRO_BATCH_TOKENS, loss, workers)
        optimizer.clip()
        optimizer.step(1.0, workers.map)
        optimizer.zero_gradients()

    return step


def peer_step(kind: str, shape: Shape, batches: Iterator[Batch]) -> Step:
    """A step of a plain loop with transformers and, for adapters, peft."""
    import transformers

    settings = {**config_of(shape), "use_cache": False, "num_labels": CLASSES}
    name = {CLASSES_OF_TEXTS: "Qwen3ForSequenceClassification", HIDDEN: "EuroBertForMaskedLM"}.get(
        kind, "Qwen3ForCausalLM"
    )
    config = getattr(transformers, "EuroBertConfig" if kind == HIDDEN else "Qwen3Config")(**settings)
    model: Any = getattr(transformers, name)(config)
    if kind == ADAPTERS:
        from peft import LoraConfig, get_peft_model

        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=names))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.001, fused=True)

    def step() -> None:
        torch.use_deterministic_algorithms(False)
        _peer_loss(kind, model, next(batches)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _peer_loss(kind: str, model: Any, batch: Batch) -> torch.Tensor:
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    if kind == CLASSES_OF_TEXTS:
        base, valid = model.base_model, targets != IGNORED
        return F.cross_entropy(model.score(base(input_ids=inputs).last_hidden_state[valid]), targets[valid])
    scores = model(input_ids=inputs, position_ids=_positions(batch)).logits
    if kind not in (DPO, SIMPO):
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    nats = F.cross_entropy(scores.mT, targets, ignore_index=IGNORED, reduction="none").sum(dim=1)
    if kind == SIMPO:
        gaps = SIMPO_BETA * -nats / (targets != IGNORED).sum(dim=1)
        return -F.logsigmoid(gaps[0::2] - gaps[1::2] - SIMPO_MARGIN).mean()
    gaps = BETA * (-nats - torch.from_numpy(batch.reference).float())
    return -F.logsigmoid(gaps[0::2] - gaps[1::2]).mean()


def _positions(batch: Batch) -> torch.Tensor | None:
    """Of packed rows the place of each token in its example."""
    if batch.segments is None:
        return None
    place = np.arange(batch.inputs.shape[1])[None]
    begins = np.diff(batch.segments, axis=1, prepend=-2) != 0
    return torch.from_numpy(place - np.maximum.accumulate(np.where(begins, place, 0), axis=1))


def tokens_of(kind: str, batches: list[Batch]) -> float:
    """Tokens of a batch that are no padding, on average: up to the last target of each row, but of text all."""
    if kind in (TEXT, HIDDEN):
        return float(batches[0].inputs.size)
    ends = [(batch.targets != IGNORED)[:, ::-1].argmax(axis=1) for batch in batches]
    return float(np.mean([(batch.inputs.shape[1] - end).sum() for batch, end in zip(batches, ends, strict=True)]))


def as_encoder(shape: Shape) -> Shape:
    """The same sizes in EuroBERT's family."""
    return dataclasses.replace(shape, family="eurobert", mask_token=MASK)


def step_of(who: str, kind: str, shape: Shape, batches: list[Batch]) -> Step:
    return (our_step if who == OURS else peer_step)(kind, shape, cycle(batches))


def compare(shape: Shape, rows: int, rounds: int) -> None:
    """Time all kinds of both in turn, and print a line a kind."""
    steps: dict[tuple[str, str], Step] = {}
    tokens: dict[str, float] = {}
    taken: dict[tuple[str, str], list[float]] = {}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            batches = batches_of(kind, shape, rows, Path(folder))
        tokens[kind] = tokens_of(kind, batches)
        made = as_encoder(shape) if kind == HIDDEN else shape
        steps |= {(who, kind): step_of(who, kind, made, batches) for who in (PEER, OURS)}
    for turn in range(rounds + 1):  # the first warms up
        for key, step in steps.items():
            used = time.process_time()
            for _ in range(BATCHES):
                step()
            if turn:
                taken.setdefault(key, []).append((time.process_time() - used) / BATCHES)
    rate = {key: tokens[key[1]] / statistics.median(seconds) for key, seconds in taken.items()}
    print(f"{'kind':14}{OURS:>10}{PEER:>14}  tokens a CPU-second; ratio to the peer; to all weights of ours")
    for kind in KINDS:
        own, other = rate[OURS, kind], rate[PEER, kind]
        print(f"{kind:14}{own:10,.0f}{other:14,.0f}{own / other:8.2f}{own / rate[OURS, KINDS[0]]:8.2f}", flush=True)


def print_memory(options: argparse.Namespace) -> None:
    """Largest memory of each kind of both, in processes of their own."""
    print(f"{'kind':14}{OURS:>10}{PEER:>14}  MB beyond imports")
    for kind in KINDS:
        row = []
        for who in (OURS, PEER):
            arguments = ["--size", options.size, "--vocabulary", str(options.vocabulary), "--rows", str(options.rows)]
            arguments += ["--context", str(options.context)] if options.context else []
            arguments += ["--one", who, kind]
            found = subprocess.run(
                [sys.executable, "-m", "benchmarks.finetuning_speed", *arguments],
                check=True,
                capture_output=True,
                text=True,
            )
            row.append(int(found.stdout))
        print(f"{kind:14}{row[0]:10,}{row[1]:14,}", flush=True)


def print_one(who: str, kind: str, shape: Shape, rows: int) -> None:
    """Print the megabytes that a few steps of one kind take at most."""
    import peft  # noqa: F401
    import transformers  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        batches = batches_of(kind, shape, rows, Path(folder))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = step_of(who, kind, as_encoder(shape) if kind == HIDDEN else shape, batches)
    for _ in range(BATCHES):
        step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="micro")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--rows", type=int, default=32, help="of a step; two of them are a preference")
    parser.add_argument(
        "--context", type=int, help="of which rows take up to three quarters, 68 or more; default: the size's"
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = SIZES[options.size]
    numbers = (size.layers, size.width, size.heads, size.key_value_heads, size.head_dim, size.feed_forward)
    context = options.context or size.context_length
    shape = Shape(options.vocabulary, *numbers, context, tied_embeddings=size.tied_embeddings)
    torch.set_num_threads(1)
    # DPO on random text is soon certain: its gradients get denormal, with which a CPU's step takes ten times as long.
    torch.set_flush_denormal(True)
    if options.one:
        who, kind = options.one
        print_one(who, kind, shape, options.rows)
        return
    print(
        f"{options.size}: {shape.parameters:,} parameters, vocabulary {shape.vocabulary_size:,}, "
        f"{options.rows} rows a step in a context of {context:,}",
        flush=True,
    )
    print_memory(options) if options.memory else compare(shape, options.rows, options.rounds)


if __name__ == "__main__":
    main()
