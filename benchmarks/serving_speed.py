"""Tokens a CPU-second of answers to 1, 16 and 32 requests at once, one thread, beside transformers.

    python -m benchmarks.serving_speed [--rounds N] [--nanochat CHECKOUT | --adapters N]

Others are transformers, llama.cpp where the wheel `xllamacpp` is installed, and nanochat's engine, which takes one
prompt for all answers; ours is asked so too. A prompt has 32 tokens, and the likeliest token is taken 128 times.
Figures are CPU time of this process; engines and numbers of requests take turns, and the middle of the rounds counts.
The last line is what a 17th request waits for its first token while 16 others are answered.

With --adapters our engine alone is measured, with N adapters of rank 8 on all maps: requests that ask for none, where
there are none and where there are; all by one; over all in turn; and half of them so.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from benchmarks.scorer_speed import random_model
from benchmarks.serving_peers import NEW_TOKENS, Answer, llama_cpp_engine, nanochat_engine, transformers_engine
from model.adapter_rows import Adapters
from model.decoding import lay_out_for_decoding
from model.engine import Engine, Request
from model.lora import LowRank, adapt, save_adapter, trained
from model.shape import Shape
from model.transformer import Transformer, load_model, save_model

SHAPE = Shape(
    vocabulary_size=4096,
    layers=4,
    width=256,
    heads=4,
    key_value_heads=4,
    head_dim=64,
    feed_forward=704,
    context_length=256,
)
PROMPT_TOKENS = 32
RANKS = LowRank(8, 16.0)
REQUESTS = (1, 16, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="times that each is measured (default: 5)")
    parser.add_argument("--nanochat", type=Path, metavar="CHECKOUT", help="a checkout of nanochat, measured too")
    parser.add_argument("--adapters", type=int, metavar="N", help="measure our engine with so many adapters instead")
    options = parser.parse_args()
    rounds = options.rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = _model(folder)
        if options.adapters is not None:
            _show(_measured(_with_adapters(folder, model, options.adapters), rounds))
            return
        ours = _ours(model)
        engines: dict[str, Answer] = {
            "llmill": ours,
            "llmill, one prompt": lambda prompts: ours(prompts[:1] * len(prompts)),
            "transformers": transformers_engine(folder),
        }
        if options.nanochat is not None:
            engines["nanochat, one prompt"] = nanochat_engine(options.nanochat, SHAPE)
        for kind in ("F16", "Q8_0"):
            with suppress(ImportError):
                engines[f"llama.cpp {kind}"] = llama_cpp_engine(folder, kind, SHAPE, max(REQUESTS))
        speeds = _measured(engines, rounds)
        waits = [_first_token(model) for _ in range(rounds)]
    _show(speeds)
    print(f"first token beside 16 others: {statistics.median(waits) * 1e3:.1f} ms of CPU")


def _model(folder: Path) -> Transformer:
    save_model(random_model(SHAPE), folder)
    model = load_model(folder)
    lay_out_for_decoding(model)
    return model


def _measured(engines: Mapping[str, Answer], rounds: int) -> dict[str, dict[int, float]]:
    """Tokens a CPU-second of each engine for each number of requests."""
    speeds: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for number in REQUESTS:
            for engine, answer in engines.items():
                started = time.process_time()
                answer(_prompts(number))
                used = time.process_time() - started
                speeds.setdefault((engine, number), []).append(number * NEW_TOKENS / used)
    return {engine: {number: statistics.median(speeds[engine, number]) for number in REQUESTS} for engine in engines}


def _show(speeds: Mapping[str, Mapping[int, float]]) -> None:
    print(f"{SHAPE.parameters / 1e6:.1f} million parameters; tokens a CPU-second, and times one request alone")
    for engine, speed in speeds.items():
        cells = [f"{number:>3}: {speed[number]:>6,.0f} ({speed[number] / speed[1]:.2f})" for number in REQUESTS]
        print(f"{engine:<24}{'   '.join(cells)}")


def _prompts(number: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(number)
    prompts: list[list[int]] = torch.randint(
        0, SHAPE.vocabulary_size, (number, PROMPT_TOKENS), generator=generator
    ).tolist()
    return prompts


def _with_adapters(folder: Path, plain: Transformer, number: int) -> dict[str, Answer]:
    model = load_model(folder)
    lay_out_for_decoding(model)
    adapters = Adapters(model, folder)
    for place in range(number):
        adapted = load_model(folder)
        adapt(adapted, RANKS, seed=place)
        with torch.no_grad():
            for parameter in trained(adapted).values():
                parameter.normal_(0, 0.05)
        save_adapter(adapted, RANKS, folder, folder / str(place))
        adapters.add(str(place), folder / str(place))
    names = adapters.names
    return {
        "no adapter is there": _ours(plain),
        "none is asked for": _ours(model, adapters),
        "all by one": _ours(model, adapters, names[:1]),
        f"over {number}": _ours(model, adapters, names),
        f"half of them over {number}": _ours(model, adapters, [one for name in names for one in (name, None)]),
    }


def _ours(model: Transformer, adapters: Adapters | None = None, names: Sequence[str | None] = (None,)) -> Answer:
    """Requests by these adapters in turn."""

    def answer(prompts: list[list[int]]) -> None:
        engine = Engine(model, len(prompts), adapters=adapters)
        for prompt, name in zip(prompts, itertools.cycle(names), strict=False):
            engine.submit(Request(prompt, NEW_TOKENS, adapter=name))
        while engine.running or engine.waiting:
            engine.step()

    return answer


def _first_token(model: Transformer) -> float:
    engine = Engine(model, 17)
    for prompt in _prompts(16):
        engine.submit(Request(prompt, NEW_TOKENS))
    for _ in range(20):
        engine.step()
    late = Request(_prompts(17)[0], NEW_TOKENS)
    started = time.process_time()
    engine.submit(late)
    while not any(made.request is late for made in engine.step()):
        pass
    return time.process_time() - started


if __name__ == "__main__":
    main()
