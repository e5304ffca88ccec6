"""Recipes that learn from a teacher or go by a curriculum: what is planned, refused, learned and retrained."""

import json
from pathlib import Path
from typing import Any

import pytest
from open_models import write_eurobert, write_llama, write_qwen
from support import Command
from test_open_model import lay_out, made, outcomes, part, summary_of

from tasks.tokenize.tokenizer import load_tokenizer

TINY = "size: nano, steps: 4, context_length: 64, batch_tokens: 512, validation_tokens: 1024"


def recipe_of(folder: Path, pretrain: str, finetune: str = "steps: 4") -> Path:
    return lay_out(folder, f"pretrain: {{{TINY}, {pretrain}}}\nfinetune: {{{finetune}}}")


def planned(command: Command, home: Path, recipe: Path, *more: str) -> list[str]:
    status, out, err = command("plan", str(recipe), "--json", *more, home=home)
    assert status == 0, err
    return [line["stage"] for line in json.loads(out)["stages"]]


def test_the_plan_of_a_teacher_has_its_stage_and_no_tokenizer(tmp_path: Path, home: Path, command: Command) -> None:
    write_qwen(tmp_path / "model")
    stages = planned(command, home, recipe_of(tmp_path, "teacher: {path: model}"))
    assert stages[3:6] == ["teacher", "tokenize", "pretrain"]
    stages = planned(command, home, recipe_of(tmp_path, "seed: 1", "steps: 4, teacher: {path: model}"))
    assert stages[3:6] == ["tutor", "tokenize", "pretrain"]
    stages = planned(command, home, recipe_of(tmp_path, "teacher: {earlier_self: 0.5}"))
    assert stages[3:6] == ["tokenizer", "tokenize", "pretrain"], "its own tokenizer serves an earlier self"


@pytest.mark.parametrize(
    ("pretrain", "finetune", "says"),
    [
        ("teacher: {path: nowhere}", "steps: 4", "nowhere: no such folder"),
        (
            "teacher: {weight: 0.5}",
            "steps: 4",
            "give path (a folder), model and revision (of the hub), or earlier_self",
        ),
        ("teacher: {path: model, earlier_self: 0.5}", "steps: 4", "the model's own weights are the teacher"),
        ("teacher: {model: a/b}", "steps: 4", "revision: it is missing"),
        ("teacher: {path: model, weight: 1.5}", "steps: 4", "less than or equal to 1"),
        ("teacher: {path: model}, context_length: 256", "steps: 4", "it sees 128 tokens at once"),
        ("seed: 1, context_length: 256", "steps: 4, teacher: {path: model}", "it sees 128 tokens at once"),
        ("teacher: {path: model}", "initial: {path: model}", "finetune.initial leaves pretraining out"),
        ("teacher: {earlier_self: 0.5, adapter: nowhere}", "steps: 4", "the model's own weights are the teacher"),
        ("teacher: {path: model}, objective: masked_words", "steps: 4", "soft targets are for models that write"),
        (
            "teacher: {path: encoder}",
            "steps: 4",
            "pretrain.teacher: HERE/encoder is an encoder (eurobert), which fills in hidden words and cannot write: "
            "take a teacher that writes",
        ),
        ("seed: 1", "steps: 4, teacher: {path: encoder}", "finetune.teacher: HERE/encoder is an encoder (eurobert)"),
    ],
)
def test_what_cannot_teach_is_refused_by_the_plan(
    pretrain: str, finetune: str, says: str, tmp_path: Path, home: Path, command: Command
) -> None:
    write_qwen(tmp_path / "model"), write_eurobert(tmp_path / "encoder")
    tiny = TINY.replace("context_length: 64, ", "") if "context_length" in pretrain else TINY
    recipe = lay_out(tmp_path, f"pretrain: {{{tiny}, {pretrain}}}\nfinetune: {{{finetune}}}")
    status, _, err = command("plan", str(recipe), home=home)
    assert status == 2 and says.replace("HERE", str(tmp_path)) in " ".join(err.split()), err


