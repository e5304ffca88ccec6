"""A real llama.cpp reads the GGUF of open models: equal tokens, equal greedy text, the same prompts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from open_models import write_gpt2, write_llama, write_llama_2, write_qwen
from test_llama_cpp import TEXTS, LlamaCpp
from tiny_model import LocalContext

from model.huggingface import read_shape
from model.parallel import one_thread
from model.tensors import as_ours
from model.transformer import load_model
from storage.documents import Message
from tasks.answer.stream import Answer, Sampling
from tasks.answer.template_form import needed_chat_form
from tasks.initial.config import ImportConfig
from tasks.initial.stage import take_over
from tasks.release import ReleaseConfig
from tasks.release.gguf import read_weights, why_no_gguf, write_gguf
from tasks.tokenize.tokenizer import text_ids

ROPE: dict[str, Any] = {"rope_theta": 100.0, "rope_factor": 8.0}
MODELS = {
    "llama": lambda folder: write_llama(folder),
    "llama 2": lambda folder: write_llama_2(folder),
    "llama 3": lambda folder: write_llama(folder, **ROPE, rope_original_context=32),
    "llama, linear": lambda folder: write_llama(folder, **ROPE, tied_embeddings=False),
    "gpt2": lambda folder: write_gpt2(folder),
    "qwen3": lambda folder: write_qwen(folder),
}


@pytest.fixture(scope="module", params=MODELS)
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("open")
    MODELS[request.param](root / "theirs")
    take_over.function(ImportConfig(path=str(root / "theirs")), context=LocalContext(root))
    for part in ("model", "tokenizer"):
        shutil.copytree(root / part, root / "release", dirs_exist_ok=True)
    return root / "release"


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_what_is_written_is_read_back(release: Path, kind: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", kind, ReleaseConfig(), release)
    shape, model = read_shape(release), load_model(release)
    from safetensors import safe_open

    with safe_open(release / "model.safetensors", framework="numpy") as weights:
        names = list(weights.keys())
    read = {name: torch.tensor(array) for name, array in read_weights(tmp_path / "a.gguf", names, shape)}
    for name, tensor in as_ours(shape, read).items():
        assert torch.allclose(tensor, model.state_dict()[name], atol=0.02 * float(tensor.abs().max()), rtol=0), name


@pytest.mark.slow
def test_llama_cpp_says_the_same(release: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp: pip install xllamacpp")
    write_gguf(release / "a.gguf", "F16", ReleaseConfig(), release)
    served, form, model = LlamaCpp(release / "a.gguf"), needed_chat_form(release), load_model(release)
    for text in TEXTS:
        assert served.tokenize(text) == text_ids(form.tokenizer, [text])[0], text
    asked = [Message("user", "The quiet castle")]
    prompt = served.post("/apply-template", messages=[message._asdict() for message in asked])["prompt"]
    found = served.post("/tokenize", content=prompt, add_special=True, parse_special=True)["tokens"]
    assert found == form.prompts([asked])[0]
    equal = 0
    for text in TEXTS:
        ids = [form.control.start, *text_ids(form.tokenizer, [text])[0]]
        answer = Answer(model, form.tokenizer, ids, Sampling(16), form.control.ends)
        with one_thread():
            "".join(answer)
        made = [token for token in served.greedy(ids) if token not in form.control.ends]
        equal += made == answer.tokens
    assert equal >= len(TEXTS) - 3, "near-ties aside, the weights mean the same in both"


def test_a_split_that_llama_cpp_does_not_know_is_said(tmp_path: Path) -> None:
    folder = write_llama(tmp_path)
    whole = json.loads((folder / "tokenizer.json").read_text())
    assert why_no_gguf(read_shape(folder), folder) == ""
    whole["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+"
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    assert "GGUF: the tokenizer splits text in a way that llama.cpp has no name for" in why_no_gguf(
        read_shape(folder), folder
    )
