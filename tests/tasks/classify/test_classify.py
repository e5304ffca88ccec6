"""The stage classify: it tells classes apart, says how well beside words alone, and counts what it leaves out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_models import write_gpt2
from tiny_model import LocalContext, artifact, write_model, write_tokenizer

from model.classes import class_scores
from model.transformer import load_model
from storage.documents import HELDOUT, PAIRS_SCHEMA, TRAIN, Pair, pair_row, read_rows, write_rows
from storage.errors import ConfigError, DataError
from storage.store.artifacts import Artifact
from tasks.classify.answer import open_classifier
from tasks.classify.config import ClassifyConfig
from tasks.classify.figures import calibration_error, figures_of, linear_baselines
from tasks.classify.stage import classify, readable_ids
from tasks.initial.config import ImportConfig
from tasks.initial.stage import take_over

QUICK = ClassifyConfig(device="cpu", texts_per_step=8, epochs=6, matrix_rate=0.02, embedding_rate=0.01)
World = dict[str, Artifact]
WORDS = {"sea": ("ship", "wave", "sail", "salt"), "land": ("road", "tree", "field", "barn")}


def text(number: int, label: str, split: str = TRAIN, said: str = "") -> Pair:
    words = WORDS.get(label, ("thing",))
    said = said or f"We saw {words[number % len(words)]} number {number} of the {words[-1]}."
    return Pair.of(said, label, f"g{number}-{label}", split, "texts")


def world_of(folder: Path, pairs: Sequence[Pair]) -> World:
    (folder / "labels").mkdir(parents=True)
    write_rows(folder / "labels" / "00000.parquet", [pair_row(pair) for pair in pairs], PAIRS_SCHEMA)
    return {
        "base": write_model(folder / "base", context_length=48),
        "tokenizer": write_tokenizer(folder / "tokenizer"),
        "clean": artifact("filter", labels=folder / "labels"),
    }


def both(count: int, split: str = TRAIN, first: int = 0) -> list[Pair]:
    return [text(number, label, split) for number in range(first, first + count) for label in WORDS]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("world")
    pairs = [*both(40), *both(15, HELDOUT, 100), text(1, "sky", HELDOUT), text(900, "sea", said="far " * 90)]
    summary = classify.function(QUICK, *world_of(folder / "w", pairs).values(), context=LocalContext(folder / "c"))
    return summary, folder / "c"


def test_a_text_that_is_held_out_is_not_learned_under_another_label(tmp_path: Path) -> None:
    copy = text(100, "land", said=" A  COPY of what is held out")
    pairs = [*both(40), *both(15, HELDOUT, 100), copy, text(101, "sea", HELDOUT, said="a copy of what is held out")]
    context = LocalContext(tmp_path / "c")
    summary = classify.function(QUICK, *world_of(tmp_path / "w", pairs).values(), context=context)
    assert (summary["training_texts"], summary["dropped_leaking"], summary["heldout_texts"]) == (80, 1, 31)
    assert "1 training texts are held out too" in summary["notices"][0]


def test_classes_are_told_apart_and_what_is_left_out_is_counted(made: tuple[dict[str, Any], Path]) -> None:
    summary, folder = made
    assert (summary["texts"], summary["training_texts"], summary["heldout_texts"], summary["classes"]) == (
        112,
        81,
        30,
        2,
    )
    assert summary["accuracy"] > 0.9 and summary["macro_f1"] > 0.9
    assert (summary["unseen_labels"], summary["cut_texts"], summary["other_labels"]) == (1, 1, 0)
    assert "sky (1)" in summary["notices"][0] and "1 of 111 texts are longer" in summary["notices"][1]
    scores = json.loads((folder / "class_scores/scores.json").read_text())
    assert scores["labels"] == ["land", "sea"] and [one["texts"] for one in scores["classes"]] == [15, 15]
    assert sum(map(sum, scores["confusion"])) == 30 and scores["most_frequent"] == 0.5
    assert scores["low"] <= scores["accuracy"] <= scores["high"] and scores["baseline_accuracy"] > 0.9
    rows = list(read_rows(folder / "items/items.parquet"))
    assert len(rows) == 30 and sum(row["found"] == row["label"] for row in rows) / 30 == pytest.approx(
        summary["accuracy"], abs=1e-4
    )


def test_the_folder_answers_here_and_in_transformers(made: tuple[dict[str, Any], Path]) -> None:
    transformers = pytest.importorskip("transformers")
    folder = made[1] / "model"
    asked = ["We saw ship number 3 of the salt.", "We saw road number 4 of the barn."]
    found = open_classifier(folder, 1)(asked)
    assert [one["label"] for one in found] == ["sea", "land"]
    pipeline = transformers.pipeline("text-classification", model=str(folder))
    for one, other in zip(found, pipeline(asked), strict=True):
        assert other["label"] == one["label"] and other["score"] == pytest.approx(one["probability"], abs=1e-4)
    assert open_classifier(folder, 1)([]) == []


def test_with_token_pairs_the_folder_answers_as_items_say_and_transformers_as_the_transformer_alone(
    tmp_path: Path,
) -> None:
    transformers = pytest.importorskip("transformers")
    said = {"sea": "不 好 看 เรือ दूर", "land": "好 不 看 เรือ दूर"}  # the same tokens, in another order
    pairs = [
        text(number, label, split, said=f"{said[label]} {number * 7919 % 1000}")
        for split, numbers in ((TRAIN, range(40)), (HELDOUT, range(100, 110)))
        for number in numbers
        for label in WORDS
    ]
    config = QUICK.model_copy(update={"steps": 3})
    without = classify.function(config, *world_of(tmp_path / "v", pairs).values(), context=LocalContext(tmp_path / "b"))
    assert "word pairs tells 50.0 points more apart: try classify.token_pairs=true" in without["notices"][-1]
    config = config.model_copy(update={"token_pairs": True})
    context = LocalContext(tmp_path / "c")
    summary = classify.function(config, *world_of(tmp_path / "w", pairs).values(), context=context)
    scores = json.loads((tmp_path / "c/class_scores/scores.json").read_text())
    assert summary["accuracy"] == scores["accuracy"] == 1.0 > scores["transformer_accuracy"]
    folder = tmp_path / "c/model"
    asked = {pair.id: pair.prompt for pair in pairs}
    rows = list(read_rows(folder.parent / "items/items.parquet"))
    answers = open_classifier(folder, 1)([asked[row["id"]] for row in rows])
    assert [one["label"] for one in answers] == [row["found"] for row in rows]
    assert [one["probability"] for one in answers] == pytest.approx([row["probability"] for row in rows], abs=1e-5)
    judge = transformers.pipeline("text-classification", model=str(folder))
    alone = class_scores(load_model(folder), readable_ids(folder, [asked[row["id"]] for row in rows]))
    for one, row in zip(alone, rows, strict=True):
        assert judge(asked[row["id"]])[0]["score"] == pytest.approx(float(np.exp(one).max()), abs=1e-4)


def test_a_classifier_of_an_open_model_says_the_model_s_own_ids(tmp_path: Path) -> None:
    """A GPT-2 has the exclamation mark at id 0: transformers must not take it for what fills up. Nor does its tokenizer
    put a mark before a text."""
    transformers = pytest.importorskip("transformers")
    world = world_of(tmp_path / "w", [*both(12), *both(4, HELDOUT, 100)])
    config = ImportConfig(path=str(write_gpt2(tmp_path / "gpt2")))
    take_over.function(config, context=LocalContext(tmp_path / "initial"))
    parts = {name: tmp_path / "initial" / name for name in ("model", "tokenizer")}
    world |= {"base": artifact("initial", **parts), "tokenizer": artifact("initial", **parts)}
    quick = QUICK.model_copy(update={"steps": 3})
    classify.function(quick, *world.values(), context=LocalContext(tmp_path / "c"))
    folder = tmp_path / "c" / "model"
    (ids,) = readable_ids(folder, ["We saw a ship!!"])
    assert ids[-1] == 0 != json.loads((folder / "config.json").read_text())["pad_token_id"]
    judge = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        wanted = torch.log_softmax(judge(torch.tensor([ids])).logits[0], -1).numpy()
    assert np.allclose(class_scores(load_model(folder), [ids])[0], wanted, atol=1e-4)
    (said,) = transformers.pipeline("text-classification", model=str(folder))(["We saw a ship!!"])
    assert said["score"] == pytest.approx(float(np.exp(wanted).max()), abs=1e-6)


def test_labels_that_are_not_named_are_left_out(tmp_path: Path) -> None:
    pairs = [*both(12), *both(4, HELDOUT, 100), *(text(number, "sky") for number in range(5))]
    config = QUICK.model_copy(update={"labels": ("sea", "land"), "steps": 2, "epochs": 1.0})
    summary = classify.function(config, *world_of(tmp_path / "w", pairs).values(), context=LocalContext(tmp_path / "c"))
    assert (summary["texts"], summary["training_texts"], summary["other_labels"]) == (37, 24, 5)
    config_json = json.loads((tmp_path / "c/model/config.json").read_text())
    assert config_json["id2label"] == {"0": "sea", "1": "land"}


@pytest.mark.parametrize(
    ("pairs", "labels", "message"),
    [
        ([], (), "no labelled text"),
        ([text(1, "sea"), text(2, "sea", HELDOUT)], (), "all have the label 'sea'"),
        ([text(2, "sea", HELDOUT)], (), "there is none to train on"),
        (both(3), (), "no labelled text is held out"),
        (
            both(3) + both(2, HELDOUT, 50),
            ("sea", "sky"),
            "no training text has the label 'sky'. The data have: land, sea",
        ),
    ],
)
def test_nothing_to_tell_apart_or_to_score_is_an_error(
    pairs: list[Pair], labels: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    config = QUICK.model_copy(update={"labels": labels})
    with pytest.raises(DataError, match=message.replace(".", r"\.")):
        classify.function(config, *world_of(tmp_path / "w", pairs).values(), context=LocalContext(tmp_path / "c"))


@pytest.mark.parametrize("labels", [["a"], ["a", "a"]])
def test_a_recipe_names_two_labels_or_more_once(labels: list[str]) -> None:
    with pytest.raises((ConfigError, ValueError), match="two labels or more"):
        ClassifyConfig.model_validate({"labels": labels})


def test_figures_by_hand() -> None:
    true = np.array([0, 0, 0, 1])
    shares = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    beside = {"weak": np.array([1, 1, 1, 1]), "strong": np.array([0, 0, 0, 0])}
    found = figures_of(["a", "b"], true, shares, beside, ["w", "x", "y", "z"])
    assert found["accuracy"] == 0.75 and found["confusion"] == [[2, 1], [0, 1]]
    a, b = found["classes"]
    assert (a["precision"], a["recall"], a["f1"]) == (1.0, pytest.approx(2 / 3, abs=1e-4), 0.8)
    assert (b["precision"], b["recall"]) == (0.5, 1.0)
    assert (found["baseline"], found["baseline_accuracy"], found["gain"]) == ("strong", 0.75, 0.0)
    assert found["baselines"] == [
        {"name": "weak", "accuracy": 0.25, "macro_f1": 0.2},
        {"name": "strong", "accuracy": 0.75, "macro_f1": pytest.approx(3 / 7, abs=1e-4)},
    ]
    assert calibration_error(np.array([1.0, 0.0]), np.array([0.95, 0.95])) == pytest.approx(0.45)


@pytest.mark.parametrize("kind", ["words", "word pairs"])
def test_words_alone_and_no_words_at_all(kind: str) -> None:
    train, classes = ["red rose", "red fire", "blue sea", "blue sky"], np.array([0, 0, 1, 1])
    assert linear_baselines(train, classes, ["red", "blue"])[kind].tolist() == [0, 1]
    assert linear_baselines([" ", " "], np.array([0, 1]), ["x"])[kind].tolist() == [0]
