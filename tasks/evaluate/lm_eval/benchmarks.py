"""Benchmarks that lm-eval defines: every scorer is asked, and every item becomes a row of every metric.

Figures carry lm-eval's names (`acc`, `acc_norm`, `exact_match`, ...); the intervals are ours. An item is known by a
digest of what it says, so that samples and runs pair. Chance is one over the number of choices, by item. A task file
may say more under `metadata`: `subsets` (a field: a figure for each of its values), `cluster` (a field: the unit that
intervals are drawn over), `contrast` ([a, b]: the figure of subset a less that of b, over the clusters of both).
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.answer.chat_form import ChatForm
from tasks.evaluate.lm_eval.backend import scorer_lm
from tasks.evaluate.lm_eval.hub import quiet_libraries
from tasks.evaluate.lm_eval.loading import Group, Loaded, LoadedTask
from tasks.evaluate.measures.text_and_answers import Ask
from tasks.evaluate.references import references
from tasks.evaluate.score import CLEAN, DIRTY, MODELS, Score
from tasks.evaluate.scorers.scorers import Scorers
from tasks.evaluate.statistics.scores import NO_NUMBER, Item, Measure, select
from tasks.statistics.intervals import Floats, finite
from tasks.tokenize.tokenizer import token_ids
from tasks.words import words

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM

SHOWN_CHARACTERS = 300  # of a text whose likelihood is the question: the row would hold a book
RULES = {
    ("multiple_choice", "acc"): "highest summed log-probability",
    ("multiple_choice", "acc_norm"): "highest log-probability per character",
    ("multiple_choice", "acc_bytes"): "highest log-probability per byte",
    ("multiple_choice", "acc_mutual_info"): "highest log-probability less that without the context",
    ("loglikelihood", "acc"): "greedy decoding gives exactly the tokens of the answer",
    ("loglikelihood", "perplexity"): "e to the mean nats of an answer",
    ("loglikelihood_rolling", "bits_per_byte"): "disjoint windows of one context, over UTF-8 bytes",
    ("loglikelihood_rolling", "byte_perplexity"): "disjoint windows of one context, over UTF-8 bytes",
    ("loglikelihood_rolling", "word_perplexity"): "disjoint windows of one context, over words (white space; letters "
    "where a script has none between words)",
}

Column = tuple[str, str]  # metric and filter
Columns = dict[Column, list[Any]]  # a value an item
Answers = dict[str, Columns]  # by label


def measure_benchmarks(
    ask: Ask, loaded: Loaded, form: ChatForm, context_length: int, seed: int, dirty: frozenset[str] = frozenset()
) -> tuple[list[Measure], list[Score]]:
    """The measures of all tasks and groups, and a line for each figure that is not a mean over items (F1,
    a correlation): lm-eval's own, without an interval. Where some items are `dirty` (digests) and others not, each
    figure is there also for either of them (DIRTY, CLEAN). Models of a shorter context than `context_length` would
    not be comparable.
    """
    if not loaded.tasks:
        return [], []

    @functools.lru_cache(maxsize=4096)  # of a question, the context is asked for with each of its choices
    def encode(text: str) -> list[int]:
        return token_ids(form.tokenizer, text)

    def question(scorers: Scorers) -> Answers:
        generate = None if scorers.generations is None else functools.partial(scorers.generations, form)
        lm = scorer_lm(
            encode, scorers.continuations, context_length, generate, seed, start=form.control.start, form=form
        )
        return _answers(lm, loaded, generates=generate is not None, chat=scorers.chat, seed=seed)

    return _figures(loaded, ask(question), dirty)


def _answers(lm: "TemplateLM", loaded: Loaded, *, generates: bool, chat: bool, seed: int) -> Answers:
    """One scorer's value of each item for each metric; an n-gram baseline is asked no question that wants a text."""
    from lm_eval.evaluator import evaluate

    answers: Answers = {}
    for in_chat in (False, True):
        asked = [
            task
            for task in loaded.tasks
            if (task.chat and chat) == in_chat and (generates or task.task.OUTPUT_TYPE != "generate_until")
        ]
        if not asked:
            continue
        for task in asked:
            task.task.set_fewshot_seed(seed)  # each scorer sees the same examples
        with quiet_libraries():
            found = evaluate(
                lm,
                {"tasks": {task.label: task.task for task in asked}, "groups": {}, "group_map": {}},
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=in_chat,
            )
        for task in asked:
            answers[task.label] = _columns(found["samples"][task.label])
    return answers


def _columns(samples: Sequence[Mapping[str, Any]]) -> Columns:
    columns: Columns = {}
    for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
        for metric in sample["metrics"]:
            columns.setdefault((metric, sample["filter"]), []).append(sample[metric])
    return columns


