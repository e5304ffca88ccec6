"""Stage evaluate: what the base and the fine-tuned model can do, each figure beside what little would do as well.

Comes in: both models, the canaries planted, the tokenizer, the filtered documents (held-out ones are measured,
training ones make the n-gram baselines), the pairs. Goes out: part `scores` (scores.json, one line for each figure;
corpus.json, what the documents are; examples.json, a few held-out prompts for the release's samples;
calibration.json and memorisation.json, tables for the report) and part `items` (items.parquet, the amount of each
item for each model and baseline). Cost: about 8 s fixed (lm-eval's import, n-gram counts), then two forward passes
over `heldout_bytes` and some 7,000 short requests for each model.
"""

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from model.shape import Shape
from storage.canonical import canonical_json
from storage.documents import HELDOUT, TRAIN
from storage.errors import ConfigError
from storage.store.artifacts import Artifact
from storage.tokens import END_OF_TEXT
from tasks.answer.pair_ids import questions
from tasks.engine.context import Context, Summary
from tasks.engine.decide import UNICODE
from tasks.engine.stage import stage
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.documents import (
    check_heldout,
    heldout_pairs,
    index_documents,
    read_sample,
    with_identified_languages,
)
from tasks.evaluate.lm_eval.benchmarks import measure_benchmarks
from tasks.evaluate.lm_eval.loading import load_benchmarks
from tasks.evaluate.lm_eval.task_files import observe_benchmarks
from tasks.evaluate.measures.calibration import token_calibration
from tasks.evaluate.measures.memorisation import (
    Recall,
    canary_measures,
    choose_spans,
    memorisation_table,
    span_measures,
)
from tasks.evaluate.measures.own_items import CHOICES, LEAST_CONTEXT_WORDS, choice_items, cloze_items
from tasks.evaluate.measures.text_and_answers import (
    LEAST_ITEMS,
    answer_measures,
    benchmark_measures,
    frequent_last_word,
    heldout_measures,
)
from tasks.evaluate.score import MODELS, Score
from tasks.evaluate.scorers.ngrams import NgramModel
from tasks.evaluate.scorers.scorers import Scorers, model_scorers, ngram_scorers
from tasks.evaluate.statistics.scores import Measure, missing_lines, score_lines, write_items, write_scores
from tasks.tokenize.canaries import read_planted
from tasks.train.device import training_device

EXAMPLES = 16
ITEM_BYTES = 4_000  # of held-out text read for each item asked for
MEASUREMENTS = 7  # questions put to each scorer: held-out text, answers in three forms, benchmarks, spans, canaries

HEADLINES = {  # of the summary, by (name, metric)
    ("heldout", "bits_per_byte"): "heldout_bits_per_byte",
    ("answers", "bits_per_byte"): "answers_bits_per_byte",
    ("answers", "prompt_gap"): "answers_prompt_gap",
    ("cloze", "accuracy"): "cloze_accuracy",
    ("choice", "accuracy_mutual_information"): "choice_accuracy",
    ("calibration", "expected_calibration_error"): "calibration_error",
    ("memorisation", "reproduced"): "memorised_spans",
}


def observe_outside(config: EvaluateConfig) -> dict[str, str]:
    """The files of the benchmarks, and what `auto` stands for on this machine: another device's last digits differ."""
    return {"device": training_device(config.device)} | observe_benchmarks(config.tasks)


