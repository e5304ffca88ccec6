"""Whatever can say how likely a text is: a trained model, or an n-gram baseline, behind one pair of functions."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.evaluate.backend import Generator, Prompt, Request, Scorer, answer
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.ngrams import NgramModel

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Scorers:
    """`documents`: nats of each document after its first token; `continuations`: (log-likelihood, greedy) of each.

    Of models only: `confidences`, how sure of each next token of each document, and whether rightly; `generations`,
    the text that follows each prompt; `chat`, whether the chat form was learned.
    """

    documents: Callable[[Sequence[Sequence[int]]], list[float]]
    continuations: Scorer
    confidences: Callable[[Sequence[Sequence[int]]], list[tuple[Any, Any]]] | None = None
    generations: Generator | None = None
    chat: bool = False


def ngram_scorers(model: NgramModel) -> Scorers:
    """An n-gram model as a scorer."""
    return Scorers(
        lambda documents: [-float(nats.sum()) for nats in model.log_probabilities(documents)],
        model.score_continuations,
    )


@contextmanager
def model_scorers(
    folder: Path, stride: int, config: EvaluateConfig, device: str, progress: Progress, *, chat: bool = False
) -> Iterator[Scorers]:
    """A model folder as a scorer, while the block lasts; the thread count of the process is put back after it.

    On a CPU the requests are dealt out to `threads` Python threads whose operations have one thread each: such small
    matrices gain nothing from being split, and lose much where another program holds a core (measured on a 0.9M
    model beside a busy core: 42 CPU-seconds with one thread an operation, 87 with two).
    """
    import torch

    from model.calibration import next_token_confidences
    from model.generate import load_model
    from model.scoring import score_continuations, score_documents

    workers = 1 if device.startswith("cuda") else config.threads
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = load_model(folder, device)

        def documents(some: Sequence[Sequence[int]], shown: Progress | None) -> list[float]:
            return score_documents(model, some, stride, config.token_budget, shown)

        def continuations(some: Sequence[Request], shown: Progress | None) -> list[tuple[float, bool]]:
            return score_continuations(model, some, config.token_budget, shown)

        def confidences(some: Sequence[Sequence[int]], shown: Progress | None) -> list[tuple[Any, Any]]:
            return list(next_token_confidences(model, some, config.token_budget, shown))

        def generations(tokenizer: "Tokenizer", some: Sequence[Prompt], shown: Progress | None) -> list[str]:
            answers = []
            for number, prompt in enumerate(some, 1):
                answers.append(answer(model, tokenizer, prompt))
                if shown is not None:
                    shown(number, len(some))
            return answers

        yield Scorers(
            lambda wanted: dealt_out(documents, wanted, workers, progress),
            lambda wanted: dealt_out(continuations, wanted, workers, progress),
            lambda wanted: dealt_out(confidences, wanted, workers, progress),
            lambda tokenizer, wanted: dealt_out(partial(generations, tokenizer), wanted, workers, progress),
            chat,
        )
    finally:
        torch.set_num_threads(before)


def dealt_out(
    score: Callable[[Sequence[Question], Progress | None], list[Answer]],
    wanted: Sequence[Question],
    workers: int,
    progress: Progress,
) -> list[Answer]:
    """`score(wanted)` by several threads, each with every `workers`-th; the answers in order of what was wanted.

    The caller's own thread takes the first share and is the one that shows progress.
    """
    import torch

    with ThreadPoolExecutor(max(1, workers - 1), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        others = [pool.submit(score, wanted[start::workers], None) for start in range(1, workers)]
        shares = [score(wanted[::workers], progress), *(other.result() for other in others)]
    return [shares[number % workers][number // workers] for number in range(len(wanted))]
