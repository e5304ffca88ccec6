"""What the stage classify says about itself."""

import json
from collections.abc import Mapping
from typing import Any

from storage.documents import LABELS, TRAIN
from storage.store.artifacts import Artifact
from tasks.engine.about import About, MadeRun, Step, examples_learned, not_about_documents, settings
from tasks.engine.reported import Section, Table
from tasks.wording import figure

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
    note = (
        f"Accuracy {figure(scores['accuracy'])} ({figure(scores['low'])} to {figure(scores['high'])}); logistic "
        f"regression on words {figure(scores['baseline_accuracy'])}; the most frequent class "
        f"{figure(scores['most_frequent'])}; calibration error {figure(scores['calibration_error'])}."
    )
    columns = ("class", "held-out texts", "precision", "recall", "F1")
    return Section(tables=(Table(heading="Classes of held-out texts", columns=columns, rows=rows, note=note),))


def _explain_pair(run: MadeRun, stage: str, pair: Mapping[str, Any]) -> Step | None:
    if pair["part"] != LABELS or run.part(stage, "model") is None:
        return None
    return {"verdict": "for training" if pair["split"] == TRAIN else "held out"}


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
