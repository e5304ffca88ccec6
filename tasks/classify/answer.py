"""A classifier that is asked: texts in, their classes out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.huggingface import read_shape
from storage.errors import DataError
from tasks.classify.stage import readable_ids
from tasks.classify.token_pairs import TokenPairs, together

Classifier = Callable[[Sequence[str]], list[dict[str, Any]]]


def open_classifier(folder: Path, threads: int) -> Classifier:
    """What answers with `label`, `probability` and `probabilities` by label for each text; DataError for a folder that
    holds no classifier with its tokenizer."""
    from model.classes import class_scores
    from model.parallel import Workers
    from model.transformer import load_model

    shape = read_shape(folder)
    if not shape.classes:
        raise DataError(
            f"{folder}: holds a language model and no classifier; give one that the stage classify has made"
        )
    if not (folder / "tokenizer.json").is_file():
        raise DataError(f"{folder}: has no tokenizer.json beside the classifier")
    model, workers = load_model(folder), Workers(threads)
    pairs = TokenPairs.load(folder, len(shape.classes))

    def answer(texts: Sequence[str]) -> list[dict[str, Any]]:
        ids = [one[: shape.context_length] for one in readable_ids(folder, texts)]
        found = []
        own = class_scores(model, ids, workers) if ids else np.empty((0, len(shape.classes)))
        for scores in together(own, pairs.scores(ids)) if pairs else own:
            shares = {name: round(float(share), 6) for name, share in zip(shape.classes, np.exp(scores), strict=True)}
            label = max(shares, key=lambda name: shares[name])
            found.append({"label": label, "probability": shares[label], "probabilities": shares})
        return found

    return answer
