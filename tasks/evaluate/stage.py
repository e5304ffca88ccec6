"""Stage evaluate: what the base and the fine-tuned model can do, each figure beside what little would do as well.

Comes in: both models, the canaries planted, the tokenizer, the filtered documents (held-out ones are measured,
training ones make the n-gram baselines), the pairs, and where forgetting is measured the initial model and texts that
it knew; the items of benchmarks that decontam has found in the data. Goes out: part `scores` (scores.json, one line for
each figure; corpus.json, what the documents are; examples.json, a few held-out prompts for the release's samples;
calibration.json and memorisation.json, tables for the report) and part `items` (items.parquet, the amount of each item
for each model and baseline). Cost: about 8 s fixed (lm-eval's import, n-gram counts), then two forward passes over
`heldout_bytes` and some 7,000 short requests for each model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from storage.canonical import canonical_json
from storage.documents import HELDOUT
from storage.store.artifacts import Artifact
from tasks.answer.template_form import needed_chat_form
from tasks.decontaminate.stage import dirty_items
from tasks.engine.context import Context, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.evaluate.asked import Asked, choose_asked
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.documents import check_heldout, index_documents
from tasks.evaluate.known import observe_known, read_known
from tasks.evaluate.lm_eval.benchmarks import measure_benchmarks
from tasks.evaluate.lm_eval.task_files import observe_benchmarks
from tasks.evaluate.measures.calibration import token_calibration
from tasks.evaluate.measures.feedback import feedback_measures, feedback_notices, missing_feedback
from tasks.evaluate.measures.memorisation import canary_measures, memorisation_table, span_measures
from tasks.evaluate.measures.own_items import CHOICES, LEAST_CONTEXT_WORDS
from tasks.evaluate.measures.preferences import preference_measures
from tasks.evaluate.measures.text_and_answers import (
    LEAST_ITEMS,
    answer_measures,
    benchmark_measures,
    frequent_last_word,
    heldout_measures,
    known_measures,
)
from tasks.evaluate.score import FORGETTING, INITIAL, LEARNED_FEEDBACK, MODELS, Score
from tasks.evaluate.scorers.panel import Panel, scorer_panel
from tasks.evaluate.statistics.scores import Measure, missing_lines, score_lines, write_items, write_scores
from tasks.notices import NOTICES
from tasks.train.device import training_device

EXAMPLES = 16
MEASUREMENTS = 7  # questions put to each scorer: held-out text, answers in three forms, benchmarks, spans, canaries

HEADLINES = {  # of the summary, by (name, metric)
    ("heldout", "bits_per_byte"): "heldout_bits_per_byte",
    ("known_text", "bits_per_byte"): "known_text_bits_per_byte",
    ("known_text", FORGETTING): FORGETTING,
    ("answers", "bits_per_byte"): "answers_bits_per_byte",
    ("answers", "prompt_gap"): "answers_prompt_gap",
    ("preferences", "accuracy"): "preference_accuracy",
    ("feedback", "bits_per_byte"): "feedback_bits_per_byte",
    ("feedback", "accuracy"): "feedback_accuracy",
    (LEARNED_FEEDBACK, "bits_per_byte"): "learned_feedback_bits_per_byte",
    ("cloze", "accuracy"): "cloze_accuracy",
    ("choice", "accuracy_mutual_information"): "choice_accuracy",
    ("calibration", "expected_calibration_error"): "calibration_error",
    ("memorisation", "reproduced"): "memorised_spans",
}


def observe_outside(config: EvaluateConfig) -> dict[str, str]:
    """The files of the benchmarks and of known text, and what `auto` stands for on this machine: another device's last
    digits differ."""
    seen = observe_benchmarks(config.tasks) | observe_known(config.known_text)
    return {"device": training_device(config.device)} | seen


@stage(
    "evaluate",
    parts=("scores", "items"),
    reads={
        "base": ("model", "canaries"),
        "tuned": ("model",),
        "tokenizer": ("tokenizer",),
        "clean": ("documents", "signals", "pairs", "preferences"),
        "initial": ("model",),
        "found": ("dirty",),
    },
    optional=("initial", "found"),
    observe=observe_outside,
    libraries=("torch", "lm_eval", "tiktoken", "tokenizers", "pyarrow", UNICODE),
    about="tasks.evaluate.about.EVALUATE",
)
def evaluate(
    config: EvaluateConfig,
    base: Artifact,
    tuned: Artifact,
    tokenizer: Artifact,
    clean: Artifact,
    initial: Artifact | None = None,
    found: Artifact | None = None,
    *,
    context: Context,
) -> Summary:
    """Measure both models on held-out data and benchmarks, and on known text beside the initial model, which is the
    base model itself where none is given."""
    dirty = dirty_items(found["dirty"].path) if found else frozenset()
    check_heldout(clean["documents"].path)
    entries, corpus = index_documents(clean["documents"].path, config.seed)
    form = needed_chat_form(tokenizer["tokenizer"].path)
    known = read_known(config, context.work)
    models = dict(zip(MODELS, (base["model"].path, tuned["model"].path), strict=True))
    others = {INITIAL: initial["model"].path} if initial and initial["model"].digest != base["model"].digest else {}
    folders = (*models.values(), *others.values())
    asked = choose_asked(config, folders, base["canaries"], form, clean, entries, known.documents)

    said = asked.said.counts()
    measurements = MEASUREMENTS + bool(asked.benchmarks.tasks) + (len(asked.preferences) >= LEAST_ITEMS)
    measurements += sum(count >= LEAST_ITEMS for count in said.values()) + bool(asked.said.taught)
    to_models = len(models) + (len(folders) if known.documents else 0)  # calibration, and known text
    with scorer_panel(config, asked, models, measurements, to_models, context) as panel:
        made = _measure(config, asked, panel, others, dirty, context.work / "lm-eval")

    lines = [line for measure in made.measures for line in score_lines(measure, config.bootstrap_draws, config.seed)]
    lines += made.whole
    lines += [*_missing(made.measures, asked.counts()), *missing_feedback(said)]
    tables = {
        "corpus": corpus,
        "examples": _examples(made.measures),
        "calibration": made.reliability,
        "memorisation": memorisation_table(lines, asked.planted, asked.recall),
    }
    folder = context.part("scores")
    write_scores(folder / "scores.json", lines)
    for name, table in tables.items():
        (folder / f"{name}.json").write_bytes(canonical_json(table) + b"\n")
    rows = write_items(context.part("items") / "items.parquet", made.measures)
    notices = [*known.notices, *_notices(made.measures, _wanted(config, asked), len(entries[HELDOUT]))]
    notices += feedback_notices(said)
    return _summary(lines, rows) | ({NOTICES: notices} if notices else {})


@dataclass(frozen=True, slots=True)
class _Found:
    """What the scorers' answers come to: `whole` are figures that are not a mean over items, as lines already;
    `reliability` is the contents of calibration.json."""

    measures: list[Measure]
    whole: list[Score]
    reliability: dict[str, Any]


def _measure(
    config: EvaluateConfig,
    asked: Asked,
    panel: Panel,
    others: Mapping[str, Path],
    dirty: frozenset[str],
    work: Path,
) -> _Found:
    """Put all questions to all scorers, and known text to the models and `others`; lm-eval works in the folder
    `work`. `dirty` are the items of benchmarks that decontam has found."""
    ask, decode, heldout = panel.ask, asked.encoder.decode, asked.heldout
    measures = heldout_measures(ask, heldout.documents, heldout.ids, asked.stride)
    if asked.known.documents:
        ask_models = partial(panel.ask_models, others=others)
        measures += known_measures(ask_models, asked.known.documents, asked.known.ids, asked.stride)
    if len(asked.questions) >= LEAST_ITEMS:
        measures += answer_measures(ask, asked.questions)
    if len(asked.preferences) >= LEAST_ITEMS:
        measures += preference_measures(ask, asked.preferences)
    measures += feedback_measures(ask, asked.said)
    word = frequent_last_word([document.text for document in asked.training.documents])
    measures += benchmark_measures(ask, asked.cloze, asked.choice, word, asked.encode, work, asked.start)
    measures += span_measures(ask, asked.known_spans, asked.other_spans, decode, asked.planted.epochs)
    measures += canary_measures(ask, asked.planted, config.exposure_candidates, config.seed, decode, asked.start)
    calibration, reliability = token_calibration(
        panel.predict, heldout.documents, heldout.ids, config.calibration_tokens
    )
    measures += calibration
    of_tasks, whole = measure_benchmarks(ask, asked.benchmarks, asked.form, asked.context_length, config.seed, dirty)
    return _Found(measures + of_tasks, whole, reliability)


def _wanted(config: EvaluateConfig, asked: Asked) -> dict[str, int]:
    """The counts of items, without the figures that the recipe does not ask for."""
    unasked = {"answers": not asked.pairs, "memorisation": not config.spans}
    return {name: count for name, count in asked.counts().items() if not unasked.get(name)}


def _missing(measures: list[Measure], found: Mapping[str, int]) -> list[Score]:
    """A line that says so for each figure that could not be measured."""
    present = {measure.name for measure in measures}
    metrics = {"answers": "bits_per_byte", "cloze": "accuracy", "choice": "accuracy", "memorisation": "reproduced"}
    rule = f"needs {LEAST_ITEMS} items"
    note = {"answers": "not enough held-out pairs"}
    return [
        line
        for name, metric in metrics.items()
        if name not in present
        for line in missing_lines(name, metric, rule, found[name], **({"note": note[name]} if name in note else {}))
    ]


def _notices(measures: Sequence[Measure], found: Mapping[str, int], documents: int) -> list[str]:
    """What could not be measured, and what to change, a sentence each; nothing where all could."""
    present = {measure.name for measure in measures}
    heldout = f"{documents:,} held-out documents"
    said = {
        "answers": "held-out pairs fit the model beside another of their source: give more in collect.conversations",
        "cloze": f"could be made of {heldout}: it takes sentences of {LEAST_CONTEXT_WORDS} words and more that "
        "end with a word; hold out more text (collect.heldout_fraction)",
        "choice": f"could be made of {heldout}: it takes sentences that follow each other in {CHOICES} documents "
        "or more; hold out more text (collect.heldout_fraction)",
        "memorisation": "spans of training or held-out documents are long enough: give longer documents",
    }
    return [
        f"evaluate: {name} was not measured: {found[name]} of the {LEAST_ITEMS} items that it needs {reason}"
        for name, reason in said.items()
        if name in found and name not in present
    ]


def _examples(measures: list[Measure]) -> list[dict[str, str]]:
    """Held-out prompts to generate from: of pairs in chat form, else the contexts of the cloze as plain text."""
    by_name = {measure.name: measure for measure in measures if measure.name in ("answers", "cloze")}
    measure = by_name.get("answers") or by_name.get("cloze")
    if measure is None:
        return []
    form = "chat" if measure.name == "answers" else "text"
    return [
        {"form": form, "prompt": item.prompt, "reference": item.target.strip(), "source": item.source}
        for item in measure.items[:EXAMPLES]
    ]


def _summary(lines: list[Score], rows: int) -> Summary:
    summary: Summary = {"scores": len(lines), "item_results": rows}
    summary["below_baseline"] = sum(line.below_baseline for line in lines)
    for line in lines:
        headline = HEADLINES.get((line.name, line.metric))
        if headline is not None and line.value is not None:
            summary[f"{headline}_{line.model}"] = line.value
        if headline == FORGETTING and line.low is not None and line.high is not None:
            summary |= {f"{FORGETTING}_{line.model}_low": line.low, f"{FORGETTING}_{line.model}_high": line.high}
    return summary
