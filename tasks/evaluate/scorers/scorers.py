"""Who answers the evaluation's requests: a trained model, or an n-gram baseline, behind one pair of functions.

A scorer here takes requests and returns figures; what a trained model's scorer calls, model/likelihood.py, computes the
log-likelihoods in batches.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.answer.batch import answers
from tasks.answer.chat_form import ChatForm
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.lm_eval.backend import Generator, Prompt, Scorer, asked_of
from tasks.evaluate.scorers.ngrams import NgramModel

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

    On a CPU batches and prompts are dealt out to `threads` Python threads whose operations have one thread each: such
    small matrices gain nothing from being split, and lose much where another program holds a core (measured on a 0.9M
    model beside a busy core: 42 CPU-seconds with one thread an operation, 87 with two).
    """
    import torch

    from model.calibration import next_token_confidences
    from model.likelihood import score_continuations, score_documents
    from model.parallel import Workers
    from model.transformer import load_model

    workers = Workers(1 if device.startswith("cuda") else config.threads)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = load_model(folder, device)

        def generations(form: ChatForm, prompts: Sequence[Prompt]) -> list[str]:
            return answers(model, form.tokenizer, asked_of(prompts), form.control.ends, workers, progress)

        yield Scorers(
            lambda documents: score_documents(model, documents, stride, config.token_budget, progress, workers),
            lambda requests: score_continuations(model, requests, config.token_budget, progress, workers),
            lambda documents: next_token_confidences(model, documents, config.token_budget, progress, workers),
            generations,
            chat,
        )
    finally:
        workers.close()
        torch.set_num_threads(before)
