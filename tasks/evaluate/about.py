"""What the stage evaluate says about itself."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.errors import ConfigError, DataError
from storage.listing import first_few
from storage.lookup import rows_where
from storage.store.artifacts import Artifact
from tasks.engine.about import DOCUMENTS, About, Figures, MadeRun, Step, Work, not_about_documents
from tasks.engine.reported import Section, Table
from tasks.evaluate.score import (
    CLEAN,
    DIRTY,
    FORGETTING,
    MODEL_NAMES,
    MODELS,
    SCORES,
    TUNED,
    scores_in,
)
from tasks.initial.foreseen import foreseen_shape
from tasks.statistics.outcome import Outcome
from tasks.wording import figure, signed

ITEM_BYTES = 500  # an item asked for costs evaluation about as much as so much held-out text
SHOWN = 10  # results of one document
APART = "Benchmarks, by whether their items are in the data"


def _evaluated_bytes(config: Figures) -> float:
    known = config.get("known_bytes", 0) if config.get("known_text") else 0
    return float(config["heldout_bytes"] + known + ITEM_BYTES * config["items"])


def _check_heldout(recipe: Any, inputs: Mapping[str, Artifact]) -> None:
    """Raises DataError where no text is held out."""
    from tasks.evaluate.documents import check_heldout

    if "clean" in inputs:
        check_heldout(inputs["clean"][DOCUMENTS].path)


def _check_stride(recipe: Any, inputs: Mapping[str, Artifact]) -> None:
    """Raises ConfigError where an open model sees less at once than windows move on by."""
    shape, stride = foreseen_shape(recipe, 1), recipe.evaluate.stride
    if shape is not None and stride is not None and stride > shape.context_length:
        raise ConfigError(
            f"evaluate.stride: {stride} is more than the model's context of {shape.context_length} tokens"
        )


def _check_known(recipe: Any, inputs: Mapping[str, Artifact]) -> None:
    """Raises DataError where the known text has none in the field that is named."""
    if recipe.evaluate.known_text:
        from tasks.evaluate.known import check_known

        with tempfile.TemporaryDirectory() as scratch:
            check_known(recipe.evaluate, Path(scratch))


def _check_benchmarks(recipe: Any, inputs: Mapping[str, Artifact]) -> None:
    """Raises DataError for a benchmark that cannot be loaded or asked. Costs lm-eval's import where there are any."""
    if recipe.evaluate.tasks:
        from tasks.evaluate.lm_eval.loading import load_benchmarks

        load_benchmarks(recipe.evaluate.tasks, recipe.evaluate.seed)


def _explain(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    items = run.part(stage, "items")
    if items is None:
        return None
    names = ("name", "metric", "model", "prompt", "target")
    found = [
        {name: row[name] for name in names} | {"value": row["amount"] / row["weight"] if row["weight"] else None}
        for row in rows_where(items, "document", document["id"])
        if row["model"] in MODELS
    ]
    return {"verdict": "measured" if found else Outcome.NOT_MEASURED, "items": found}


def _words(step: Step) -> list[str]:
    results = [
        f"{item['name']} {item['metric'].replace('_', ' ')}, {item['model']}: {figure(item['value'])}"
        for item in step["items"]
    ]
    return [f"{figure(len(results))} results" if results else "", *first_few(results, SHOWN)]


def _at_end(artifact: Artifact, summary: Figures) -> list[tuple[str, str]]:
    """How much worse the fine-tuned model has become on known text, where that was measured."""
    value, low, high = (summary.get(f"{FORGETTING}_{TUNED}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return []
    interval = f" ({signed(low)} to {signed(high)})" if low is not None and high is not None else ""
    return [(FORGETTING, f"{signed(value)} bits per byte of known text{interval}, fine-tuned less initial model")]


def _check_items(recipe: Any, will: str) -> list[str]:
    """Nothing to say; raises DataError for a file of items that cannot be used, before anything is built."""
    from tasks.decontaminate.items import items_of_files

    for _ in items_of_files(recipe.decontaminate.files) if will == "build" else ():
        pass
    return []


def _report(run: MadeRun, stage: str) -> Section:
    """Figures of benchmarks on the items that were in the data beside those on the others."""
    part = run.part(stage, "scores")
    try:
        found = scores_in(part / SCORES) if part else ()
    except DataError:  # the report's own part on scores says so
        found = ()
    scores = {(one.name, one.metric, one.model): one for one in found}
    rows = []
    for (name, metric, model), score in scores.items():
        apart = [scores.get((f"{name}/{kind}", metric, model)) for kind in (CLEAN, DIRTY)]
        if all(apart):
            shown = [f"{figure(one.value)} of {figure(one.items)}" for one in (score, *apart) if one is not None]
            rows.append((name, metric.replace("_", " "), MODEL_NAMES[model], *shown))
    if not rows:
        return Section()
    columns = ("benchmark", "metric", "model", "all items", "not in the data", "in the data")
    note = "In the data: before decontamination took them out, if it did. All with intervals: under all scores."
    return Section(tables=(Table(heading=APART, columns=columns, rows=tuple(rows), note=note),))


EVALUATE = About(
    work=Work(
        "bytes of held-out text and of items",
        lambda build: _evaluated_bytes(build.config),
        lambda record: _evaluated_bytes(record["identity"]["config"]),
    ),
    checks=(_check_heldout, _check_stride, _check_known, _check_benchmarks),
    telling=("answers_bits_per_byte_base", "answers_bits_per_byte_tuned"),
    report=_report,
    headline={FORGETTING: f"{FORGETTING}_{TUNED}"},
    at_end=_at_end,
    explain=_explain,
    explain_pair=_explain,
    words=_words,
)

ITEMS = About(title="Items of benchmarks", work=None, notices=_check_items, explain=not_about_documents)
BENCHMARKS = About(work=None, explain=not_about_documents)
