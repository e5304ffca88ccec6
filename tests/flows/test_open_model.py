"""Runs that start from an open model: planned, fine-tuned, released so that transformers takes it, retrained."""

import json
from pathlib import Path
from typing import Any

import pytest
from open_models import write_gpt2, write_llama, write_qwen
from support import Command, llmill, report_of
from tiny_model import NOUNS, make_text

from flows.champion.champion import champion_ref, load_champion
from storage.documents import Message
from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.answer.template_form import needed_chat_form

pytestmark = pytest.mark.slow  # seven runs

TUNED = "finetune: {steps: 8, initial: {path: model}}"
PRETRAINED = (
    "pretrain: {steps: 4, batch_tokens: 512, validation_tokens: 1024, initial: {path: model}}\nfinetune: {steps: 4}"
)
REST = """
collect:
  files: [{path: text.jsonl, group_field: group}]
  conversations: [{name: pairs, path: pairs.jsonl, group_field: group}]
  heldout_fraction: 0.2
tokenize: {canaries: 0}
evaluate: {items: 16, heldout_bytes: 4000, bootstrap_draws: 100, known_text: [{path: known.jsonl}]}
release: {name: tiny, samples: 1, max_new_tokens: 8}
retrain: {gate: {figure: answers, guards: []}}
"""


