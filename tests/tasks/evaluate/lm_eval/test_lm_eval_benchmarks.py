"""Benchmarks through the stage: every output type of lm-eval, a group, and figures that can be worked out by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from benchmark_files import write_benchmarks
from support import shared_data
from tiny_model import (
    NOUNS,
    VOCABULARY,
    LocalContext,
    with_pairs,
    write_corpus,
    write_model,
    write_pairs,
    write_tokenizer,
)

from storage.store.artifacts import Artifact
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.stage import evaluate

SETTINGS = {"items": 10, "heldout_bytes": 1_000, "baseline_bytes": 10_000, "bootstrap_draws": 100, "threads": 1}
Lines = dict[tuple[str, str, str], dict[str, Any]]
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The base model is uniform over the vocabulary, the fine-tuned one random."""
    root = tmp_path_factory.mktemp("world")
    return {
        "base": write_model(root / "base", zero=True),
        "tuned": write_model(root / "tuned", seed=1),
        "tokenizer": write_tokenizer(root / "tokenizer"),
        "clean": with_pairs(
            write_corpus(root / "documents", train=30, heldout=4), write_pairs(root / "pairs", heldout=2)
        ),
    }


def run(world: dict[str, Artifact], root: Path, tasks: list[dict[str, Any]]) -> tuple[Lines, Rows]:
    config = EvaluateConfig(**SETTINGS, device="cpu", tasks=tasks)
    evaluate.function(config, *world.values(), context=LocalContext(root))
    lines = json.loads((root / "scores" / "scores.json").read_bytes())
    rows = pq.read_table(root / "items" / "items.parquet").to_pylist()
    return {(line["name"], line["metric"], line["model"]): line for line in lines}, rows