def _figures(
    loaded: Loaded, answers: Mapping[str, Answers], dirty: frozenset[str]
) -> tuple[list[Measure], list[Score]]:
    """The answers of all scorers as measures, and as lines where a figure is not a mean over items."""
    measures: list[Measure] = []
    lines: list[Score] = []
    for task in loaded.tasks:
        items = [_item(task, document, digest) for document, digest in zip(task.documents, task.digests, strict=True)]
        for column in answers[MODELS[0]][task.label]:
            values = {who: found[task.label][column] for who, found in answers.items() if task.label in found}
            measure = _measure(task, column, items, values)
            if measure is None:
                lines += _whole_lines(task, column, values)
            else:
                measures += [measure, *_parts(task, measure), *_apart(measure, dirty)]
    by_label = {task.label: [measure for measure in measures if measure.name == task.label] for task in loaded.tasks}
    for group in loaded.groups:
        pooled = _pooled(group, [by_label[label] for label in group.members])
        measures += [part for measure in pooled for part in (measure, *_apart(measure, dirty))]
    return measures, lines


def _item(task: LoadedTask, document: Mapping[str, Any], digest: str) -> Item:
    """What was asked, without the examples before it."""
    text, target = task.task.doc_to_text(document), task.task.doc_to_target(document)
    choices: list[str] = []
    if task.choosing:
        choices = task.task.doc_to_choice(document)
        gold = text if isinstance(text, int) else target
        target = " | ".join(choices[one] if isinstance(one, int) else one for one in _as_list(gold))
    elif task.task.OUTPUT_TYPE == "loglikelihood_rolling":
        text, target = "", str(target)[:SHOWN_CHARACTERS]
    cluster = _metadata(task).get("cluster")
    return Item(
        str(document[cluster]) if cluster else digest,
        task.name,
        text if isinstance(text, str) else "",
        " | ".join(map(str, _as_list(target))),
        (digest, *choices),
    )


def _measure(
    task: LoadedTask, column: Column, items: Sequence[Item], values: Mapping[str, Sequence[Any]]
) -> Measure | None:
    """A metric as a ratio of sums over items; None for one that is not."""
    metric = column[0]
    how = getattr(task.task.aggregation().get(metric), "__name__", "")
    first = values[MODELS[0]][0]
    ones = np.ones(len(items))
    if how in ("weighted_perplexity", "bits_per_byte") and isinstance(first, tuple):
        weights = np.array([float(weight) for _, weight in values[MODELS[0]]])
        if metric == "word_perplexity":
            weights = _by_script(task, weights)
        nats = {who: np.array([-float(found) for found, _ in rows]) for who, rows in values.items()}
        if how == "bits_per_byte":
            return _named(task, column, items, {who: row / math.log(2) for who, row in nats.items()}, weights, "ratio")
        return _named(task, column, items, nats, weights, "exponential")
    if not isinstance(first, (bool, int, float, np.number)) or how not in ("mean", "perplexity"):
        return None
    amounts = {who: np.array([float(value) for value in rows]) for who, rows in values.items()}
    if how == "perplexity":
        return _named(task, column, items, {who: -row for who, row in amounts.items()}, ones, "exponential")
    right_or_wrong = all(np.isin(row, (0, 1)).all() for row in amounts.values())
    return _named(task, column, items, amounts, ones, "proportion" if right_or_wrong else "ratio")


def _by_script(task: LoadedTask, counted: Floats) -> Floats:
    """lm-eval's words of each text, by white space; by script where that finds twice as many: there, lm-eval takes a
    paragraph for a word."""
    found = [float(len(words(str(task.task.doc_to_target(document))))) for document in task.documents]
    return np.where(np.array(found) >= 2 * counted, found, counted)


def _named(
    task: LoadedTask, column: Column, items: Sequence[Item], amounts: Mapping[str, Floats], weights: Floats, kind: Any
) -> Measure:
    constants = {"chance": _chance(task)} if task.choosing and column[0].startswith("acc") else {}
    better = task.task.higher_is_better().get(column[0])
    known = references(task.name, _shown(column), task.shots)
    rule = _rule(task, column)
    return Measure(task.label, _shown(column), rule, items, amounts, weights, kind, better, constants, known)


def _chance(task: LoadedTask) -> float:
    """The expected share of right answers of whoever picks a choice by lot."""
    shares = []
    for document in task.documents:
        target = task.task.doc_to_target(document)
        right = len(set(target)) if isinstance(target, list) else 1
        shares.append(right / len(task.task.doc_to_choice(document)))
    return float(np.mean(shares))