def lay_out(folder: Path, start: str, first: int = 0) -> Path:
    """A recipe with its text and pairs, beside a model that is there already."""
    texts = [{"text": make_text(n), "group": f"g{n}"} for n in range(first, first + 60)]
    pairs = [
        {"prompt": f"What of the {NOUNS[n % 9]} {n}?", "answer": make_text(n, 1), "group": f"p{n}"}
        for n in range(first, first + 80)
    ]
    known = [{"text": make_text(n)} for n in range(500, 510)]
    for name, rows in (("text", texts), ("pairs", pairs), ("known", known)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(start + REST)
    return folder / "recipe.yaml"


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    return {row["stage"]: row["outcome"] for row in report["stages"]}


def made(home: Path, report: dict[str, Any], stage: str) -> Artifact:
    digest = next(row["artifact"]["digest"] for row in report["stages"] if row["stage"] == stage)
    artifact = Store(home).artifact(digest)
    assert artifact is not None
    return artifact


def part(home: Path, report: dict[str, Any], stage: str, name: str) -> Path:
    return made(home, report, stage)[name].path


def summary_of(home: Path, report: dict[str, Any], stage: str) -> dict[str, Any]:
    artifact = made(home, report, stage)
    summary: dict[str, Any] = Store(home).builds_that_made(artifact.stage, artifact.digest)[-1]["summary"]
    return summary


def forgetting(home: Path, report: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The scores on known text by metric and model."""
    lines = json.loads((part(home, report, "evaluate", "scores") / "scores.json").read_bytes())
    return {(line["metric"], line["model"]): line for line in lines if line["name"] == "known_text"}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Home, recipe and report of a run that fine-tunes a Llama."""
    root = tmp_path_factory.mktemp("open")
    write_llama(root / "model")
    recipe = lay_out(root, TUNED)
    home = root / "home"
    return home, recipe, report_of(llmill("run", str(recipe), "--plain", "--json", home=home))


def test_a_llama_is_tuned_and_released_with_its_own_tokenizer(tuned: tuple[Path, Path, dict[str, Any]]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    home, recipe, report = tuned
    assert list(outcomes(report)) == ["collect", "deduplicate", "filter", "initial", "finetune", "evaluate", "release"]
    release = part(home, report, "release", "release")
    theirs: Any = AutoTokenizer.from_pretrained(release)
    turns = [Message("system", "Be brief."), Message("user", "What of the river?")]
    given = [turn._asdict() for turn in turns]
    inputs = theirs.apply_chat_template(given, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert needed_chat_form(release).prompts([turns]) == inputs["input_ids"].tolist()
    assert (release / "chat_template.jinja").read_bytes() == (recipe.parent / "model/chat_template.jinja").read_bytes()
    model: Any = AutoModelForCausalLM.from_pretrained(release)
    asked = theirs.apply_chat_template(given[1:], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**asked)[0][asked["input_ids"].shape[1] :]
    said = llmill("generate", "What of the river?", "--max-new-tokens", "8", home=home).stdout
    assert said.strip() and said.strip() == theirs.decode(answer, skip_special_tokens=True).strip()
    card = (release / "README.md").read_text()
    assert (
        "Llama architecture), made by llmill from an open model" in card and "chat template of the open model" in card
    )


def test_it_learned_and_the_plan_tells_of_the_model(tuned: tuple[Path, Path, dict[str, Any]], command: Command) -> None:
    home, recipe, report = tuned
    summary = summary_of(home, report, "finetune")
    assert summary["answer_bits_per_byte"] < summary["base_answer_bits_per_byte"]
    said = forgetting(home, report)
    assert said[("forgetting", "base")]["value"] == 0 != said[("forgetting", "tuned")]["value"]
    page = (home / "runs" / f"{report['run']}.html").read_text()
    assert "Forgetting of known text" in page and "Bits per byte more than the initial model" in page
    status, out, _ = command("plan", str(recipe), home=home)
    assert status == 0 and "7 reused, 0 to build" in out
    assert "initial: llama of 85,120 parameters" in out and "chat template in chat_template.jinja" in out
    status, out, _ = command("plan", str(recipe), "--json", "--set", "finetune.steps=9", home=home)
    will = {line["stage"]: line["will"] for line in json.loads(out)["stages"]}
    assert [stage for stage, what in will.items() if what != "reuse"] == ["finetune", "evaluate", "release"]


def test_a_context_that_the_recipe_shortens_is_the_model_s(
    tuned: tuple[Path, Path, dict[str, Any]], command: Command
) -> None:
    home, recipe, _ = tuned
    settings = ("--set", "pretrain.context_length=64", "--to", "finetune")
    status, out, err = command("run", str(recipe), "--plain", "--json", *settings, home=home)
    assert status == 0, err
    config = json.loads((part(home, json.loads(out), "finetune", "model") / "config.json").read_text())
    assert config["max_position_embeddings"] == 64


def test_retraining_fine_tunes_the_initial_model_again_and_compares(
    tuned: tuple[Path, Path, dict[str, Any]], command: Command
) -> None:
    home, recipe, _ = tuned
    assert command("promote", "latest", home=home)[0] == 0
    ref = champion_ref(Store(home))
    assert ref is not None and set(ref.note["stages"]) == {"initial", "finetune", "evaluate", "release"}
    lay_out(recipe.parent, TUNED.replace("8", "40"), first=30)
    status, out, err = command("retrain", str(recipe), "--plain", "--json", home=home)
    found = json.loads(out)
    assert status == 0, err
    assert outcomes(found)["initial"] == "reused" and outcomes(found)["finetune"] == "built"
    assert "pretrain" not in outcomes(found) and found["verdict"]["decision"] in ("promoted", "kept")
    assert found["verdict"]["figure"]["items"] > 5, "champion and candidate answered the same items"


def test_pretraining_goes_on_from_a_model_with_its_tokenizer(tmp_path: Path, home: Path, command: Command) -> None:
    """And a retraining goes on from the champion with the same tokenizer."""
    write_qwen(tmp_path / "model")
    recipe = lay_out(tmp_path, PRETRAINED)
    status, out, err = command("run", str(recipe), "--plain", "--json", home=home)
    report = json.loads(out)
    assert status == 0, err
    assert "tokenizer" not in outcomes(report) and outcomes(report)["pretrain"] == "built"
    summary = summary_of(home, report, "pretrain")
    assert summary["bits_per_byte"] < summary["bits_per_byte_before"]
    said = forgetting(home, report)
    assert said[("forgetting", "base")]["value"] != 0 != said[("forgetting", "tuned")]["value"]
    before = said[("bits_per_byte", "base")]["baselines"]["initial"]
    assert said[("forgetting", "base")]["value"] == pytest.approx(
        said[("bits_per_byte", "base")]["value"] - before, abs=1e-3
    )
    assert json.loads((part(home, report, "tokenize", "tokens") / "meta.json").read_text())["end_of_text"] == 360
    assert command("promote", "latest", home=home)[0] == 0
    lay_out(tmp_path, PRETRAINED, first=20)
    status, out, err = command("retrain", str(recipe), "--plain", "--json", home=home)
    again = json.loads(out)
    assert status == 0, err
    assert "initial" not in outcomes(again) and outcomes(again)["pretrain"] == "built"
    summary = summary_of(home, again, "pretrain")
    assert summary["new_documents"] > 0, "it went on from the champion's weights"
    again_said = forgetting(home, again)[("bits_per_byte", "base")]["baselines"]["initial"]
    assert again_said == said[("bits_per_byte", "base")]["value"], "the champion's base is what was known"


def test_a_model_without_template_or_room_for_marks_is_asked_in_text(
    tmp_path: Path, home: Path, command: Command
) -> None:
    write_gpt2(tmp_path / "model")
    recipe = lay_out(tmp_path, TUNED)
    status, out, err = command("run", str(recipe), "--plain", "--json", home=home)
    report = json.loads(out)
    assert status == 0, err
    summary = summary_of(home, report, "initial")
    assert summary["chat_form"] == "text marks"
    card = (part(home, report, "release", "release") / "README.md").read_text()
    assert "### User:" in card and "GPT-2 architecture" in card
    status, out, err = command("generate", "What of the river?", "--max-new-tokens", "4", home=home)
    assert status == 0, err


def test_a_release_of_ours_is_fine_tuned_further(
    smoke: tuple[Path, dict[str, Any]], tmp_path: Path, home: Path, command: Command
) -> None:
    """It is an open model like any other, with the form that it was taught."""
    (tmp_path / "model").symlink_to(part(smoke[0], smoke[1], "release", "release"))
    recipe = lay_out(tmp_path, "finetune: {steps: 2, initial: {path: model}}")
    status, out, err = command("run", str(recipe), "--plain", "--json", home=home)
    assert status == 0, err
    release = part(home, json.loads(out), "release", "release")
    first = part(smoke[0], smoke[1], "release", "release")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (release / name).read_bytes() == (first / name).read_bytes()


def test_preferences_alone_align_the_model_as_it_is_and_the_aligned_one_is_the_champion(
    tmp_path: Path, home: Path, command: Command
) -> None:
    write_llama(tmp_path / "model")
    recipe = lay_out(tmp_path, "finetune: {initial: {path: model}}\nalign: {steps: 2}")
    rows = [
        {"prompt": f"What of {n}?", "chosen": "The river.", "rejected": make_text(n)[:40], "group": f"p{n}"}
        for n in range(60)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ("--plain", "--json", "--set", "retrain.gate.figure=heldout")
    status, out, err = command("run", str(recipe), *settings, home=home)
    assert status == 0, err
    before = json.loads(out)
    stages = list(outcomes(before))
    assert stages[3:] == ["initial", "reference", "align", "evaluate", "release"]
    card = (part(home, before, "release", "release") / "README.md").read_text()
    assert "an open model: aligned by preferences.\n" in card and "`base` is the open model" in card
    assert command("promote", "latest", home=home)[0] == 0
    ref = champion_ref(Store(home))
    assert ref is not None and load_champion(Store(home), ref).tuned.digest == made(home, before, "align").digest
    status, out, err = command("retrain", str(recipe), *settings, "--set", "align.steps=3", home=home)
    assert status == 0, err
    assert outcomes(json.loads(out))["align"] == "built" and "champion" in outcomes(json.loads(out))


def test_the_readme_s_recipe_tunes_aligns_and_releases_and_lora_reruns_only_what_follows(
    tmp_path: Path, home: Path, command: Command
) -> None:
    """With an Alpaca file and one of preferences; the adapter alone is in the release, and PEFT loads it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    shown = (Path(__file__).parents[2] / "README.md").read_text().partition("# tuned.yaml")[2]
    (tmp_path / "tuned.yaml").write_text("#" + shown.partition("```")[0])
    write_llama(tmp_path / "models/some-model")
    asked = [{"instruction": f"What of {n}?", "input": "", "output": f"The {NOUNS[n % 9]}."} for n in range(80)]
    preferred = [{"prompt": f"Say {n}.", "chosen": f"The {NOUNS[n % 9]}.", "rejected": "No."} for n in range(80)]
    for name, rows in (("alpaca", asked), ("preferences", preferred)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    small = ("evaluate.items=16", "release.samples=1", "release.max_new_tokens=8", "align.lora.rank=2")
    settings = ["--plain", "--json", *(word for one in small for word in ("--set", one))]
    status, out, err = command("run", str(tmp_path / "tuned.yaml"), *settings, home=home)
    assert status == 0, err
    first = json.loads(out)
    learned = ["initial", "finetune", "reference", "align", "evaluate", "release"]
    assert list(outcomes(first))[3:] == learned
    summary = summary_of(home, first, "finetune")
    assert summary["answer_bits_per_byte"] < summary["base_answer_bits_per_byte"]
    AutoModelForCausalLM.from_pretrained(part(home, first, "release", "release"))
    one_line = ["--set", "finetune.lora.rank=4"]
    status, out, err = command("run", str(tmp_path / "tuned.yaml"), *settings, *one_line, home=home)
    assert status == 0, err
    again = json.loads(out)
    assert [stage for stage, outcome in outcomes(again).items() if outcome != "reused"] == learned[1:]
    adapter = part(home, again, "release", "release") / "adapters/align"
    base: Any = AutoModelForCausalLM.from_pretrained(part(home, again, "finetune", "model"))
    assert PeftModel.from_pretrained(base, adapter)
    card = (adapter.parents[1] / "README.md").read_text()
    assert "an open model: fine-tuned on prompts and answers, then aligned by preferences.\n" in card