@stage(
    "evaluate",
    parts=("scores", "items"),
    reads={
        "base": ("model", "canaries"),
        "tuned": ("model",),
        "tokenizer": ("tokenizer",),
        "clean": ("documents", "signals", "pairs"),
    },
    observe=observe_outside,
    libraries=("torch", "lm_eval", "tokenizers", "pyarrow", UNICODE),
    about="tasks.evaluate.about.EVALUATE",
)
def evaluate(
    config: EvaluateConfig,
    base: Artifact,
    tuned: Artifact,
    tokenizer: Artifact,
    clean: Artifact,
    *,
    context: Context,
) -> Summary:
    """Measure both models and write the scores."""
    from tasks.tokenize.tokenizer import load_tokenizer, token_ids

    check_heldout(clean["documents"].path)
    entries, corpus = index_documents(clean["documents"].path, config.seed)
    encoder = load_tokenizer(tokenizer["tokenizer"].path)

    @functools.cache  # every scorer asks for the same texts
    def encode(text: str) -> list[int]:
        return token_ids(encoder, text)

    def encode_documents(texts: Iterable[str]) -> list[list[int]]:
        return [[END_OF_TEXT, *token_ids(encoder, text)] for text in texts]

    documents = read_sample(entries[HELDOUT], max(config.heldout_bytes, ITEM_BYTES * config.items))
    scored = with_identified_languages(read_sample(entries[HELDOUT], config.heldout_bytes), clean["signals"].path)
    training = read_sample(entries[TRAIN], config.baseline_bytes)
    training_texts = [document.text for document in training]
    planted = read_planted(base["canaries"])
    pairs = heldout_pairs(clean["pairs"].path, config.items, config.seed)

    benchmarks = load_benchmarks(config.tasks, config.seed)
    context_length = min(_context_length(model) for model in (base, tuned))
    stride = context_length // 2 if config.stride is None else config.stride
    if stride > context_length:
        raise ConfigError(f"evaluate.stride: {stride} is more than the models' context of {context_length} tokens")
    asked_pairs = [one for one in questions(encoder, pairs, context_length) if one.other_prompt != one.prompt]
    cloze = [
        item for item in cloze_items(documents, config.items, config.seed) if len(encode(item.target)) < context_length
    ]
    choice = [
        item
        for item in choice_items(documents, config.items, config.seed)
        if all(len(encode(text)) < context_length for text in item.choices)
    ]

    counted = encode_documents(training_texts)
    scored_ids = encode_documents(document.text for document in scored)
    recall = Recall.within(context_length, config.prefix_tokens, config.span_tokens)
    known_spans = choose_spans(training, counted, recall, config.spans, config.seed)
    other_spans = choose_spans(scored, scored_ids, recall, config.spans, config.seed)
    with ExitStack() as models:
        scorers: dict[str, Scorers] = {
            name: ngram_scorers(NgramModel(encoder.get_vocab_size(), order, counted))
            for name, order in (("unigram", 1), ("trigram", 3))
        }
        asked = MEASUREMENTS + bool(benchmarks.tasks)
        meter = Meter(context, asked * (len(scorers) + len(MODELS)) + len(MODELS))
        for name, artifact in zip(MODELS, (base, tuned), strict=True):
            folder, device = artifact["model"].path, training_device(config.device)
            scorers[name] = models.enter_context(
                model_scorers(folder, stride, config, device, meter.within, chat=name == "tuned")
            )

        def ask(question: Callable[[Scorers], Any]) -> dict[str, Any]:
            return {name: meter.counted(question, scorer) for name, scorer in scorers.items()}

        def predict(ids: Sequence[Sequence[int]]) -> dict[str, Any]:
            def confidences(scorers: Scorers) -> Any:
                assert scorers.confidences is not None  # a model's
                return scorers.confidences(ids)

            return {name: meter.counted(confidences, scorers[name]) for name in MODELS}

        measures = heldout_measures(ask, scored, scored_ids, stride)
        if len(asked_pairs) >= LEAST_ITEMS:
            measures += answer_measures(ask, asked_pairs)
        word = frequent_last_word(training_texts)
        measures += benchmark_measures(ask, cloze, choice, word, encode, context.work / "lm-eval")
        measures += span_measures(ask, known_spans, other_spans, encoder.decode, planted.epochs)
        measures += canary_measures(ask, planted, config.exposure_candidates, config.seed, encoder.decode)
        calibration, reliability_table = token_calibration(predict, scored, scored_ids, config.calibration_tokens)
        measures += calibration
        of_tasks, whole = measure_benchmarks(ask, benchmarks, encoder, context_length, config.seed)
        measures += of_tasks

    lines = [line for measure in measures for line in score_lines(measure, config.bootstrap_draws, config.seed)]
    lines += whole
    found = {
        "answers": len(asked_pairs),
        "cloze": len(cloze),
        "choice": len(choice),
        "memorisation": min(len(known_spans), len(other_spans)),
    }
    lines += _missing(measures, found)
    unasked = {"answers": not pairs, "memorisation": not config.spans}
    wanted = {name: count for name, count in found.items() if not unasked.get(name)}
    folder = context.part("scores")
    write_scores(folder / "scores.json", lines)
    (folder / "corpus.json").write_bytes(canonical_json(corpus) + b"\n")
    (folder / "examples.json").write_bytes(canonical_json(_examples(measures)) + b"\n")
    (folder / "calibration.json").write_bytes(canonical_json(reliability_table) + b"\n")
    (folder / "memorisation.json").write_bytes(canonical_json(memorisation_table(lines, planted, recall)) + b"\n")
    rows = write_items(context.part("items") / "items.parquet", measures)
    return _summary(lines, rows) | _notices(measures, wanted, len(entries[HELDOUT]))


class Meter:
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


def _context_length(model: Artifact) -> int:
    return Shape.from_huggingface(json.loads((model["model"] / "config.json").read_bytes())).context_length


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


def _notices(measures: Sequence[Measure], found: Mapping[str, int], documents: int) -> Summary:
    """What could not be measured, and what to change, a sentence each; nothing where all could."""
    present = {measure.name for measure in measures}
    heldout = f"{documents:,} held-out documents"
    said = {
        "answers": "held-out pairs fit the model beside another of their source: give more in collect.pairs",
        "cloze": f"could be made of {heldout}: it takes sentences of {LEAST_CONTEXT_WORDS} words and more that "
        "end with a word; hold out more text (collect.heldout_fraction)",
        "choice": f"could be made of {heldout}: it takes sentences that follow each other in {CHOICES} documents "
        "or more; hold out more text (collect.heldout_fraction)",
        "memorisation": "spans of training or held-out documents are long enough: give longer documents",
    }
    lines = [
        f"evaluate: {name} was not measured: {found[name]} of the {LEAST_ITEMS} items that it needs {reason}"
        for name, reason in said.items()
        if name in found and name not in present
    ]
    return {"notices": lines} if lines else {}


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
    return summary
