"""The stage whole: figures that can be worked out by hand, equal bytes, and what it says when data are few."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_model import (
    VOCABULARY,
    LocalContext,
    artifact,
    with_pairs,
    write_corpus,
    write_model,
    write_pairs,
    write_texts,
    write_tokenizer,
)

from storage.documents import PAIRS_SCHEMA, write_rows
from storage.errors import ConfigError, DataError
from storage.store.artifacts import Artifact
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.stage import evaluate
from tasks.retrain.config import OWN_FIGURES

SETTINGS = {"items": 24, "heldout_bytes": 100_000, "baseline_bytes": 30_000, "bootstrap_draws": 200}
CONFIG = EvaluateConfig(**SETTINGS, threads=1, device="cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The base model is uniform over the vocabulary, the fine-tuned one random."""
    root = tmp_path_factory.mktemp("world")
    return {
        "base": write_model(root / "base", zero=True),
        "tuned": write_model(root / "tuned", seed=1),
        "tokenizer": write_tokenizer(root / "tokenizer"),
        "clean": with_pairs(write_corpus(root / "documents"), write_pairs(root / "pairs")),
    }


def run(world: dict[str, Artifact], root: Path, config: EvaluateConfig = CONFIG) -> tuple[dict[str, Any], LocalContext]:
    context = LocalContext(root)
    return evaluate.function(config, *world.values(), context=context), context


@pytest.fixture(scope="module")
def done(world: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path, LocalContext]:
    root = tmp_path_factory.mktemp("build")
    summary, context = run(world, root)
    return summary, root, context


@pytest.fixture(scope="module")
def scores(done: tuple[dict, Path, LocalContext]) -> dict[tuple[str, str, str], dict[str, Any]]:
    lines = json.loads((done[1] / "scores" / "scores.json").read_bytes())
    return {(line["name"], line["metric"], line["model"]): line for line in lines}


def test_a_uniform_model_has_the_bits_that_arithmetic_gives(world: dict[str, Artifact], scores: dict) -> None:
    """log2(360) bits a token, so bits per byte are that times tokens over bytes, and perplexity is 360."""
    from tasks.tokenize.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(world["tokenizer"]["tokenizer"].path)
    heldout = [
        row["text"]
        for shard in world["clean"]["documents"].files
        for row in pq.read_table(shard.path).to_pylist()
        if row["split"] == "heldout"
    ]
    tokens, size = sum(len(tokenizer.encode(text).ids) for text in heldout), sum(len(text.encode()) for text in heldout)
    found = scores["heldout", "bits_per_byte", "base"]
    assert found["items"] == len(heldout)
    assert found["value"] == pytest.approx(math.log2(VOCABULARY) * tokens / size, rel=1e-4)
    assert found["low"] < found["value"] < found["high"]
    perplexity = scores["heldout", "token_perplexity", "base"]
    assert [perplexity[key] for key in ("value", "low", "high")] == pytest.approx([VOCABULARY] * 3, rel=1e-4)


def test_a_uniform_model_is_below_the_unigram_and_is_marked(scores: dict) -> None:
    found = scores["heldout", "bits_per_byte", "base"]
    assert found["baselines"]["trigram"] < found["baselines"]["unigram"] < found["value"]
    assert found["below_baseline"]


def test_another_prompt_makes_no_difference_to_a_model_that_reads_none(scores: dict) -> None:
    """The uniform model's gap is 0, as is the unigram's; a random model that does read has some gap."""
    gap = scores["answers", "prompt_gap", "base"]
    assert gap["value"] == pytest.approx(0, abs=1e-5)
    assert gap["baselines"]["unigram"] == 0
    assert gap["items"] == 12
    assert scores["answers", "prompt_gap", "tuned"]["value"] != pytest.approx(0, abs=1e-4)


def test_sources_are_reported_apart_and_together(scores: dict) -> None:
    names = {name for name, _, _ in scores}
    assert {name for name in names if name.startswith("heldout")} == {
        "heldout",
        "heldout/source=books",
        "heldout/source=files",
    }
    assert {"answers", "cloze", "choice", "memorisation", "calibration"} < names
    apart = [scores[f"heldout/source={source}", "bits_per_byte", "base"] for source in ("books", "files")]
    together = scores["heldout", "bits_per_byte", "base"]
    assert sum(line["items"] for line in apart) == together["items"]
    assert min(line["value"] for line in apart) <= together["value"] <= max(line["value"] for line in apart)


def test_what_a_guard_may_name_is_what_is_measured(scores: dict) -> None:
    measured = {(name.partition("/")[0], metric) for name, metric, _ in scores}
    promised = {(name, metric) for name, metrics in OWN_FIGURES.items() for metric in metrics}
    # None was planted, none is named, nobody has said anything.
    absent = ("canaries", "known_text", "feedback", "learned_feedback")
    assert {figure for figure in promised if figure[0] not in absent} == measured


def test_a_model_without_preferences_chooses_by_chance(scores: dict) -> None:
    """A unigram sees the choices alone, which say nothing: exactly one in four. So does every figure's interval."""
    line = scores["choice", "accuracy", "base"]
    assert line["baselines"]["unigram"] == line["baselines"]["chance"] == 0.25
    assert 0 <= line["low"] < line["value"] < line["high"] <= 1
    assert {"word_overlap", "trigram"} < set(line["baselines"])
    assert {"most_frequent_word", "trigram", "unigram"} == set(scores["cloze", "accuracy", "base"]["baselines"])


