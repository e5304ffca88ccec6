"""Classes of texts: the model with a head of one row a class instead of one a token.

It is read at the last token of a text, which alone has seen all of it; of an encoder at every token, and the mean
counts. In transformers it is a model `ForSequenceClassification`. A text to learn is an example whose answer is its
class: the one target stands where the text's last token is.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from model.batches import PADDED_TO, Batch, Example, ExampleSet
from model.dropout import Noise
from model.parallel import Workers
from model.transformer import PooledHead, Transformer
from storage.errors import DataError

TOKENS_AT_ONCE = 4_096


def as_classifier(model: Transformer, classes: Sequence[str]) -> Transformer:
    """A model of the same weights with a new head, in which no class is likelier than another.

    An encoder's map before the head is the identity at first: nothing of it is random.
    """
    made = Transformer(dataclasses.replace(model.shape, classes=tuple(classes)), model.compute_dtype).to(model.device)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name in made.state_dict()}
    head = {name: torch.zeros_like(tensor) for name, tensor in made.state_dict().items() if name.startswith("score.")}
    if isinstance(made.score, PooledHead):
        head["score.dense.weight"] = torch.eye(made.shape.width)
    made.load_state_dict({**tensors, **head})
    return made


def labelled(ids: Sequence[int], number: int) -> Example:
    """A text, by its ids, and the number of its class."""
    return Example(list(ids), [number], 0)


def class_logits(model: Transformer, ids: Tensor, last: Tensor, noise: Noise | None = None) -> Tensor:
    """Scores (texts, classes), float32, of texts (texts, time) that end where `last` (texts,) says.

    What fills up a row behind its text is seen by no token of it.
    """
    if not isinstance(model.score, PooledHead):
        hidden = model(ids, noise=noise)
        return model.logits(hidden[torch.arange(len(ids), device=ids.device), last])
    inside = torch.arange(ids.shape[1], device=ids.device) <= last[:, None]
    return model.score(model(ids, mask=inside[:, None, None, :], noise=noise), inside)


def class_nats(model: Transformer, batch: Batch) -> Tensor:
    """The summed loss in nats of an encoder's classes: a row a text, with its class at its last token."""
    targets = torch.from_numpy(batch.targets).to(model.device)
    classes, last = targets.max(dim=1)  # what is not scored is negative
    ids = torch.from_numpy(batch.inputs).to(model.device)
    return F.cross_entropy(class_logits(model, ids, last, batch.noise), classes, reduction="sum")


@torch.inference_mode()
def class_scores(
    model: Transformer, texts: Sequence[Sequence[int]], workers: Workers | None = None
) -> npt.NDArray[np.float64]:
    """Log-probabilities (texts, classes); each text must hold an id and fit into the context."""
    order = np.argsort([len(ids) for ids in texts], kind="stable")
    scores = np.empty((len(texts), len(model.shape.classes)))

    def score(rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Tensor]:
        sizes = [len(texts[row]) for row in rows]
        ids = np.zeros((len(rows), -(-max(sizes) // PADDED_TO) * PADDED_TO), np.int64)
        for place, row in enumerate(rows):
            ids[place, : sizes[place]] = texts[row]
        read = torch.from_numpy(ids[:, : model.shape.context_length]).to(model.device)
        last = torch.tensor(sizes, device=model.device) - 1
        return rows, F.log_softmax(class_logits(model, read, last), dim=-1)

    for rows, found in (workers or Workers(1)).stream(score, _batches(order, texts)):
        scores[rows] = found.double().cpu().numpy()
    return scores


def _batches(order: npt.NDArray[np.int64], texts: Sequence[Sequence[int]]) -> list[npt.NDArray[np.int64]]:
    """Texts of like length together, up to so many tokens."""
    found: list[list[int]] = []
    for row in order.tolist():
        if not found or (len(found[-1]) + 1) * len(texts[row]) > TOKENS_AT_ONCE:
            found.append([])
        found[-1].append(row)
    return [np.array(rows) for rows in found]


class ClassValidation:
    """Held-out texts of known classes: the mean loss in nats, and the share whose likeliest class is theirs."""

    headline, outcomes = "loss", None

    def __init__(self, examples: ExampleSet) -> None:
        if not len(examples):
            raise DataError("no held-out text with a label to measure the model on: raise collect.heldout_fraction")
        requests = examples.requests()
        self._texts = [text for text, _ in requests]
        self._classes = np.array([answer[0] for _, answer in requests])

    def figures(self, model: Transformer, workers: Workers) -> dict[str, float]:
        scores = class_scores(model, self._texts, workers)
        own = scores[np.arange(len(scores)), self._classes]
        return {"loss": float(-own.mean()), "accuracy": float((scores.argmax(axis=1) == self._classes).mean())}
