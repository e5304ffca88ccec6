"""Figures: from amounts per item to a line with value, 95 % interval, number of items and baselines.

Every figure is a ratio of sums over items: bits over bytes, nats over words, right answers over questions. A
`Measure` holds the amounts of all the models and baselines for the same items, so that everything said about one
figure is measured alike, and what is stored per item allows paired tests later.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage.canonical import canonical_json, digest_of
from storage.documents import write_rows
from tasks.evaluate.references import Reference
from tasks.evaluate.score import BASE, MODELS, TUNED, Change, Kind, Score
from tasks.statistics.compare import Answers, compare
from tasks.statistics.intervals import (
    LARGEST,
    Floats,
    as_clusters,
    bootstrap_ratio,
    exponential,
    finite,
    rounded,
    wilson,
)

NOT_ENOUGH = "not enough held-out documents"
ONE_DOCUMENT = "all items come from one document: no interval"
TOO_LARGE = f"more than {LARGEST:.0e}, which stands for it"
NO_NUMBER = "no finite number"

KEY_CHARACTERS = 32  # 128 bits: no two of any number of items will ever share them
ITEM_DIGITS = 7  # significant digits of an amount: more than float32 sums hold, so paired differences lose nothing

ITEM_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("metric", pa.string()),
        ("model", pa.string()),
        ("item", pa.int32()),
        ("key", pa.string()),
        ("document", pa.string()),
        ("source", pa.string()),
        ("amount", pa.float64()),
        ("weight", pa.float64()),
        ("prompt", pa.string()),
        ("target", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Item:
    """What was asked: `document` is the unit that intervals are drawn over; `choices` are all that was chosen from."""

    document: str
    source: str
    prompt: str = ""
    target: str = ""
    choices: tuple[str, ...] = ()


def item_keys(name: str, items: Sequence[Item]) -> list[str]:
    """Hexadecimal digests of what was asked: by them the items of two runs pair, in any order or number.

    The same key means the same question of the measure `name`. Of items that ask the same twice, the second is
    another, so that no key is there twice.
    """
    times: Counter[Item] = Counter()
    keys = []
    for item in items:
        question = (name, item.document, item.prompt, item.target, list(item.choices), times[item])
        keys.append(digest_of(question)[:KEY_CHARACTERS])
        times[item] += 1
    return keys


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of all models. `amounts[who]` and `weights` are (items,); `constants` are baselines known by reason.

    `kind`: `ratio` is sum(amounts) / sum(weights); `exponential` is e to that (perplexity), LARGEST at most;
    `proportion` is a share of right answers, with Wilson's interval instead of the bootstrap. `higher_is_better` is
    None where a difference from the baselines is a finding and no merit.
    """

    name: str
    metric: str
    rule: str
    items: Sequence[Item]
    amounts: Mapping[str, Floats]
    weights: Floats
    kind: Kind = "ratio"
    higher_is_better: bool | None = False
    constants: Mapping[str, float] = field(default_factory=dict)
    references: tuple[Reference, ...] = ()


def score_lines(measure: Measure, draws: int, seed: int) -> list[Score]:
    """A line for each model, each beside all the baselines of the measure; the fine-tuned one's beside the base too."""
    clusters = as_clusters([item.document for item in measure.items])

    def figure(who: str) -> tuple[float, float, float]:
        if measure.kind == "proportion":
            return wilson(measure.amounts[who], clusters)
        found = bootstrap_ratio(measure.amounts[who], measure.weights, clusters, draws, seed)
        value, low, high = map(float, map(exponential, found)) if measure.kind == "exponential" else found
        return value, low, high

    alone = int(clusters.max()) == 0

    baselines = {name: figure(name)[0] for name in measure.amounts if name not in MODELS} | dict(measure.constants)
    shown = {name: number for name, value in sorted(baselines.items()) if (number := finite(value)) is not None}
    lines = []
    for model in MODELS:
        value, low, high = figure(model)
        below = measure.higher_is_better is not None and any(
            value < other if measure.higher_is_better else value > other for other in baselines.values()
        )
        lines.append(
            Score(
                name=measure.name,
                model=model,
                metric=measure.metric,
                value=finite(value),
                low=None if alone else finite(low),
                high=None if alone else finite(high),
                items=len(measure.items),
                baselines=shown,
                below_baseline=below,
                rule=measure.rule,
                note=_note(value, alone),
                kind=measure.kind,
                higher_is_better=measure.higher_is_better,
                references=measure.references,
                change=_change(measure, draws, seed) if model == TUNED else None,
            )
        )
    return lines


def _change(measure: Measure, draws: int, seed: int) -> Change | None:
    """What fine-tuning has changed, item by item; None where one of the two has no number."""
    base, tuned = (Answers(measure.amounts[model], measure.weights) for model in (BASE, TUNED))
    found = compare(
        base,
        tuned,
        [item.document for item in measure.items],
        kind=measure.kind,
        higher_is_better=measure.higher_is_better,
        draws=draws,
        seed=seed,
    )
    difference = finite(found.difference)
    if difference is None:
        return None
    ends = [None if end is None else finite(end) for end in (found.low, found.high)]
    return Change(difference=difference, low=ends[0], high=ends[1])


def _note(value: float, alone: bool) -> str:
    """What is to be said of a figure; empty for an ordinary one."""
    notes = {TOO_LARGE: value >= LARGEST, NO_NUMBER: finite(value) is None, ONE_DOCUMENT: alone}
    return "; ".join(note for note, holds in notes.items() if holds)


def missing_lines(name: str, metric: str, rule: str, items: int, note: str = NOT_ENOUGH) -> list[Score]:
    """Lines that say that, and why, a figure is not there."""
    nothing: dict[str, Any] = {"value": None, "low": None, "high": None, "baselines": {}, "below_baseline": False}
    return [
        Score(name=name, model=model, metric=metric, items=items, rule=rule, note=note, **nothing) for model in MODELS
    ]


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """A JSON list, one score a line, so that two files compare by line."""
    lines = [canonical_json(score.model_dump()).decode() for score in scores]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def write_items(path: Path, measures: Sequence[Measure]) -> int:
    """One row per measure, model or baseline, and item; returns their number."""
    rows = (
        {
            "name": measure.name,
            "metric": measure.metric,
            "model": who,
            "item": number,
            "key": key,
            "document": item.document,
            "source": item.source,
            "amount": rounded(float(amount), ITEM_DIGITS),
            "weight": float(weight),
            "prompt": item.prompt,
            "target": item.target,
        }
        for measure in measures
        for keys in [item_keys(measure.name, measure.items)]
        for who, amounts in sorted(measure.amounts.items())
        for number, (item, key, amount, weight) in enumerate(
            zip(measure.items, keys, amounts, measure.weights, strict=True)
        )
    )
    return write_rows(path, rows, ITEM_SCHEMA)


def select(measure: Measure, name: str, keep: Sequence[bool]) -> Measure:
    """The same measure on some of its items (one source, one language)."""
    mask = np.asarray(keep)
    return Measure(
        name,
        measure.metric,
        measure.rule,
        [item for item, kept in zip(measure.items, keep, strict=True) if kept],
        {who: amounts[mask] for who, amounts in measure.amounts.items()},
        measure.weights[mask],
        measure.kind,
        measure.higher_is_better,
        measure.constants,
    )
