"""What a model is worth on data that it is not trained on: bits per byte, which no tokenizer can flatter, or more."""

import math
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.batches import ExampleSet
from model.classes import ClassValidation
from model.job import Source
from model.likelihood import score_continuations, score_documents
from model.masked import MaskedValidation
from model.parallel import Workers
from model.preferences import Preference, PreferenceSet, PreferenceValidation, needed
from model.transformer import Transformer
from storage.documents import HELDOUT
from storage.errors import DataError
from storage.tokens import TokenSet

BITS_PER_BYTE = "bits_per_byte"

Outcomes = npt.NDArray[np.float64]


class Validation(Protocol):
    """A fixed sample that a model can be scored on; `headline` is the figure that its curve shows and that tells a bad
    training from a good one while it goes on: less is better."""

    @property
    def headline(self) -> str: ...

    @property
    def outcomes(self) -> Outcomes | None:
        """What the last `figures` are means of, a row each; None where no interval is drawn from it."""
        ...

    def figures(self, model: Transformer, workers: Workers) -> dict[str, float]: ...


class DocumentValidation:
    """Whole held-out documents, evenly spaced over the set, up to a number of tokens.

    `outcomes` (documents, 2): bits that are lost of each, and its bytes.
    """

    headline = BITS_PER_BYTE
    outcomes: Outcomes | None = None

    def __init__(self, tokens: TokenSet, limit_tokens: int) -> None:
        every = max(1, -(-tokens.tokens // limit_tokens))
        sample = [document for index, document in enumerate(tokens.iterate_documents()) if index % every == 0]
        self.documents = [ids.tolist() for ids, _ in sample if len(ids) > 1]
        self._sizes = [text_bytes for ids, text_bytes in sample if len(ids) > 1]
        if not sum(self._sizes):
            raise DataError(
                "no held-out document to measure the model on: raise collect.heldout_fraction, name held-out groups, "
                "or give documents of more groups"
            )

    def figures(self, model: Transformer, workers: Workers) -> dict[str, float]:
        """Of the text alone: each document is preceded by `<|endoftext|>`, whose prediction is not counted."""
        lost = score_documents(model, self.documents, workers=workers)
        self.outcomes = np.column_stack((np.asarray(lost) / math.log(2), self._sizes)).astype(np.float64)
        return {BITS_PER_BYTE: sum(lost) / math.log(2) / sum(self._sizes)}


class ExampleValidation:
    """Bits per UTF-8 byte of the held-out answers, given their prompts; DataError where there is none."""

    headline, outcomes = BITS_PER_BYTE, None

    def __init__(self, examples: ExampleSet) -> None:
        self.requests = examples.requests()
        self.bytes = int(examples.index[:, 3].sum())
        if not self.bytes:
            raise DataError("no held-out pair to measure the model on: raise collect.heldout_fraction")

    def figures(self, model: Transformer, workers: Workers) -> dict[str, float]:
        lost = -sum(nats for nats, _ in score_continuations(model, self.requests, workers=workers))
        return {BITS_PER_BYTE: lost / math.log(2) / self.bytes}


def open_validation(
    source: Source, limit_tokens: int, preference: Preference | None = None, masked_share: float = 0.0
) -> Validation:
    """The sample that a source names: of a token set held-out documents up to a limit, all else whole."""
    folder = Path(source.folder)
    if source.kind == "examples":
        return ExampleValidation(ExampleSet(folder))
    if source.kind == "classes":
        return ClassValidation(ExampleSet(folder))
    if source.kind == "preferences":
        return PreferenceValidation(PreferenceSet(folder), needed(preference))
    tokens = TokenSet(folder, HELDOUT)
    documents = DocumentValidation(tokens, limit_tokens)
    if source.kind == "masked":
        return MaskedValidation(documents.documents, masked_share, tokens.meta.end_of_text)
    return documents
