"""Recipes of masked words: what they plan, what they refuse, and a run up to classes that transformers reads alike."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_models import write_eurobert, write_llama
from support import Command
from tiny_model import NOUNS, make_text

from model.classes import class_scores
from model.transformer import load_model
from storage.store.local import Store
from tasks.classify.stage import readable_ids

ENCODER = (
    "pretrain: {objective: masked_words, steps: 90, batch_tokens: 512, context_length: 64, validation_tokens: 512}"
)
STAGES = ["collect", "deduplicate", "filter", "tokenizer", "tokenize", "pretrain", "classify"]


def lay_out(folder: Path, *sections: str, labels: bool = True, pairs: dict[str, Any] | None = None) -> Path:
    """A recipe with its texts, of which the labels say whether a river is named."""
    folder.mkdir(exist_ok=True)
    texts = [{"text": make_text(number), "group": f"g{number}"} for number in range(60)]
    told = [
        {"text": f"We saw the {NOUNS[n % 2]} number {n}.", "label": NOUNS[n % 2], "group": f"l{n}"} for n in range(80)
    ]
    rows = {"text": texts, "told": told} | ({"pairs": [pairs] * 3} if pairs else {})
    for name, some in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    conversations = ["{name: told, path: told.jsonl, group_field: group}"] if labels else []
    conversations += ["{name: pairs, path: pairs.jsonl}"] if pairs else []
    collect = f"""
collect:
  files: [{{path: text.jsonl, group_field: group}}]
  conversations: [{", ".join(conversations)}]
  heldout_fraction: 0.2
