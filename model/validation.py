"""Bits per byte on data that is not trained on: the one figure that no tokenizer can flatter."""

import math
from pathlib import Path
from typing import Protocol

from model.batches import ExampleSet
from model.job import Source
from model.likelihood import score_continuations, score_documents
from model.parallel import Workers
from model.transformer import Transformer
from storage.documents import HELDOUT
from storage.errors import DataError
from storage.tokens import TokenSet


class Validation(Protocol):
    """A fixed sample that a model can be scored on."""

    def bits_per_byte(self, model: Transformer, workers: Workers) -> float: ...


class DocumentValidation:
    """Whole held-out documents, evenly spaced over the set, up to a number of tokens."""

    def __init__(self, tokens: TokenSet, limit_tokens: int) -> None:
        every = max(1, -(-tokens.tokens // limit_tokens))
        sample = [document for index, document in enumerate(tokens.iterate_documents()) if index % every == 0]
        self.documents = [ids.tolist() for ids, _ in sample if len(ids) > 1]
        self.bytes = sum(text_bytes for ids, text_bytes in sample if len(ids) > 1)
        if not self.bytes:
            raise DataError(
                "no held-out document to measure the model on: raise collect.heldout_fraction, name held-out groups, "
                "or give documents of more groups"
            )

    def bits_per_byte(self, model: Transformer, workers: Workers) -> float:
        """Of the text alone: each document is preceded by `<|endoftext|>`, whose prediction is not counted."""
        return sum(score_documents(model, self.documents, workers=workers)) / math.log(2) / self.bytes


class ExampleValidation:
    """Bits per UTF-8 byte of the held-out answers, given their prompts; DataError where there is none."""

    def __init__(self, examples: ExampleSet) -> None:
        self.requests = examples.requests()
        self.bytes = int(examples.index[:, 3].sum())
        if not self.bytes:
            raise DataError("no held-out pair to measure the model on: raise collect.heldout_fraction")

    def bits_per_byte(self, model: Transformer, workers: Workers) -> float:
        lost = -sum(nats for nats, _ in score_continuations(model, self.requests, workers=workers))
        return lost / math.log(2) / self.bytes


def open_validation(source: Source, limit_tokens: int) -> Validation:
    """The sample that a job names; examples are taken whole, a token set's held-out documents up to a limit."""
    if source.kind == "examples":
        return ExampleValidation(ExampleSet(Path(source.folder)))
    return DocumentValidation(TokenSet(Path(source.folder), HELDOUT), limit_tokens)
