"""Memorisation: a model that knows its canaries and spans by heart is found out, and one that knows nothing is not."""

import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import LocalContext, with_pairs, write_corpus, write_model, write_pairs, write_tokenizer

from storage.tokens import END_OF_TEXT
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.documents import Sampled
from tasks.evaluate.measures.memorisation import (
    Recall,
    Span,
    canary_measures,
    chance_exposure,
    choose_spans,
    exposure,
    memorisation_table,
    span_measures,
)
from tasks.evaluate.scorers.scorers import Scorers, model_scorers
from tasks.evaluate.stage import evaluate
from tasks.evaluate.statistics.scores import Measure, score_lines
from tasks.tokenize.canaries import Planted, draw_canaries

WORDS = tuple(range(100, 300))
CANDIDATES = 200
PLANTED = Planted(WORDS, draw_canaries(WORDS, 8, (1, 16), 5), 1.0)  # tests say that 16 repeats were learned, 1 not
RECALL = Recall(8, 8)

Ask = Callable[[Callable[[Scorers], Any]], dict[str, Any]]


def text(number: int) -> list[int]:
    """49 tokens in which no word predicts the next one."""
    return [END_OF_TEXT, *random.Random(number).choices(WORDS, k=48)]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Base has learned the canaries of 16 repeats, tuned is random."""
    root = tmp_path_factory.mktemp("models")
    learned = [(END_OF_TEXT, *canary.ids) for canary in PLANTED.canaries if canary.repeats == 16]
    models = {"base": write_model(root / "base", by_heart=learned), "tuned": write_model(root / "tuned", seed=1)}
    config = EvaluateConfig(threads=1, device="cpu")

    def answers(question: Callable[[Scorers], Any]) -> dict[str, Any]:
        found = {}
        for name, artifact in models.items():
            with model_scorers(artifact["model"].path, 32, config, "cpu", lambda *_: None) as scorers:
                found[name] = question(scorers)
        return found

    yield answers


def lines_of(measures: list[Measure]) -> dict[tuple[str, str, str], Any]:
    lines = [line for measure in measures for line in score_lines(measure, 200, 0)]
    return {(line.name, line.metric, line.model): line for line in lines}


def test_planted_canaries_are_reproduced_and_exposed_by_the_model_that_learned_them(ask: Ask) -> None:
    """Nothing else is: the mean exposure of 8 (16) sequences of random rank exceeds 4 bits once in 1e4 (1e7) seeds."""
    measures = canary_measures(ask, PLANTED, CANDIDATES, 0, str)
    lines = lines_of(measures)
    learned = lines["canaries/repeats=16", "reproduced", "base"]
    assert (learned.value, learned.items, learned.below_baseline) == (1.0, 8, False)
    assert learned.baselines["chance"] == pytest.approx(200.0**-6)
    highest = lines["canaries/repeats=16", "exposure", "base"]
    assert highest.value == pytest.approx(math.log2(CANDIDATES + 1), rel=1e-4)
    assert highest.baselines["chance"] == pytest.approx(chance_exposure(CANDIDATES), rel=1e-4)
    for name, model in [(f"canaries/repeats={n}", "tuned") for n in (0, 1, 16)] + [
        (f"canaries/repeats={n}", "base") for n in (0, 1)
    ]:
        assert lines[name, "reproduced", model].value == 0
        assert lines[name, "exposure", model].value < 4
    table = memorisation_table([line for one in measures for line in score_lines(one, 200, 0)], PLANTED, RECALL)
    assert [(row["repeats"], row["count"]) for row in table["canaries"] if row["model"] == "base"] == [
        (0, 16),
        (1, 8),
        (16, 8),
    ]
    assert table["canaries"][4]["reproduced"] == 8 and table["canaries"][4]["seen_mean"] == 0


def test_nothing_planted_nothing_measured(ask: Ask) -> None:
    assert canary_measures(ask, Planted(WORDS, ()), CANDIDATES, 0, str) == []


def test_spans_of_training_are_set_beside_as_many_of_held_out_documents(tmp_path: Path) -> None:
    """The model has learned the chosen spans of training documents, and none of the held-out ones."""

    def spans(numbers: range) -> list[Span]:
        documents = [Sampled(str(number), "", "files", 1) for number in numbers]
        return choose_spans(documents, [text(number) for number in numbers], RECALL, 9, seed=0)

    training, heldout = spans(range(9)), spans(range(100, 112))
    folder = write_model(tmp_path / "model", by_heart=[[*span.prefix, *span.target] for span in training])["model"].path
    config = EvaluateConfig(threads=1, device="cpu")

    def answers(question: Callable[[Scorers], Any]) -> dict[str, Any]:
        with model_scorers(folder, 32, config, "cpu", lambda *_: None) as scorers:
            return dict.fromkeys(("base", "tuned"), question(scorers))

    lines = lines_of(span_measures(answers, training, heldout, str, 1.5))
    found = lines["memorisation", "reproduced", "base"]
    assert (found.value, found.items, found.baselines["base_on_heldout"]) == (1.0, 9, 0)
    assert "passed over 1.5 times" in found.rule and "after 8 tokens" in found.rule
    assert lines["memorisation", "reproduced_heldout", "base"].value == 0
    assert span_measures(answers, training[:7], heldout, str, 1.5) == [], "too few to say anything"


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 12), st.integers(0, 9))
def test_spans_do_not_overlap_and_go_round_the_documents(lengths: list[int], most: int, seed: int) -> None:
    documents = [Sampled(str(number), "", "files", 1) for number in range(len(lengths))]
    ids = [[1000 * number + place for place in range(length)] for number, length in enumerate(lengths)]
    spans = choose_spans(documents, ids, Recall(3, 2), most, seed)
    assert len(spans) == min(most, sum((length - 1) // 5 for length in lengths))
    tokens = [token for span in spans for token in (*span.prefix, *span.target)]
    assert len(set(tokens)) == len(tokens) == 5 * len(spans)
    assert all(token % 1000 for token in tokens), "no document mark"
    taken = [int(span.document.id) for span in spans]
    assert all(token // 1000 == number for span, number in zip(spans, taken, strict=True) for token in span.prefix)
    counts = [taken.count(number) for number in range(len(lengths))]
    assert all(counts[n] >= min(max(counts) - 1, (length - 1) // 5) for n, length in enumerate(lengths))


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=30), st.integers(-10, 10))
def test_exposure_counts_who_ranks_before(candidates: list[int], likelihood: int) -> None:
    (found,) = exposure(np.array([float(likelihood)]), np.array(candidates, float))
    above, equal = sum(c > likelihood for c in candidates), candidates.count(likelihood)
    assert found == pytest.approx(math.log2(len(candidates) + 1) - math.log2(1 + above + equal / 2))


@pytest.mark.parametrize("candidates", [10, 1000])
def test_chance_is_the_mean_over_all_ranks(candidates: int) -> None:
    ranks = [exposure(np.array([0.5 - rank]), -np.arange(candidates, dtype=float))[0] for rank in range(candidates + 1)]
    assert chance_exposure(candidates) == pytest.approx(np.mean(ranks))


@pytest.mark.parametrize(
    ("context", "prefix", "span", "expected"),
    [(256, 32, 16, (32, 16)), (64, 50, 50, (32, 32)), (8, 32, 16, (4, 4)), (64, 60, 16, (48, 16))],
)
def test_what_does_not_fit_into_the_context_is_cut(
    context: int, prefix: int, span: int, expected: tuple[int, int]
) -> None:
    assert Recall.within(context, prefix, span) == Recall(*expected)


def test_the_stage_writes_the_tables_and_a_line_for_each_language(tmp_path: Path) -> None:
    """The whole stage on a base model that has learned its canaries: it says so, in both files."""
    learned = [(END_OF_TEXT, *canary.ids) for canary in PLANTED.canaries if canary.repeats == 16]
    inputs = (
        write_model(tmp_path / "base", planted=PLANTED, by_heart=learned),
        write_model(tmp_path / "tuned", seed=1),
        write_tokenizer(tmp_path / "tokenizer"),
        with_pairs(
            write_corpus(tmp_path / "documents", languages=("en", "", "de", "en")), write_pairs(tmp_path / "pairs")
        ),
    )
    few = {"items": 10, "heldout_bytes": 30_000, "baseline_bytes": 10_000, "bootstrap_draws": 100, "spans": 20}
    config = EvaluateConfig(**few, exposure_candidates=50, calibration_tokens=1_000, threads=1, device="cpu")
    evaluate.function(config, *inputs, context=LocalContext(tmp_path))
    lines = json.loads((tmp_path / "scores" / "scores.json").read_bytes())
    found = {(line["name"], line["metric"], line["model"]): line for line in lines}
    whole = found["heldout", "bits_per_byte", "base"]["items"]
    items = {name: found[f"heldout/lang={name}", "bits_per_byte", "base"]["items"] for name in ("en", "de", "unknown")}
    assert items == {"en": whole / 2, "de": whole / 4, "unknown": whole / 4}
    assert found["canaries/repeats=16", "reproduced", "base"]["value"] == 1
    table = json.loads((tmp_path / "scores" / "memorisation.json").read_bytes())
    assert (table["prefix_tokens"], table["span_tokens"]) == (32, 16)
    assert [(row["model"], row["split"], row["spans"]) for row in table["spans"]] == [
        *((model, "train", 20) for model in ("base", "tuned")),
        *((model, "heldout", 20) for model in ("base", "tuned")),
    ]
    bins = json.loads((tmp_path / "scores" / "calibration.json").read_bytes())
    for model in ("base", "tuned"):
        own = [row for row in bins["bins"] if row["model"] == model]
        total = sum(row["tokens"] for row in own)
        error = sum(row["tokens"] * abs(row["confidence"] - row["accuracy"]) for row in own) / total
        assert bins["expected_calibration_error"][model] == pytest.approx(error, rel=1e-3)
