"""Our scorer beside one request at a time and lm-eval's own `hf` backend: same weights, same ids, one process.

    python -m benchmarks.scorer_speed [--data ../shared/data] [--scale 1.0] [--rounds 1] [--token-budget N]

A model of 5M random parameters (4 layers, width 256, vocabulary 8,192, context 1,024), float32, one thread. Each
benchmark is scored by all methods in turn; printed are CPU seconds, which other programs disturb less than wall
time (least of the rounds), and the ratio of each to ours. The largest difference of a log-likelihood and the
accuracies are compared on the way.
"""

import argparse
import functools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# As the trainer is started: see tasks/train/trainer_process.py. Must be before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch

from benchmarks.bench_requests import Questions, Request, arc_easy, blimp, boolq, corpus_texts, lambada, winogrande
from model.likelihood import score_continuations
from model.prefixes import attention_balance, share_prefixes
from model.shape import Shape
from model.transformer import Transformer, save_model

Answers = list[tuple[float, bool]]
Method = Callable[[Sequence[Request]], Answers]
SHAPE = Shape(8192, 4, 256, 4, 2, 64, 704, 1024)


def random_model(shape: Shape) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(shape).requires_grad_(False).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.05)
    return model


@torch.inference_mode()
def one_at_a_time(model: Transformer, requests: Sequence[Request]) -> Answers:
    """What a first implementation does: a forward a request, scores of all its tokens over the vocabulary."""
    answers = []
    for context, continuation in requests:
        ids = torch.tensor([[*context, *continuation][-model.shape.context_length - 1 :]])
        scores = torch.log_softmax(model.logits(model(ids[:, :-1])), dim=-1)[0, -len(continuation) :]
        wanted = ids[0, -len(continuation) :]
        nats = scores.gather(1, wanted[:, None]).double().sum()
        answers.append((float(nats), bool((scores.argmax(-1) == wanted).all())))
    return answers


def hf_backend(folder: Path) -> Any:
    """lm-eval's model for a folder in Hugging Face form."""
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    backend = HFLM(pretrained=str(folder), device="cpu", dtype="float32")
    torch.set_num_threads(1)
    return backend


def hf_answers(backend: Any, batch_size: int, requests: Sequence[Request]) -> Answers:
    backend.batch_size_per_gpu = batch_size
    asked = [(("", ""), list(context), list(continuation)) for context, continuation in requests]
    return backend._loglikelihood_tokens(asked, disable_tqdm=True)


def measured(method: Method, requests: Sequence[Request]) -> tuple[float, Answers]:
    started = time.process_time()
    answers = method(requests)
    return time.process_time() - started, answers


def forwarded(requests: Sequence[Request]) -> tuple[int, int]:
    """Tokens of the requests, and tokens that the shared rows hold."""
    inputs = [[*context, *continuation][-SHAPE.context_length - 1 : -1] for context, continuation in requests]
    groups = share_prefixes(inputs, attention_balance(SHAPE), SHAPE.context_length)
    return sum(map(len, inputs)), sum(group.tokens for group in groups)


def compare(questions: Questions, methods: Mapping[str, Method], rounds: int) -> None:
    """Print one line of seconds and ratios, and one more for each method whose answers differ from ours."""
    requests = questions.requests
    seconds = {name: float("inf") for name in methods}
    answers: dict[str, Answers] = {}
    for _ in range(rounds):
        for name, method in methods.items():
            used, answers[name] = measured(method, requests)
            seconds[name] = min(seconds[name], used)
    tokens, shared = forwarded(requests)
    cells = "".join(f" {used:7.2f} ({used / seconds['ours']:4.1f}x)" for used in seconds.values())
    print(f"{questions.name:16} {len(requests):8,} {tokens:8,} {shared:8,}{cells}", flush=True)
    for name, found in answers.items():
        apart = max(abs(one[0] - other[0]) for one, other in zip(found, answers["ours"], strict=True))
        accuracies = questions.accuracy(found), questions.accuracy(answers["ours"])
        if apart > 1e-4 or accuracies[0] != accuracies[1]:
            print(f"  {name} differs by {apart:.1e} nats; accuracies {accuracies}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the questions")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--token-budget", type=int, default=None, help="default: that of the device")
    options = parser.parse_args()
    torch.set_num_threads(1)

    from tasks.tokenize.tokenizer import TokenizerConfig, learn, save_tokenizer

    texts = corpus_texts(options.data / "corpus" / "wiki_en.jsonl.zst", 3_000_000)
    tokenizer = learn(TokenizerConfig(vocabulary_size=SHAPE.vocabulary_size), texts)
    model = random_model(SHAPE)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder))
        save_tokenizer(tokenizer, Path(folder))
        backend = hf_backend(Path(folder))
    methods: dict[str, Method] = {
        "ours": lambda requests: score_continuations(model, requests, options.token_budget),
        "one at a time": lambda requests: one_at_a_time(model, requests),
        "hf, batch 1": lambda requests: hf_answers(backend, 1, requests),
        "hf, batch 64": lambda requests: hf_answers(backend, 64, requests),
    }

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text).ids

    def some(count: int) -> int:
        return max(1, round(count * options.scale))

    bench = options.data / "bench"
    benchmarks: list[Callable[[], Questions]] = [
        functools.partial(blimp, bench, encode, some(30)),
        functools.partial(arc_easy, bench, encode, some(300), 0),
        functools.partial(arc_easy, bench, encode, some(120), 5),
        functools.partial(winogrande, bench, encode, some(300)),
        functools.partial(boolq, bench, encode, some(150)),
        functools.partial(lambada, bench, encode, some(300)),
    ]
    for method in methods.values():
        method(winogrande(bench, encode, 8).requests)  # what the first call of each costs is not measured
    print(f"{SHAPE.parameters:,} parameters; CPU seconds of one thread, in brackets the ratio to ours")
    print(f"{'':16} {'requests':>8} {'tokens':>8} {'shared':>8}" + "".join(f" {name:>15}" for name in methods))
    for make in benchmarks:
        compare(make(), methods, options.rounds)


if __name__ == "__main__":
    main()