@pytest.fixture(scope="module")
def done(world: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> tuple[Lines, Rows, Path]:
    root = tmp_path_factory.mktemp("build")
    folder = str(write_benchmarks(root / "benchmarks"))
    tasks: list[dict[str, Any]] = [
        {"path": folder},
        {"path": folder, "name": "colours", "num_fewshot": 3, "limit": 8},
        {"path": folder, "name": "colours", "limit": 8, "chat": True},
    ]
    return *run(world, root / "one", tasks), root


def test_every_task_and_the_group_have_lines(done: tuple[Lines, Rows, Path]) -> None:
    found = {(name, metric) for name, metric, _ in done[0]}
    assert {
        ("both/colours", "acc"),
        ("both/shades", "acc_norm"),
        ("both/shades/kind=warm", "acc"),
        ("both/shades", "acc_warm_less_cold"),
        ("both", "acc"),
        ("endings", "perplexity"),
        ("endings", "acc"),
        ("texts", "bits_per_byte"),
        ("texts", "word_perplexity"),
        ("sums", "exact_match,whole"),
        ("colours/3-shot", "acc"),
        ("colours/chat", "acc"),
    } <= found


def test_a_line_has_chance_and_the_n_grams_beside_it(done: tuple[Lines, Rows, Path]) -> None:
    line = done[0]["both/colours", "acc", "tuned"]
    assert set(line["baselines"]) == {"chance", "unigram", "trigram"}
    assert line["baselines"]["chance"] == 0.25
    assert done[0]["both/shades", "acc", "tuned"]["baselines"]["chance"] == 0.5
    assert line["low"] < line["value"] < line["high"] and line["items"] == 20
    assert "highest summed log-probability; 0-shot; version 2.0" in line["rule"]
    assert done[0]["sums", "exact_match,whole", "base"]["baselines"] == {}  # an n-gram is asked for no text


def test_a_group_is_all_items_of_its_tasks(done: tuple[Lines, Rows, Path]) -> None:
    lines, rows, _ = done
    group = lines["both", "acc", "tuned"]
    parts = [lines[f"both/{name}", "acc", "tuned"] for name in ("colours", "shades")]
    assert group["items"] == 30 == sum(part["items"] for part in parts)
    assert group["value"] == pytest.approx(sum(part["value"] * part["items"] for part in parts) / 30, rel=1e-4)
    assert group["baselines"]["chance"] == pytest.approx((20 * 0.25 + 10 * 0.5) / 30, rel=1e-4)
    assert sum(row["name"] == "both" and row["metric"] == "acc" and row["model"] == "base" for row in rows) == 30


def test_a_uniform_model_has_the_figures_that_arithmetic_gives(
    world: dict[str, Artifact], done: tuple[Lines, Rows, Path]
) -> None:
    """log2(360) bits a token, in rolling windows too, and whatever the tokens are; e to the nats of a word's tokens."""
    from tasks.tokenize.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(world["tokenizer"]["tokenizer"].path)
    lines, _, root = done
    texts = [json.loads(line)["text"] for line in (root / "benchmarks" / "texts.jsonl").read_text().splitlines()]
    tokens = [len(tokenizer.encode(text).ids) for text in texts]
    assert max(tokens) > 64  # longer than the context, so that there is more than one window
    bits = math.log2(VOCABULARY) * sum(tokens) / sum(len(text.encode()) for text in texts)
    assert lines["texts", "bits_per_byte", "base"]["value"] == pytest.approx(bits, rel=1e-4)
    words = [len(tokenizer.encode(f" {word}").ids) for word in ("castle", "doctor", "engine")]
    expected = math.exp(math.log(VOCABULARY) * sum(words) / 3)
    assert lines["endings", "perplexity", "base"]["value"] == pytest.approx(expected, rel=1e-3)


def test_a_contrast_is_the_difference_of_the_paired_subsets(done: tuple[Lines, Rows, Path]) -> None:
    lines = done[0]
    for model in ("base", "tuned"):
        warm, cold = (lines[f"both/shades/kind={kind}", "acc", model]["value"] for kind in ("warm", "cold"))
        line = lines["both/shades", "acc_warm_less_cold", model]
        assert line["value"] == pytest.approx(warm - cold, abs=1e-4) and line["items"] == 5
        assert not line["below_baseline"]  # neither way is better


def test_the_recipes_n_shot_holds_where_the_task_says_zero(done: tuple[Lines, Rows, Path]) -> None:
    lines, _, _ = done
    assert "; 3-shot;" in lines["colours/3-shot", "acc", "tuned"]["rule"]
    assert lines["colours/3-shot", "acc", "tuned"]["items"] == 8
    rows = {
        name: {row["document"]: row["amount"] for row in done[1] if (row["name"], row["metric"], row["model"]) == key}
        for name in ("colours/3-shot", "colours/chat", "both/colours")
        for key in [(name, "acc", "tuned")]
    }
    assert set(rows["colours/3-shot"]) == set(rows["colours/chat"]) < set(rows["both/colours"])  # one sample


def test_chat_form_is_for_the_model_that_learned_it(done: tuple[Lines, Rows, Path]) -> None:
    """The base model and the n-grams are asked as ever; the uniform one knows no difference, the random one does."""
    lines, rows, _ = done
    assert "the fine-tuned model in chat form" in lines["colours/chat", "acc", "tuned"]["rule"]

    def amounts(name: str, model: str) -> dict[str, float]:
        return {
            row["document"]: row["amount"]
            for row in rows
            if (row["name"], row["metric"], row["model"]) == (name, "acc", model)
        }

    for model in ("base", "trigram"):
        asked = amounts("colours/chat", model)
        assert asked.items() <= amounts("both/colours", model).items()


def test_keys_name_the_question_whoever_answers(done: tuple[Lines, Rows, Path]) -> None:
    rows = done[1]
    by_model: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        by_model.setdefault((row["name"], row["metric"], row["model"]), []).append(row["key"])
    assert all(len(set(keys)) == len(keys) for keys in by_model.values())
    assert by_model["both/colours", "acc", "base"] == by_model["both/colours", "acc_norm", "trigram"]
    asked = next(row for row in rows if row["name"] == "both/colours")
    assert asked["prompt"].startswith("What colour is the ") and asked["target"] in asked["prompt"]


def test_equal_inputs_give_equal_items_with_examples_and_sampling(
    world: dict[str, Artifact], done: tuple[Lines, Rows, Path], tmp_path: Path
) -> None:
    folder = done[2] / "benchmarks"
    text = (folder / "sums.yaml").read_text()
    other = write_benchmarks(tmp_path / "benchmarks")
    (other / "sums.yaml").write_text(
        text.replace("max_gen_toks: 6", "max_gen_toks: 6, temperature: 1.0, do_sample: true")
    )
    tasks: list[dict[str, Any]] = [
        {"path": str(other), "name": "sums"},
        {"path": str(other), "name": "endings", "num_fewshot": 2, "limit": 5},
    ]
    (other / "endings.csv").write_text("text,word\n" + "".join(f"The {noun} holds a,{noun}\n" for noun in NOUNS))
    first, second = (run(world, tmp_path / name, tasks) for name in ("a", "b"))
    assert first == second
    assert (tmp_path / "a" / "items" / "items.parquet").read_bytes() == (
        tmp_path / "b" / "items" / "items.parquet"
    ).read_bytes()


def test_packs_measure_bias_and_stand_beside_known_models(world: dict[str, Artifact], tmp_path: Path) -> None:
    sentences = shared_data("bench", "winogender_all_sentences.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "winogender.tsv").write_text("".join(sentences[:61]))
    tasks: list[dict[str, Any]] = [
        {"name": "crows_pairs", "data": str(shared_data("bench", "crows_pairs_anonymized.csv")), "limit": 12},
        {"name": "winogender", "data": str(tmp_path / "winogender.tsv")},
        {"name": "winogrande", "data": str(shared_data("bench", "winogrande.jsonl")), "limit": 10},
    ]
    lines, rows = run(world, tmp_path, tasks)
    stereotype = lines["crows_pairs", "pct_stereotype", "base"]
    assert stereotype["items"] == 12 and stereotype["higher_is_better"] is None
    assert any(name.startswith("crows_pairs/") for name, _, _ in lines)
    for gender in ("female", "male", "neutral"):
        assert lines[f"winogender/gender={gender}", "acc", "base"]["items"] == 20
    gap = lines["winogender", "acc_male_less_female", "base"]
    assert (gap["value"], gap["items"]) == (0, 20)  # a uniform model counts tokens, which pronouns hardly change
    known = lines["winogrande", "acc", "tuned"]["references"]
    assert {key: known[0][key] for key in ("model", "value")} == {"model": "GPT-2 1.5B", "value": 0.594}
    assert all(reference["source"] for reference in known)
    assert not lines["winogender", "acc", "tuned"]["references"]
    questions = {row["prompt"] for row in rows if row["name"] == "winogender"}
    assert "The technician told the customer that he could pay with cash. ‘He’ refers to the" in questions