def _shown(column: Column) -> str:
    """The metric as lm-eval prints it: with the filter's name where the task has filters."""
    metric, filter_name = column
    return metric if filter_name == "none" else f"{metric},{filter_name}"


def _rule(task: LoadedTask, column: Column) -> str:
    detail = RULES.get((task.task.OUTPUT_TYPE, column[0]))
    said = f"lm-eval {column[0]}: {detail}" if detail else f"lm-eval {column[0]}"
    version = _metadata(task).get("version")
    known = "" if version is None else f"; version {version} of the task"
    form = "; the fine-tuned model in chat form" if task.chat else ""
    return f"{said}; {task.shots}-shot{known}{form}"


def _metadata(task: LoadedTask) -> Mapping[str, Any]:
    return task.task.config.metadata or {}


def _parts(task: LoadedTask, measure: Measure) -> list[Measure]:
    """The figure of each subset, and the contrast of two of them."""
    by = _metadata(task).get("subsets")
    if by is None:
        return []
    values = [str(document[by]) for document in task.documents]
    parts = {
        value: select(measure, f"{measure.name}/{by}={value}", [one == value for one in values])
        for value in sorted({*values})
    }
    contrast = [str(value) for value in _metadata(task).get("contrast") or ()]
    both = [parts[value] for value in contrast if value in parts]
    return [*parts.values(), *([_contrast(measure, contrast, both[0], both[1])] if len(both) == 2 else [])]


def _apart(measure: Measure, dirty: frozenset[str]) -> list[Measure]:
    """The figure of the items that are in the data and of those that are not; none where all are of one kind."""
    found = [item.choices[0] in dirty for item in measure.items]
    if all(found) or not any(found):
        return []
    return [
        select(measure, f"{measure.name}/{CLEAN}", [not one for one in found]),
        select(measure, f"{measure.name}/{DIRTY}", found),
    ]


def _contrast(whole: Measure, names: Sequence[str], first: Measure, second: Measure) -> Measure:
    """The mean difference over the clusters that are in both; none is the ideal, so neither way is better."""
    places = [{item.document: number for number, item in enumerate(part.items)} for part in (first, second)]
    shared = [document for document in places[0] if document in places[1]]
    rows = [[place[document] for document in shared] for place in places]
    return Measure(
        whole.name,
        f"{whole.metric}_{names[0]}_less_{names[1]}",
        f"{whole.rule}; paired by item",
        [first.items[row] for row in rows[0]],
        {who: first.amounts[who][rows[0]] - second.amounts[who][rows[1]] for who in first.amounts},
        np.ones(len(shared)),
        higher_is_better=None,
    )


def _pooled(group: Group, members: Sequence[Sequence[Measure]]) -> list[Measure]:
    """A group's figures over all items of its tasks, for the metrics that every one of them has."""
    pooled = []
    for first in members[0] if members else []:
        same = [measure for tasks in members for measure in tasks if measure.metric == first.metric]
        if len(same) != len(members) or len({measure.kind == "exponential" for measure in same}) > 1:
            continue
        who = [name for name in first.amounts if all(name in measure.amounts for measure in same)]
        sizes = [len(measure.items) for measure in same]
        constants = {
            name: float(np.average([measure.constants[name] for measure in same], weights=sizes))
            for name in first.constants
            if all(name in measure.constants for measure in same)
        }
        pooled.append(
            Measure(
                group.label,
                first.metric,
                f"{first.rule}; all items of {len(same)} tasks",
                [item for measure in same for item in measure.items],
                {name: np.concatenate([measure.amounts[name] for measure in same]) for name in who},
                np.concatenate([measure.weights for measure in same]),
                first.kind if len({measure.kind for measure in same}) == 1 else "ratio",
                first.higher_is_better,
                constants,
                references(group.name, first.metric, group.shots),
            )
        )
    return pooled


def _whole_lines(task: LoadedTask, column: Column, values: Mapping[str, Sequence[Any]]) -> list[Score]:
    aggregate = task.task.aggregation().get(column[0])
    figures = {}
    for who, found in values.items():
        value = aggregate(found) if aggregate is not None else None
        figures[who] = finite(float(value)) if isinstance(value, (int, float, np.number)) else None
    baselines = {who: figure for who, figure in figures.items() if who not in MODELS and figure is not None}
    note = "no mean over items: no interval" + ("" if None not in figures.values() else f"; {NO_NUMBER}")
    return [
        Score(
            name=task.label,
            model=model,
            metric=_shown(column),
            value=figures[model],
            items=len(task.documents),
            baselines=baselines,
            rule=_rule(task, column),
            note=note,
            higher_is_better=task.task.higher_is_better().get(column[0]),
        )
        for model in MODELS
    ]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