tokenizer: {{vocabulary_size: 360}}
tokenize: {{canaries: 0}}
"""
    (folder / "recipe.yaml").write_text(collect + "\n".join(sections))
    return folder / "recipe.yaml"


def planned(command: Command, recipe: Path, home: Path) -> list[str]:
    return [row["stage"] for row in command.json("plan", str(recipe), home=home)["stages"]]


def test_such_a_recipe_pretrains_tells_classes_apart_and_asks_for_no_answers(
    command: Command, tmp_path: Path, home: Path
) -> None:
    assert planned(command, lay_out(tmp_path / "a", ENCODER), home) == STAGES
    assert planned(command, lay_out(tmp_path / "b", ENCODER, labels=False), home) == STAGES[:-1]
    write_eurobert(tmp_path / "c" / "model")
    going_on = ENCODER.replace("steps", "initial: {path: model}, steps")
    assert planned(command, lay_out(tmp_path / "c", going_on), home) == [*STAGES[:3], "initial", *STAGES[4:]]
    open_alone = "pretrain: {objective: masked_words}\nfinetune: {initial: {path: model}}"
    assert planned(command, lay_out(tmp_path / "c", open_alone), home) == [*STAGES[:3], "initial", "classify"]


PAIR = {"prompt": "What is it?", "answer": "A river."}
PREFERENCE = {"prompt": "What is it?", "chosen": "A river.", "rejected": "No."}
GOING_ON = ENCODER.replace("steps", "initial: {path: llama}, steps")


@pytest.mark.parametrize(
    ("sections", "pairs", "says"),
    [
        ([ENCODER], PAIR, "cannot write answers, and collect.conversations holds pairs: take that out"),
        ([ENCODER], PREFERENCE, "collect.conversations holds preferences"),
        ([ENCODER, "finetune: {pairs: continuations}"], None, "finetune.pairs makes pairs"),
        ([ENCODER, "align: {}"], None, "align is set"),
        ([ENCODER, "finetune: {lora: {rank: 4}}"], None, "finetune.lora is set"),
        ([GOING_ON], None, "pretrain.initial: HERE/llama is a llama model, in which no token sees those after it"),
        (["finetune: {initial: {path: eurobert}}"], None, "finetune.initial: HERE/eurobert is an encoder"),
    ],
)
def test_what_asks_an_encoder_for_answers_is_refused(
    sections: list[str], pairs: dict[str, Any] | None, says: str, command: Command, tmp_path: Path, home: Path
) -> None:
    write_llama(tmp_path / "llama"), write_eurobert(tmp_path / "eurobert")
    recipe = lay_out(tmp_path, *sections, pairs=pairs)
    status, _, err = command("plan", str(recipe), home=home)
    assert status == 2 and says.replace("HERE", str(tmp_path)) in err and "Traceback" not in err


def test_an_encoder_is_no_champion_s_rival(command: Command, tmp_path: Path, home: Path) -> None:
    status, _, err = command("retrain", str(lay_out(tmp_path, ENCODER)), home=home)
    assert status == 2 and "only models that write are compared with a champion" in err


def test_pairs_that_come_with_texts_are_left_aside_and_said(command: Command, home: Path) -> None:
    status, out, err = command("plan", "smoke", "--set", "pretrain.objective=masked_words", home=home)
    assert status == 0 and "the pairs that come with them are left aside" in " ".join((out + err).split())


def unused(command: Command, recipe: Path, home: Path) -> list[str]:
    """What a plan says of settings that nothing comes of."""
    rows = command.json("plan", str(recipe), home=home)["stages"]
    return [notice for row in rows for notice in row["notices"] if "there is no such stage" in notice]


def test_settings_of_stages_that_a_recipe_does_not_come_to_are_said(
    command: Command, tmp_path: Path, home: Path
) -> None:
    """Where classes are the end nothing is evaluated or released; an open model that is not pretrained has a tokenizer
    and asks for no tokens, and of `pretrain` it takes the context."""
    assert unused(command, lay_out(tmp_path / "a", ENCODER), home) == []
    recipe = lay_out(tmp_path / "b", ENCODER, "evaluate: {items: 20, spans: 0, seed: 1337}\nrelease: {beams: 2}")
    assert unused(command, recipe, home) == [
        "evaluate: there is no such stage in this plan, so nothing comes of evaluate.items, evaluate.spans",
        "release: there is no such stage in this plan, so nothing comes of release.beams",
    ]
    status, out, _ = command("plan", str(recipe), "--to", "tokenizer", home=home)
    assert status == 0 and "nothing comes of evaluate.items, evaluate.spans" in " ".join(out.split())
    write_eurobert(tmp_path / "c" / "model")
    settings = "{objective: masked_words, steps: 3, context_length: 32}\nfinetune: {initial: {path: model}}"
    recipe = lay_out(tmp_path / "c", f"pretrain: {settings}")
    assert [one.partition("nothing comes of ")[2] for one in unused(command, recipe, home)] == [
        "tokenizer.vocabulary_size",
        "tokenize.canaries",
        "pretrain.steps",
    ]


def artifact_part(home: Path, report: dict[str, Any], stage: str, name: str) -> Path:
    digest = next(row["artifact"]["digest"] for row in report["stages"] if row["stage"] == stage)
    artifact = Store(home).artifact(digest)
    assert artifact is not None
    return artifact[name].path


def summary_of(report: dict[str, Any], stage: str) -> dict[str, Any]:
    return next(row["artifact"]["summary"] for row in report["stages"] if row["stage"] == stage)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["nothing", "an open model"])
def test_a_run_fills_in_words_and_tells_classes_apart(start: str, command: Command, tmp_path: Path, home: Path) -> None:
    transformers = pytest.importorskip("transformers")
    if start != "nothing":
        write_eurobert(tmp_path / "model")
    section = ENCODER if start == "nothing" else ENCODER.replace("steps", "initial: {path: model}, steps")
    recipe = lay_out(tmp_path, section, "classify: {epochs: 8, texts_per_step: 8}")
    report = command.json("run", str(recipe), "--plain", home=home)
    figures = summary_of(report, "pretrain")
    assert figures["filled_in_low"] <= figures["filled_in"] <= figures["filled_in_high"]
    over = figures["filled_in"] - figures["most_frequent"]
    assert figures["over_most_frequent"] == pytest.approx(over, abs=1e-4)
    assert figures["over_most_frequent_low"] <= figures["over_most_frequent"] <= figures["over_most_frequent_high"]
    if start != "nothing":
        change = figures["filled_in"] - figures["filled_in_before"]
        assert figures["filled_in_change"] == pytest.approx(change, abs=1e-4)
    assert figures["filled_in"] >= figures["most_frequent"] > 0 and figures["heldout_loss"] < np.log(360)
    assert ("heldout_loss_before" in figures) == (start != "nothing") and "bits_per_byte" not in figures
    assert summary_of(report, "classify")["accuracy"] > 0.9
    encoder, folder = (artifact_part(home, report, stage, "model") for stage in ("pretrain", "classify"))
    masked = transformers.AutoModelForMaskedLM.from_pretrained(encoder).eval()
    judge = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert masked.config.mask_token_id == judge.config.mask_token_id == tokenizer.mask_token_id
    (ids,) = readable_ids(folder, ["We saw the castle."])
    ours = load_model(encoder)
    with torch.no_grad():
        assert torch.allclose(ours.logits(ours(torch.tensor([ids]))), masked(torch.tensor([ids])).logits, atol=1e-4)
        wanted = torch.log_softmax(judge(torch.tensor([ids])).logits[0], -1).numpy()
    assert np.allclose(class_scores(load_model(folder), [ids])[0], wanted, atol=1e-4)
    (found,) = [json.loads(line) for line in command("classify", "the castle", "--json", home=home)[1].splitlines()]
    assert found["label"] == "castle"
    for release, says in ((folder, "tells classes of texts apart"), (encoder, "is an encoder, which fills in")):
        for asked in (["generate", "We saw"], ["chat"]):
            status, _, err = command(*asked, "--release", str(release), home=home)
            assert status == 2 and says.replace("HERE", str(tmp_path)) in err and "Traceback" not in err
    status, _, err = command("generate", "We saw", home=home)
    assert status == 2 and "has no artifact of 'release'" in err and "Only a release can write" in " ".join(err.split())
    page = next(home.glob("runs/*.html")).read_text(encoding="utf-8")
    assert "hidden words of held-out text" in page and "by always saying the commonest" in page
    assert (", a difference of " in page) and (", a change of " in page) == (start != "nothing")
