"""A release is what transformers loads unchanged: same logits, same chat ids, same answers; and its card is true."""

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import VOCABULARY, LocalContext, artifact, write_corpus, write_model, write_tokenizer

from storage.store.artifacts import Artifact
from tasks.answer.release import ReleaseSettings, release_settings
from tasks.release import ReleaseConfig, make_release
from tasks.release.card import cell, fenced, measured
from tasks.tokenize.tokenizer import load_tokenizer
from tasks.wording import amount

CONFIG = ReleaseConfig(name="tiny", description="A model for a test.", samples=3, max_new_tokens=8, loss_bytes=4_000)
EXAMPLES = [
    {"form": "chat", "prompt": "word " * 200, "reference": "too long for the context", "source": "pairs"},
    {"form": "chat", "prompt": "the quiet castle", "reference": "A castle | that is quiet.", "source": "pairs"},
    {"form": "text", "prompt": "The old\n```fence``` moves", "reference": "on", "source": "books"},
]
SCORES = [
    {
        "name": "heldout",
        "model": model,
        "metric": "bits_per_byte",
        "value": value,
        "low": value - 0.1,
        "high": value + 0.1,
        "items": 12,
        "baselines": {"trigram": 1.925},
        "below_baseline": value > 1.925,
        "rule": "as in the test",
        "note": "",
    }
    for model, value in (("base", 1.83), ("tuned", 2.5))
] + [
    {
        "name": "choice",
        "model": "tuned",
        "metric": "accuracy",
        "value": None,
        "low": None,
        "high": None,
        "items": 0,
        "baselines": {},
        "below_baseline": False,
        "rule": "needs 8 items",
        "note": "not enough held-out documents",
    }
]
CORPUS = {
    "books|x": {
        "train_documents": 1200,
        "train_bytes": 34567,
        "heldout_documents": 12,
        "heldout_bytes": 890,
        "licenses": {"CC-BY-4.0": 1212},
    }
}


