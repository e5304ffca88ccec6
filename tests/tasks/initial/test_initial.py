"""The stage initial: what comes out of open models of each family, and that it computes and speaks as they do."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_files import Hub, commit_id, serve_hub
from open_models import QWEN_TEMPLATE, write_gpt2, write_llama, write_qwen
from safetensors.torch import load_file
from tiny_model import LocalContext

from model.transformer import load_model
from storage.documents import Message
from storage.errors import DataError
from storage.store.artifacts import Artifact
from tasks.answer.template_form import TemplateForm, needed_chat_form
from tasks.engine.builder import builder
from tasks.engine.context import Execution
from tasks.engine.listener import StageResult
from tasks.engine.stage import engine_in_force
from tasks.initial.config import ImportConfig
from tasks.initial.stage import take_over
from tasks.tokenize.control import read_control
from tasks.tokenize.tokenizer import load_tokenizer

WRITERS = {"llama": write_llama, "gpt2": write_gpt2, "qwen3": write_qwen}
IDS = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(1))


def taken(folder: Path, out: Path, **settings: Any) -> dict[str, Any]:
    return take_over.function(ImportConfig(path=str(folder), **settings), context=LocalContext(out))


def logits(folder: Path) -> torch.Tensor:
    model = load_model(folder)
    with torch.no_grad():
        return model.logits(model(IDS))


@pytest.mark.parametrize("shard", ["5GB", "40KB"], ids=["one file", "several files"])
@pytest.mark.parametrize("family", WRITERS)
def test_a_model_that_transformers_saves_computes_the_same_taken_over(family: str, shard: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = WRITERS[family](tmp_path / "theirs")
    judge = transformers.AutoModelForCausalLM.from_pretrained(theirs, dtype=torch.float32).eval()
    (theirs / "model.safetensors").unlink()
    judge.save_pretrained(theirs, max_shard_size=shard)
    summary = taken(theirs, tmp_path / "ours")
    assert (summary["family"], summary["context_length"]) == (family, 128)
    assert sorted(path.name for path in (tmp_path / "ours/model").iterdir()) == [
        "config.json",
        "model.safetensors",
        "training.json",
    ]
    with torch.no_grad():
        assert torch.allclose(logits(tmp_path / "ours/model"), judge(IDS).logits, atol=1e-5, rtol=0)


def test_half_precision_becomes_float32_and_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = write_llama(tmp_path / "theirs")
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, folder / "model.safetensors")
    taken(folder, tmp_path / "ours")
    made = load_file(tmp_path / "ours/model/model.safetensors")
    assert all(torch.equal(made[name], tensors[name].bfloat16().float()) for name in made)
    tensors["model.norm.weight"][3] = torch.inf
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(DataError, match=r"theirs: model\.norm\.weight holds numbers that are not finite"):
        taken(folder, tmp_path / "again")


@pytest.mark.parametrize("family", WRITERS)
def test_a_shorter_context_computes_the_same_within_it(family: str, tmp_path: Path) -> None:
    folder = WRITERS[family](tmp_path / "theirs")
    assert taken(folder, tmp_path / "short", context_length=48)["context_length"] == 48
    assert torch.equal(logits(tmp_path / "short/model"), logits(folder))
    assert taken(folder, tmp_path / "long", context_length=100_000)["context_length"] == 128


def test_the_tokenizer_comes_along_and_its_ids_are_stated(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "theirs")
    summary = taken(folder, tmp_path / "ours")
    ours = tmp_path / "ours/tokenizer"
    assert (ours / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert (ours / "chat_template.jinja").read_bytes() == (folder / "chat_template.jinja").read_bytes()
    assert summary["chat_form"] == "its own template" and summary["starts_with"] == "<|begin_of_text|>"
    names = load_tokenizer(ours).id_to_token
    assert [names(token) for token in read_control(ours).ends] == [
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|begin_of_text|>",
    ], "beside what ends a text, what ends a turn"
    assert (ours / "tokenizer_config.json").exists()


def test_a_template_among_the_settings_becomes_a_file(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path / "theirs")
    assert taken(folder, tmp_path / "ours")["starts_with"] == "<|endoftext|>"
    ours = tmp_path / "ours/tokenizer"
    assert (ours / "chat_template.jinja").read_text() == QWEN_TEMPLATE
    assert "chat_template" not in json.loads((ours / "tokenizer_config.json").read_text())


TURNS = [Message("system", "Be brief."), Message("user", "<|user|> Who?"), Message("assistant", "I.")]


def test_without_a_template_free_rows_become_marks(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path / "theirs", None)
    summary = taken(folder, tmp_path / "ours")
    assert summary["chat_form"] == "added marks" and summary["vocabulary_size"] == 376
    form = needed_chat_form(tmp_path / "ours/tokenizer")
    (pieces,) = form.pieces([TURNS])
    text = [form.tokenizer.decode(piece.ids, skip_special_tokens=False) for piece in pieces]
    assert text == ["<|endoftext|><|user|>Be brief.\n\n<|user|> Who?<|assistant|>", "I.<|end|>"]
    assert pieces[0].ids.count(363) == 1, "a content spells a mark and is none"
    assert [pieces[0].ids[1], pieces[0].ids[-1], pieces[1].ids[-1]] == [363, 364, 365]
    assert 365 in form.control.ends


def test_without_a_template_and_without_room_the_marks_are_text(tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "theirs")
    assert taken(folder, tmp_path / "ours")["chat_form"] == "text marks"
    form = needed_chat_form(tmp_path / "ours/tokenizer")
    (pieces,) = form.pieces([[*TURNS, Message("user", "Why?"), Message("assistant", "So.")]])
    text = [form.tokenizer.decode(piece.ids, skip_special_tokens=False) for piece in pieces]
    assert text == [
        "<|endoftext|>### User:\nBe brief.\n\n<|user|> Who?\n\n### Assistant:\n",
        "I.<|endoftext|>",
        "### User:\nWhy?\n\n### Assistant:\n",
        "So.<|endoftext|>",
    ]
    assert [piece.learned for piece in pieces] == [False, True, False, True]


def test_a_release_of_ours_can_be_started_from(tmp_path: Path) -> None:
    from tiny_model import write_model, write_tokenizer

    write_model(tmp_path / "release")
    write_tokenizer(tmp_path / "release")
    assert taken(tmp_path / "release", tmp_path / "ours")["chat_form"] == "its own template"
    form = needed_chat_form(tmp_path / "ours/tokenizer")
    assert not isinstance(form, TemplateForm) and form.prompts([TURNS[1:2]])[0][:2] == [0, 1]


# Through the engine ---------------------------------------------------------------------------------------------


def built(home: Path, **settings: Any) -> tuple[Artifact, StageResult]:
    with builder(home, Execution(workers=1)) as engine, engine_in_force(engine):
        artifact = take_over(ImportConfig(**settings))
    assert isinstance(artifact, Artifact)
    return artifact, engine.results[-1]


def test_a_folder_is_known_by_its_contents(home: Path, tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "theirs")
    first, _ = built(home, path=str(folder))
    moved = folder.rename(tmp_path / "elsewhere")
    (moved / "README.md").write_text("Not read.")
    again, result = built(home, path=str(moved))
    assert result.outcome == "reused" and again.digest == first.digest
    template = (moved / "chat_template.jinja").read_text()
    (moved / "chat_template.jinja").write_text(template.replace("| trim", ""))
    changed, result = built(home, path=str(moved))
    assert result.why == ("source chat_template.jinja changed",)
    assert changed["model"].digest == first["model"].digest and changed.digest != first.digest


def test_a_model_of_the_hub_is_the_same_as_its_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_llama(tmp_path / "theirs")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    extra = {"pytorch_model.bin": b"x" * 2000, "modeling.py": b"code", "onnx/model.safetensors": b"y"}
    hub = Hub("org/small", {commit_id(7): files | extra}, {}, kind="model")
    name: dict[str, Any] = {"model": "org/small", "revision": commit_id(7)}
    with serve_hub(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        with pytest.raises(DataError, match="no commit 0000000000000000000000000000000000000008"):
            built(home, model="org/small", revision=commit_id(8))
        with pytest.raises(DataError, match=r"its weights have .*, more than max_bytes \(1,000\)"):
            built(home, **name, max_bytes=1000)
        hub.asked.clear()
        fetched, _ = built(home, **name)
    got = {one.rpartition("/")[2] for one in hub.files_asked()}
    assert got == {"model.safetensors"}, "the texts were fetched by the attempt before"
    assert any("Bearer hf_secret" in one for one in hub.tokens)
    local, _ = built(home, path=str(folder))
    assert fetched["tokenizer"].digest == local["tokenizer"].digest
    assert json.loads((fetched["model"] / "training.json").read_text())[0]["origin"] == f"org/small@{commit_id(7)}"
    again, result = built(home, **name)
    assert result.outcome == "reused" and again.digest == fetched.digest, "without asking: there is no hub now"


def test_pickles_of_the_hub_and_other_tokenizers_are_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in write_llama(tmp_path / "theirs").iterdir()}
    pickled = {**files, "pytorch_model.bin": files["model.safetensors"]}
    del pickled["model.safetensors"]
    pieces = {**files, "tokenizer.model": files["tokenizer.json"]}
    del pieces["tokenizer.json"]
    hub = Hub("org/small", {commit_id(1): pickled, commit_id(2): pieces}, {}, kind="model")
    with serve_hub(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        with pytest.raises(DataError, match=r"org/small@00000000: has no model\.safetensors.*pickled weights"):
            built(home, model="org/small", revision=commit_id(1))
        with pytest.raises(DataError, match=r"its tokenizer is a tokenizer\.model, and a tokenizer\.json is needed"):
            built(home, model="org/small", revision=commit_id(2))