def test_items_add_up_to_the_scores(done: tuple[dict, Path, LocalContext], scores: dict) -> None:
    rows = pq.read_table(done[1] / "items" / "items.parquet").to_pylist()
    for (name, metric, model), line in scores.items():
        own = [row for row in rows if (row["name"], row["metric"], row["model"]) == (name, metric, model)]
        assert len(own) == line["items"]
        ratio = sum(row["amount"] for row in own) / sum(row["weight"] for row in own)
        value = math.exp(ratio) if metric.endswith("perplexity") else ratio
        assert value == pytest.approx(line["value"], rel=1e-3, abs=1e-3)


def test_summary_and_progress(done: tuple[dict, Path, LocalContext], scores: dict) -> None:
    summary, _, context = done
    assert "notices" not in summary  # all could be measured
    assert summary["heldout_bits_per_byte_tuned"] == scores["heldout", "bits_per_byte", "tuned"]["value"]
    assert summary["below_baseline"] == sum(line["below_baseline"] for line in scores.values())
    assert context.shown[-1][0] == 26  # 4 scorers answer 6 questions each, the models one more: no canary was planted
    assert context.shown == sorted(context.shown)


def test_equal_inputs_give_equal_bytes(
    world: dict[str, Artifact], done: tuple[dict, Path, LocalContext], tmp_path: Path
) -> None:
    summary, _ = run(world, tmp_path)
    assert summary == done[0]
    for part in ("scores", "items"):
        for path in (tmp_path / part).iterdir():
            assert path.read_bytes() == (done[1] / part / path.name).read_bytes()


def test_a_text_of_one_long_word_has_perplexities_that_json_can_hold(
    world: dict[str, Artifact], tmp_path: Path
) -> None:
    """Lines of DNA: a document is a word of 600 letters, and e to its nats more than a float can hold."""
    letters = random.Random(4)
    texts = ["".join(letters.choices("ACGT", k=600)) for _ in range(30)]
    summary, _ = run(
        world | {"clean": with_pairs(write_texts(tmp_path / "documents", texts, heldout=10), world["clean"])}, tmp_path
    )
    text = (tmp_path / "scores" / "scores.json").read_text(encoding="utf-8")
    lines = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    found = next(line for line in lines if (line["name"], line["metric"]) == ("heldout", "word_perplexity"))
    assert (found["value"], found["low"], found["high"]) == (1e300, 1e300, 1e300)
    assert "more than 1e+300" in found["note"]
    assert 1 < next(line["value"] for line in lines if line["metric"] == "token_perplexity") <= VOCABULARY * 1.01
    assert math.isfinite(summary["heldout_bits_per_byte_base"])


def test_words_are_counted_by_the_script_of_their_letters(world: dict[str, Artifact], tmp_path: Path) -> None:
    """Chinese: e to log(360) times the tokens over the letters, not over paragraphs."""
    texts = ["春天来了山上的花都开了孩子们到河边去看鱼"[: 12 + number % 8] * 9 for number in range(30)]
    run(world | {"clean": with_pairs(write_texts(tmp_path / "documents", texts, heldout=10), world["clean"])}, tmp_path)
    lines = json.loads((tmp_path / "scores" / "scores.json").read_bytes())
    found = next(line for line in lines if (line["name"], line["metric"]) == ("heldout", "word_perplexity"))
    assert found["value"] == pytest.approx(VOCABULARY**3, rel=1e-3)  # a token is a byte, a letter three bytes
    assert found["note"] == ""


def test_nothing_held_out_names_the_setting(world: dict[str, Artifact], tmp_path: Path) -> None:
    clean = write_corpus(tmp_path / "documents", heldout=0)
    with pytest.raises(DataError, match=r"collect\.heldout_fraction"):
        run(world | {"clean": clean}, tmp_path)


def test_a_stride_beyond_the_context_names_the_setting(world: dict[str, Artifact], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.stride: 65 .* 64 tokens"):
        run(world, tmp_path, EvaluateConfig(**{**CONFIG.model_dump(), "stride": 65}))


def test_few_documents_and_no_pairs_are_said_not_crashed_on(world: dict[str, Artifact], tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    write_rows(tmp_path / "pairs" / "00000.parquet", [], PAIRS_SCHEMA)
    none = artifact("collect", pairs=tmp_path / "pairs")
    few = {"clean": with_pairs(write_corpus(tmp_path / "documents", heldout=1), none)}
    summary, _ = run(world | few, tmp_path)
    assert [notice.split(":")[1] for notice in summary["notices"]] == [
        f" {name} was not measured" for name in ("choice", "memorisation")
    ]
    assert "0 of the 8 items" in summary["notices"][0] and "collect.heldout_fraction" in summary["notices"][0]
    lines = json.loads((tmp_path / "scores" / "scores.json").read_bytes())
    notes = {line["name"]: line["note"] for line in lines}
    assert notes["choice"] == "not enough held-out documents"
    assert notes["answers"] == "not enough held-out pairs"
    assert notes["heldout"] == "all items come from one document: no interval"
    assert all(line["value"] is None for line in lines if line["name"] in ("choice", "answers"))
    examples = json.loads((tmp_path / "scores" / "examples.json").read_bytes())
    assert all(example["form"] == "text" for example in examples)