def build(root: Path, config: ReleaseConfig = CONFIG) -> tuple[dict[str, Any], Path]:
    scores = root / "scores"
    scores.mkdir(parents=True)
    for name, value in (("scores", SCORES), ("corpus", CORPUS), ("examples", EXAMPLES)):
        (scores / f"{name}.json").write_text(json.dumps(value))
    inputs: list[Artifact] = [
        write_model(root / "model", seed=2),
        write_tokenizer(root / "tokenizer"),
        artifact("evaluate", scores=scores),
        write_corpus(root / "clean", train=4, heldout=12),
    ]
    context = LocalContext(root / "build")
    return make_release.function(config, *inputs, context=context), root / "build" / "release"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    return build(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def loaded(built: tuple[dict[str, Any], Path]) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, folder = built
    both: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model, report = both
    assert not report["missing_keys"] and not report["unexpected_keys"]
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def test_transformers_gives_the_same_logits(built: tuple[dict[str, Any], Path], loaded: tuple[Any, Any]) -> None:
    from model.generate import load_model

    ours = load_model(built[1], "cpu")
    ids = torch.randint(0, VOCABULARY, (2, 50), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = (ours.logits(ours(ids)) - loaded[0](ids).logits).abs().max()
    assert difference < 1e-5


def test_transformers_gives_the_same_chat_ids(built: tuple[dict[str, Any], Path], loaded: tuple[Any, Any]) -> None:
    from tasks.answer.chat_form import OwnForm, prompt_ids

    prompt = "add edge ( u , v )"
    chat = [{"role": "user", "content": prompt}]
    ids = loaded[1].apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids == prompt_ids(OwnForm(load_tokenizer(built[1])), prompt)


def test_the_chat_template_in_a_sandbox_says_what_our_chat_form_says(built: tuple[dict[str, Any], Path]) -> None:
    """For a whole conversation, special tokens and all."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from tasks.answer.chat_form import Conversation, OwnForm
    from tasks.tokenize.control import OWN

    tokenizer = load_tokenizer(built[1])
    turns = [("where is it ?", "near the river ."), ("and the castle ?", "far .")]
    messages = [
        message
        for prompt, answer in turns
        for message in ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
    ]
    template = ImmutableSandboxedEnvironment().from_string((built[1] / "chat_template.jinja").read_text())
    text = template.render(messages=[*messages, {"role": "user", "content": "who ?"}], add_generation_prompt=True)
    talk = Conversation(tokenizer, OWN, OwnForm(tokenizer), context_length=64, room=4)
    for turn in turns:
        talk.answered(*turn)
    ids, forgotten = talk.ask("who ?")
    tokenizer.encode_special_tokens = False
    assert forgotten == 0 and tokenizer.encode(text).ids == ids


@pytest.mark.parametrize("beams", [1, 4])
def test_transformers_generates_the_samples_of_the_card(tmp_path: Path, beams: int) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, folder = build(tmp_path, CONFIG.model_copy(update={"beams": beams, "formats": ()}))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    assert f"beam search over {beams} beams" in (folder / "README.md").read_text() or beams == 1
    assert release_settings(folder).num_beams == beams
    samples = json.loads((folder / "samples.json").read_bytes())
    assert [sample["prompt"] for sample in samples] == [example["prompt"] for example in EXAMPLES[1:]]
    chat = [{"role": "user", "content": samples[0]["prompt"]}]
    inputs: Any = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    made = model.generate(**inputs)[0][inputs["input_ids"].shape[1] :]
    assert 0 < len(made) <= CONFIG.max_new_tokens
    assert tokenizer.decode(made, skip_special_tokens=True) == samples[0]["answer"]


@pytest.mark.parametrize("beams", [1, 4])
def test_mlflow_loads_the_folder_and_answers_as_the_card_does(tmp_path: Path, beams: int) -> None:
    import mlflow

    folder = build(tmp_path, CONFIG.model_copy(update={"beams": beams, "formats": ()}))[1]
    sample = next(sample for sample in json.loads((folder / "samples.json").read_bytes()) if sample["form"] == "chat")
    model = mlflow.pyfunc.load_model(str(folder))
    assert model.predict(sample["prompt"]) == [sample["answer"]]
    assert model.predict([sample["prompt"], "castle"])[0] == sample["answer"]
    assert str(model.metadata.signature.inputs) == str(model.metadata.signature.outputs) == "[string (required)]"
    pipeline = mlflow.transformers.load_model(str(folder))
    (answered,) = pipeline([{"role": "user", "content": sample["prompt"]}])
    assert answered["generated_text"][-1] == {"role": "assistant", "content": sample["answer"]}
    weights = [path.name for path in folder.rglob("*.safetensors")]
    assert weights == ["model.safetensors"], "they stand there once"


@pytest.mark.parametrize(
    ("form", "sentence"),
    [(None, "in chat form"), ("docstrings", "declarations in words"), ("plain", "beginning of a text: it goes on")],
)
def test_a_release_says_how_it_is_asked(tmp_path: Path, form: Any, sentence: str) -> None:
    summary, folder = build(tmp_path, CONFIG.model_copy(update={"prompt_form": form, "formats": ()}))
    assert release_settings(folder).prompt_form == summary["prompt_form"] == (form or "chat")
    card = (folder / "README.md").read_text()
    assert sentence in card and ("apply_chat_template" in card) == (form != "plain")
    samples = json.loads((folder / "samples.json").read_bytes())
    assert [sample["form"] for sample in samples] == (["text"] * 2 if form == "plain" else ["chat", "text"])
    assert ("<|user|>" in (folder / "MLmodel").read_text()) == (form != "plain")


def test_what_an_answer_may_not_repeat_reaches_generate_and_the_card(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"beams": 4, "no_repeat": 2, "formats": ()})
    _, folder = build(tmp_path, config)
    assert release_settings(folder) == ReleaseSettings(num_beams=4, no_repeat_in_answer=2, prompt_form="chat")
    assert "no 2 tokens in a row twice" in (folder / "README.md").read_text()
    tokenizer = load_tokenizer(folder)
    for sample in json.loads((folder / "samples.json").read_bytes()):
        ids = tokenizer.encode(sample["answer"]).ids
        pairs = list(itertools.pairwise(ids))
        assert len(set(pairs)) == len(pairs), sample


def test_special_ids_and_context_reach_transformers(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 0, 3)
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 64
    assert set(model.generation_config.eos_token_id) == {0, 3}


def test_the_sums_are_right_and_name_every_file(built: tuple[dict[str, Any], Path]) -> None:
    _, folder = built
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(sums) == names - {"SHA256SUMS"} and {"MLmodel", "components/tokenizer/tokenizer.json"} <= names
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_equal_inputs_give_equal_bytes_anywhere(built: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    summary, folder = build(tmp_path / "another place")
    varying = {"int8_tokens_per_second", "int8_speedup"}
    assert {name: value for name, value in summary.items() if name not in varying} == {
        name: value for name, value in built[0].items() if name not in varying
    }
    assert all(summary[name] > 0 for name in varying)
    for path in filter(Path.is_file, folder.rglob("*")):
        assert path.read_bytes() == (built[1] / path.relative_to(folder)).read_bytes()
        assert str(tmp_path).encode() not in path.read_bytes()


def test_the_card_says_what_was_measured(built: tuple[dict[str, Any], Path]) -> None:
    import yaml

    card = (built[1] / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "transformers"
    assert header["license"] == "other"
    assert "| heldout | bits per byte | base | 1.83 | 1.73 to 1.93 | 12 | trigram 1.925 |  |" in card
    assert "| heldout | bits per byte | tuned | 2.5 | 2.4 to 2.6 | 12 | trigram 1.925 | **below** |" in card
    assert "| choice | accuracy | tuned | – | – to – | 0 |  | not enough held-out documents |" in card
    assert "| books\\|x | 1,200 | 34,567 | 12 | 890 | CC-BY-4.0 (1,212) |" in card
    assert "| pretrain | 12,345 | 67 | 8 | 0.02, 0.01 | 0.1 | 1, 27 | float32, cpu | 1 | 4.25 |" in card
    assert "1 of its 3 scores are below a baseline" in card
    assert "````text\nThe old\n```fence``` moves\n````" in card
    assert "| float32 | model.safetensors |" in card and "| gguf-q8_0 | tiny-Q8_0.gguf |" in card
    assert "{{" not in card and "{%" not in card


def test_figures_cells_and_fences() -> None:
    assert [measured(one) for one in (None, 0.0, 1.83456, 10540.2, 0.0451)] == [
        "–",
        "0",
        "1.835",
        "10,540",
        "0.0451",
    ]
    assert [amount(count) for count in (12, 1_260_000, 124_000_000, 1_500_000_000)] == [
        "12",
        "1.26 million",
        "124 million",
        "1.5 billion",
    ]
    assert cell("a\n b | <c>") == "a b \\| &lt;c>"
    assert fenced("````") == "`````text\n````\n`````"
