"""What the stage classify says about itself."""

import json
from collections.abc import Mapping
from typing import Any

from storage.documents import LABELS, TRAIN, read_pairs
from storage.store.artifacts import Artifact
from tasks.engine.about import About, MadeRun, Step, examples_learned, not_about_documents, settings
from tasks.engine.reported import Section, Table
from tasks.wording import figure, signed
from tasks.words import folded

MOST_ROWS = 20  # of classes, the largest first


def _check(recipe: Any, inputs: Mapping[str, Artifact]) -> None:
    """Raises DataError where there is nothing to tell apart or to score."""
    from tasks.classify.config import ClassifyConfig
    from tasks.classify.stage import Labels

    if "clean" in inputs:
        Labels.of(recipe.classify or ClassifyConfig(), inputs["clean"])


def _report(run: MadeRun, stage: str) -> Section:
    """Precision, recall and F1 of each class."""
    part = run.part(stage, "class_scores")
    if part is None:
        return Section()
    scores = json.loads((part / "scores.json").read_bytes())
    ranked = sorted(scores["classes"], key=lambda one: (-one["texts"], one["name"]))
    rows = tuple(
        (one["name"], figure(one["texts"]), *(figure(one[name]) for name in ("precision", "recall", "f1")))
        for one in ranked[:MOST_ROWS]
    )
    beside = "; ".join(
        f"of {one['name']} {figure(one['accuracy'])} and {figure(one['macro_f1'])}" for one in scores["baselines"]
    )
    note = (
        f"Accuracy {figure(scores['accuracy'])} ({figure(scores['low'])} to {figure(scores['high'])}), mean F1 "
        f"{figure(scores['macro_f1'])}; logistic regression on TF-IDF {beside}; from the best of them {_gain(scores)}; "
        f"the most frequent class {figure(scores['most_frequent'])}; calibration error "
        f"{figure(scores['calibration_error'])}."
    )
    if "transformer_accuracy" in scores:
        note += f" The transformer alone, as transformers reads it: {figure(scores['transformer_accuracy'])}."
    columns = ("class", "held-out texts", "precision", "recall", "F1")
    return Section(tables=(Table(heading="Classes of held-out texts", columns=columns, rows=rows, note=note),))


def _gain(scores: Mapping[str, Any]) -> str:
    """How much more is told rightly than by the best baseline, and the paired interval where one can be drawn."""
    low, high = scores["gain_low"], scores["gain_high"]
    between = "" if low is None or high is None else f" ({signed(low)} to {signed(high)})"
    return f"a difference of {signed(scores['gain'])}{between}"


def _explain_pair(run: MadeRun, stage: str, pair: Mapping[str, Any]) -> Step | None:
    if pair["part"] != LABELS or run.part(stage, "model") is None:
        return None
    if pair["split"] != TRAIN:
        return {"verdict": "held out"}
    labels = run.read(stage, LABELS)
    others = (other for file in (labels.files if labels else ()) for other in read_pairs(file.path))
    text = folded(pair["prompt"])
    if any(other.split != TRAIN and folded(other.prompt) == text for other in others):
        return {"verdict": "left out", "rule": "leaking"}
    return {"verdict": "for training"}


def _no_words(step: Step) -> list[str]:
    return [""]


CLASSIFY = About(
    title="Classes",
    work=examples_learned("texts", "labels_train", "texts_per_step"),
    checks=(_check,),
    compared=settings("labels", "epochs", "steps", "matrix_rate", "seed"),
    telling=("accuracy", "baseline_accuracy"),
    headline={"labelled_texts": "training_texts"},
    report=_report,
    explain=not_about_documents,
    explain_pair=_explain_pair,
    words=_no_words,
)
