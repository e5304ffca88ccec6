"""All scorers of an evaluation, both models and the n-gram baselines: each question is put to each of them in turn."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.engine.context import Context
from tasks.evaluate.asked import Asked
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.score import MODELS, TUNED
from tasks.evaluate.scorers.ngrams import NgramModel
from tasks.evaluate.scorers.scorers import Scorers, model_scorers, ngram_scorers
from tasks.tokenize.tokenizer import vocabulary_size
from tasks.train.device import training_device

NGRAMS = {"unigram": 1, "trigram": 3}  # the baselines' orders


class MeasurementCounter:
    """Counts measurements, and shows how far the one under way is."""

    def __init__(self, context: Context, total: int) -> None:
        self._context, self._total, self._done = context, total, 0

    def counted(self, question: Callable[[Scorers], Any], scorers: Scorers) -> Any:
        """The scorer's answer to a question, which counts as one measurement."""
        answer = question(scorers)
        self._done += 1
        self._context.progress(self._done, self._total, "measurements")
        return answer

    def within(self, done: int, total: int) -> None:
        """How far the measurement under way is: `done` of `total` requests."""
        self._context.progress(self._done + done / total, self._total, "measurements")


@dataclass(frozen=True, slots=True)
class Panel:
    """The scorers by name, those of MODELS among them; `load` makes one of a model's folder, while a block lasts."""

    scorers: Mapping[str, Scorers]
    counter: MeasurementCounter
    load: Callable[[Path], AbstractContextManager[Scorers]]

    def ask(self, question: Callable[[Scorers], Any]) -> dict[str, Any]:
        """The answer of every scorer to a question."""
        return {name: self.counter.counted(question, scorer) for name, scorer in self.scorers.items()}

    def ask_models(self, question: Callable[[Scorers], Any], others: Mapping[str, Path]) -> dict[str, Any]:
        """The answers of the models alone, and of others from their folders, of which one is loaded at a time."""
        answers = {name: self.counter.counted(question, self.scorers[name]) for name in MODELS}
        for name, folder in others.items():
            with self.load(folder) as scorer:
                answers[name] = self.counter.counted(question, scorer)
        return answers

    def predict(self, ids: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Each model's confidences in the next tokens of the documents; n-gram baselines have none."""

        def confidences(scorers: Scorers) -> Any:
            assert scorers.confidences is not None  # a model's
            return scorers.confidences(ids)

        return {name: self.counter.counted(confidences, self.scorers[name]) for name in MODELS}


@contextmanager
def scorer_panel(
    config: EvaluateConfig, asked: Asked, models: Mapping[str, Path], questions: int, to_models: int, context: Context
) -> Iterator[Panel]:
    """The baselines counted from the training texts and the models of the folders given, loaded while the block lasts.

    Progress is out of `questions` put to each scorer, and `to_models` that models alone are asked.
    """
    with ExitStack() as loaded:
        scorers: dict[str, Scorers] = {
            name: ngram_scorers(NgramModel(vocabulary_size(asked.encoder), order, asked.training.ids, asked.start))
            for name, order in NGRAMS.items()
        }
        counter = MeasurementCounter(context, questions * (len(scorers) + len(models)) + to_models)
        device = training_device(config.device)

        def load(folder: Path, *, chat: bool = False) -> AbstractContextManager[Scorers]:
            return model_scorers(folder, asked.stride, config, device, counter.within, chat=chat)

        for name, folder in models.items():
            scorers[name] = loaded.enter_context(load(folder, chat=name == TUNED))
        yield Panel(scorers, counter, load)
