"""The stages reference and align: likelihoods once, what was chosen becomes likelier, and each loss is counted."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from open_models import write_llama
from safetensors.torch import load_file
from tiny_model import LocalContext, artifact, write_model, write_tokenizer

from model.generate import load_model
from model.likelihood import score_continuations
from model.shape import WEIGHTS
from storage.documents import HELDOUT, PAIRS_SCHEMA, TRAIN, Message, Pair, pair_row, write_rows
from storage.errors import DataError
from storage.store.artifacts import Artifact
from tasks.answer.template_form import needed_chat_form
from tasks.initial.config import ImportConfig
from tasks.train.about import ALIGN
from tasks.train.align import AlignConfig, align
from tasks.train.lora import LoraConfig
from tasks.train.preferences import (
    ReferenceConfig,
    encode_preferences,
    preferences_of,
    read_reference,
    reference,
)

QUICK = AlignConfig(
    device="cpu", preferences_per_step=4, epochs=3, heldout_preferences=8, matrix_rate=0.005, embedding_rate=0.002
)
World = dict[str, Artifact]  # what alignment reads, by name
# Collect refuses such a record: these were two addresses.
ALIKE = {"answer": "Write to <EMAIL>.", "rejected": "Write to <EMAIL>."}


def preference(number: int, split: str = TRAIN, prompt: str = "", **more: Any) -> Pair:
    prompt = prompt or f"Say a word to guest {number}"
    texts = {"answer": f"Good day to you, dear guest {number}.", "rejected": "No."} | more
    return replace(Pair.of(prompt, texts["answer"], f"g{number}", split, "guests", (), texts["rejected"]), **more)


def world_of(folder: Path, pairs: Sequence[Pair]) -> World:
    folder.mkdir()
    (folder / "preferences").mkdir()
    write_rows(folder / "preferences" / "00000.parquet", [pair_row(pair) for pair in pairs], PAIRS_SCHEMA)
    return {
        "tuned": write_model(folder / "tuned", context_length=96),
        "tokenizer": write_tokenizer(folder / "tokenizer"),
        "clean": artifact("filter", preferences=folder / "preferences"),
    }


def referred(world: World, folder: Path) -> tuple[dict[str, Any], Artifact]:
    summary = reference.function(ReferenceConfig(device="cpu"), *world.values(), context=LocalContext(folder))
    return summary, artifact("reference", reference=folder / "reference")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    pairs = [preference(number) for number in range(24)]
    pairs += [preference(number, HELDOUT) for number in range(100, 112)]
    return world_of(tmp_path_factory.mktemp("world") / "w", pairs)


def test_likelihoods_are_those_of_the_model_for_each_answer(world: World, tmp_path: Path) -> None:
    summary, made = referred(world, tmp_path)
    assert (summary["preferences"], summary["scored"], summary["too_long"]) == (36, 36, 0)
    found = read_reference(made["reference"])
    model = load_model(world["tuned"]["model"].path, "cpu")
    form = needed_chat_form(world["tokenizer"]["tokenizer"].path)
    for pair in preferences_of(world["clean"]["preferences"])[:5]:
        (one,) = encode_preferences(form, [pair], 96)
        assert one is not None and one[0] == pair
        both = one[1]
        alone = [nats for nats, _ in score_continuations(model, [(one.prompt, one.answer) for one in both])]
        assert found[pair.id] == pytest.approx(alone, abs=1e-3)


@pytest.mark.parametrize("method", ["dpo", "simpo"])
def test_chosen_answers_become_likelier(method: str, world: World, tmp_path: Path) -> None:
    made = referred(world, tmp_path / "r")[1] if method == "dpo" else None
    config = QUICK.model_copy(update={"method": method})
    summary = align.function(config, *world.values(), made, context=LocalContext(tmp_path / "a"))
    assert (summary["preferences"], summary["training_preferences"], summary["heldout_preferences"]) == (36, 24, 12)
    assert (summary["scored_preferences"], summary["steps"]) == (8, 18)
    assert summary["win_rate"] > 0.9 and summary["margin"] > summary["margin_before"]
    assert summary["loss"] < summary["loss_before"]
    assert summary["win_rate_low"] < summary["win_rate"] <= summary["win_rate_high"] <= 1
    change = summary["win_rate"] - summary["win_rate_before"]
    assert summary["win_rate_change"] == pytest.approx(change, abs=1e-4)
    assert summary["margin_change"] == pytest.approx(summary["margin"] - summary["margin_before"], rel=1e-3)
    assert summary["margin_change_low"] <= summary["margin_change"] <= summary["margin_change_high"]
    assert summary["win_rate_change_low"] <= change + 1e-4 and change <= summary["win_rate_change_high"] + 1e-4
    if method == "dpo":
        assert summary["win_rate_before"] == 0.5 and summary["loss_before"] == pytest.approx(0.6931, abs=1e-3)
    phases = json.loads((tmp_path / "a/model/training.json").read_text())
    assert [phase["stage"] for phase in phases] == ["pretrain", "align"]
    assert len((tmp_path / "a/curve/curve.jsonl").read_text().splitlines()) == 18
    assert (tmp_path / "a/adapter/about.json").read_text() == "null\n"


def test_an_adapter_aligns_too(world: World, tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"method": "simpo", "lora": LoraConfig(rank=4, targets=("v_proj",), rate=0.02)})
    summary = align.function(config, *world.values(), None, context=LocalContext(tmp_path))
    assert summary["win_rate"] >= summary["win_rate_before"] and summary["loss"] < summary["loss_before"]
    before, after = (load_file(path / WEIGHTS) for path in (world["tuned"]["model"].path, tmp_path / "model"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("v_proj.weight")}
    assert (tmp_path / "adapter/adapter_config.json").exists()


def test_what_is_not_learned_from_is_counted(tmp_path: Path) -> None:
    long = "a word and another " * 40
    pairs = [preference(number) for number in range(12)]
    pairs += [
        preference(20, prompt="Say a word to guest 100"),
        preference(21, rejected=long),
        preference(22, prompt=long),
    ]
    pairs += [preference(100, HELDOUT), preference(101, HELDOUT, rejected=long)]
    pairs += [preference(23, **ALIKE), preference(102, HELDOUT, **ALIKE)]
    world = world_of(tmp_path / "w", pairs)
    summary, made = referred(world, tmp_path / "r")
    assert (summary["scored"], summary["too_long"]) == (16, 3)
    aligned = align.function(QUICK, *world.values(), made, context=LocalContext(tmp_path / "a"))
    names = ("training_preferences", "dropped_leaking", "dropped_too_long", "heldout_preferences", "scored_preferences")
    assert [aligned[name] for name in names] == [12, 1, 2, 2, 1]
    assert aligned["dropped_alike"] == 2 and aligned["preferences"] == 19


def test_earlier_turns_stand_before_both_answers(world: World) -> None:
    form = needed_chat_form(world["tokenizer"]["tokenizer"].path)
    earlier = (Message("system", "Be kind."), Message("user", "Hello"), Message("assistant", "Hello, guest."))
    (one,) = encode_preferences(form, [preference(1, earlier=earlier)], 96)
    assert one is not None
    both = one[1]
    assert both[0].prompt == both[1].prompt
    text = form.tokenizer.decode(both[0].prompt)
    assert [text.find(said) for said in ("Be kind.", "Hello, guest.", "Say a word")] == sorted(
        text.find(said) for said in ("Be kind.", "Hello, guest.", "Say a word")
    )
    assert "Hello, guest." in text and form.tokenizer.decode(both[1].answer).strip() == "No."


def test_a_conversation_that_is_too_long_is_cut_at_a_turn_alike_before_both_answers_and_counted(tmp_path: Path) -> None:
    """The rejected answer needs more room than the chosen one, and takes it from both."""
    turns = [
        Message(role, f"{word} {n} and more words")
        for n in range(8)
        for role, word in (("user", "Ask"), ("assistant", "Say"))
    ]
    earlier = (Message("system", "Be kind."), *turns)
    long = [preference(n, earlier=earlier, rejected="No, not at all, never, and not once more.") for n in range(30, 33)]
    world = world_of(tmp_path / "w", [preference(n) for n in range(12)] + [preference(100, HELDOUT)] + long)
    form = needed_chat_form(world["tokenizer"]["tokenizer"].path)
    (one,) = encode_preferences(form, long[:1], 96)
    assert one is not None
    used, (chosen, rejected) = one
    assert chosen.prompt == rejected.prompt and used.earlier[0].content == "Be kind."
    assert 1 < len(used.earlier) < len(earlier) and used.earlier[1:] == earlier[len(earlier) - len(used.earlier) + 1 :]
    assert used.earlier[1].role == "user", "at a turn"
    aligned = align.function(
        QUICK, *world.values(), referred(world, tmp_path / "r")[1], context=LocalContext(tmp_path / "a")
    )
    assert (aligned["training_preferences"], aligned["dropped_too_long"], aligned["cut_conversations"]) == (15, 0, 3)
    assert any("align cut 3 conversations of source" in notice for notice in aligned["notices"])


def test_what_alignment_would_fail_of_is_looked_for_in_the_context_of_the_model(tmp_path: Path) -> None:
    """That of an open model, whatever the recipe's own size would have."""
    long = "a word and another " * 4
    pairs = [preference(1, rejected=long), preference(2, HELDOUT, rejected=long)]
    inputs = world_of(tmp_path / "w", pairs)
    (check,) = ALIGN.checks
    for context_length in (128, 16):
        model = write_llama(tmp_path / str(context_length), context_length=context_length)
        recipe: Any = SimpleNamespace(
            align=None,
            importing=ImportConfig(path=str(model)),
            pretrain=SimpleNamespace(context_length=None, chosen_context_length=32),
        )
        with nullcontext() if context_length == 128 else pytest.raises(DataError, match="source guests"):
            check(recipe, inputs)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "no training preference"),
        ([preference(1)], "no held-out preference"),
        ([preference(1, HELDOUT)], "no training preference"),
        ([preference(1, rejected="long " * 200), preference(2, HELDOUT)], "source guests.*too_long"),
        ([preference(1, **ALIKE), preference(2, HELDOUT)], "source guests: 1 dropped by alike"),
    ],
)
def test_nothing_to_learn_or_to_score_is_an_error(pairs: list[Pair], message: str, tmp_path: Path) -> None:
    world = world_of(tmp_path / "w", pairs)
    made = referred(world, tmp_path / "r")[1]
    with pytest.raises(DataError, match=message):
        align.function(QUICK, *world.values(), made, context=LocalContext(tmp_path / "a"))