def test_a_teacher_of_another_vocabulary_ends_the_run_with_both_sizes(
    tmp_path: Path, home: Path, command: Command
) -> None:
    write_qwen(tmp_path / "model")
    write_llama(tmp_path / "teacher")
    recipe = lay_out(tmp_path, "finetune: {steps: 2, initial: {path: model}, teacher: {path: teacher}}")
    status, _, err = command("run", str(recipe), "--plain", home=home)
    sizes = [len(load_tokenizer(tmp_path / name).get_vocab()) for name in ("teacher", "model")]
    said = " ".join(err.split())
    assert status == 2 and f"has a vocabulary of {sizes[0]} tokens" in said and f"one of {sizes[1]}" in said, err


def test_two_teachers_of_different_vocabularies_are_seen_before_pretraining(
    tmp_path: Path, home: Path, command: Command
) -> None:
    write_qwen(tmp_path / "model")
    write_llama(tmp_path / "other")
    recipe = recipe_of(tmp_path, "teacher: {path: model}", "steps: 2, teacher: {path: other}")
    status, _, err = command("run", str(recipe), "--plain", home=home)
    assert status == 2 and "not trained, since a later stage would fail" in " ".join(err.split()), err


def test_how_to_fine_tune_is_refused_where_nothing_is_fine_tuned(tmp_path: Path, home: Path, command: Command) -> None:
    write_qwen(tmp_path / "model")
    recipe = lay_out(tmp_path, "finetune: {initial: {path: model}}")
    liked = {"prompt": "What of it?", "chosen": "The river.", "rejected": "No."}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(liked) + "\n")
    assert "finetune" not in planned(command, home, recipe)
    status, _, err = command("plan", str(recipe), "--set", "finetune.lora.rank=4", home=home)
    said = " ".join(err.split())
    assert status == 2 and "finetune.lora: the sources hold preferences alone" in said and "or set align.lora" in said


@pytest.mark.slow
def test_a_run_with_teachers_learns_and_is_retrained(tmp_path: Path, home: Path, command: Command) -> None:
    """The released student has the teacher's tokenizer; a retraining goes on from it without its teachers' stage."""
    write_qwen(tmp_path / "model")
    settings = "teacher: {path: model, weight: 0.3}"
    recipe = recipe_of(tmp_path, settings, "steps: 4, curriculum: length, teacher: {path: model}")
    status, out, err = command("run", str(recipe), "--plain", "--json", home=home)
    assert status == 0, err
    report: dict[str, Any] = json.loads(out)
    done = outcomes(report)
    assert "tokenizer" not in done and (done["teacher"], done["tutor"]) == ("built", "reused")
    release = part(home, report, "release", "release")
    assert load_tokenizer(release).get_vocab() == load_tokenizer(tmp_path / "model").get_vocab()
    training = json.loads((part(home, report, "finetune", "model") / "training.json").read_text())
    assert training[0]["soft_targets"] == {"weight": 0.3, "temperature": 2.0, "earlier_self": None}
    assert training[1]["shortest_first"] is True and training[1]["soft_targets"]["weight"] == 0.5
    assert summary_of(home, report, "pretrain")["steps"] == 4 and made(home, report, "teacher").stage == "teacher"
    assert command("promote", "latest", home=home)[0] == 0
    recipe_of(tmp_path, settings, "steps: 4, curriculum: length, teacher: {path: model}")
    lay_out(tmp_path, recipe.read_text().partition("\ncollect:")[0], first=20)
    status, out, err = command("retrain", str(recipe), "--plain", "--json", home=home)
    assert status == 0, err
    again = outcomes(json.loads(out))
    assert "teacher" not in again and again["pretrain"] == "built"
    assert summary_of(home, json.loads(out), "pretrain")["new_documents"] > 0


def test_weights_of_equal_contents_elsewhere_train_nothing_again(tmp_path: Path, home: Path, command: Command) -> None:
    """The place of a teacher is no part of the key; what it counts for is."""
    write_qwen(tmp_path / "model")
    recipe = recipe_of(tmp_path, "teacher: {path: model}")
    assert command("run", str(recipe), "--plain", "--to", "pretrain", home=home)[0] == 0
    (tmp_path / "model").rename(tmp_path / "moved")
    recipe = recipe_of(tmp_path, "teacher: {path: moved}")
    status, out, _ = command("plan", str(recipe), "--to", "pretrain", home=home)
    assert status == 0 and "6 reused, 0 to build" in out
    status, out, _ = command("plan", str(recipe), "--to", "pretrain", "--set", "pretrain.teacher.weight=0.2", home=home)
    assert status == 0 and "teacher.weight: 0.5 -> 0.2" in " ".join(out.split())
