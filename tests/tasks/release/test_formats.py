"""Files beside the safetensors: each holds the same model, and its loss is that of what it holds."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from tiny_model import LocalContext, write_corpus, write_model, write_tokenizer

from model.huggingface import read_shape
from model.shape import Shape
from tasks.answer.chat_form import CHAT_TEMPLATE
from tasks.release import ReleaseConfig
from tasks.release.formats import write_formats
from tasks.release.gguf import read_weights, write_gguf

CONFIG = ReleaseConfig(name="tiny", license="mit", loss_bytes=3_000)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("formats")
    write_tokenizer(root / "tokenizer")
    write_model(root / "release", seed=2)
    shutil.copyfile(root / "tokenizer" / "tokenizer.json", root / "release" / "tokenizer.json")
    shutil.copyfile(CHAT_TEMPLATE, root / "release" / CHAT_TEMPLATE.name)
    return root / "release"


def shape_of(release: Path) -> Shape:
    return read_shape(release)


def test_gguf_holds_the_weights_under_llama_cpps_names(release: Path, tmp_path: Path) -> None:
    weights = load_file(release / "model.safetensors")
    for kind, tolerance in (("F16", 1e-3), ("Q8_0", 0.01)):
        path = tmp_path / f"{kind}.gguf"
        stayed = write_gguf(path, kind, CONFIG, release)
        found = dict(read_weights(path, list(weights), shape_of(release)))
        assert found.keys() == weights.keys()
        for name, tensor in weights.items():
            assert found[name].shape == tuple(tensor.shape)
            assert np.abs(found[name] - tensor.numpy()).max() <= tolerance * tensor.abs().max()
        kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
        assert kinds["token_embd.weight"] == kinds["blk.1.attn_q.weight"] == kind
        assert kinds["blk.0.attn_q_norm.weight"] == kinds["output_norm.weight"] == "F32"
        assert "output.weight" not in kinds, "a tied head stands in the file once"
        assert kinds["blk.0.ffn_down.weight"] == "F16", "rows of 48 do not divide into blocks of 32"
        assert stayed == (2 if kind == "Q8_0" else 0)


def test_gguf_holds_shape_vocabulary_merges_and_ends(release: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", "F16", CONFIG, release)
    fields = {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / "a.gguf").fields.items()}
    tokenizer = json.loads((release / "tokenizer.json").read_bytes())["model"]
    assert fields["general.architecture"] == "qwen3" and fields["general.name"] == "tiny"
    assert (fields["qwen3.block_count"], fields["qwen3.attention.key_length"]) == (2, 16)
    assert (fields["qwen3.attention.head_count"], fields["qwen3.attention.head_count_kv"]) == (2, 1)
    assert fields["qwen3.context_length"] == 64
    assert math.isclose(fields["qwen3.attention.layer_norm_rms_epsilon"], 1e-6, rel_tol=1e-6)
    tokens = fields["tokenizer.ggml.tokens"]
    assert {token: identity for identity, token in enumerate(tokens)} == tokenizer["vocab"]
    assert fields["tokenizer.ggml.merges"] == [" ".join(pair) for pair in tokenizer["merges"]]
    assert fields["tokenizer.ggml.token_type"][:5] == [3, 3, 3, 3, 1]
    assert fields["tokenizer.ggml.pre"] == "deepseek-v3"
    ends = [fields[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "eot")]
    assert ends == [0, 0, 3]
    assert fields["tokenizer.chat_template"] == CHAT_TEMPLATE.read_text()


def test_the_loss_of_each_format_is_that_of_the_weights_in_its_file(release: Path, tmp_path: Path) -> None:
    """A random model says nothing true, but rounding moves its score by thousandths only, and F16 less than Q8_0."""
    lines = formats(release, tmp_path)
    assert [line["format"] for line in lines] == ["float32", "gguf-f16", "gguf-q8_0", "int8"]
    for line in lines:
        assert (release / line["file"]).stat().st_size == line["bytes"]
        assert abs(line["bits_per_byte"] - lines[0]["bits_per_byte"] - line["loss"]) < 2e-4
    assert lines[0]["bits_per_byte"] > 2
    assert abs(lines[1]["loss"]) < 0.002 and 0 < abs(lines[2]["loss"]) < 0.05 and 0 < abs(lines[3]["loss"]) < 0.05
    weights = load_file(release / "model.safetensors")
    damaged = {name: tensor * 1.5 if "down_proj" in name else tensor for name, tensor in weights.items()}
    from safetensors.torch import save_file

    other = tmp_path / "other"
    shutil.copytree(release, other)
    save_file(damaged, other / "model.safetensors")
    assert formats(other, tmp_path)[0]["bits_per_byte"] != lines[0]["bits_per_byte"]


def formats(release: Path, root: Path) -> list[dict[str, Any]]:
    context = LocalContext(root / "build")
    return write_formats(CONFIG, release, shape_of(release), write_corpus(root / "clean", train=4), context)


@pytest.mark.parametrize("formats", [("gguf-q4",), ("int8", "int8")])
def test_unknown_formats_and_repeated_ones_are_refused(formats: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        ReleaseConfig(formats=formats)


@pytest.mark.slow
def test_onnxruntime_gives_the_same_logits_for_any_batch_and_length(release: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from model.transformer import load_model
    from tasks.release.onnx import write_onnx

    write_onnx(release, tmp_path / "model.onnx")
    write_onnx(release, tmp_path / "again.onnx")
    data = (tmp_path / "model.onnx").read_bytes()
    assert data == (tmp_path / "again.onnx").read_bytes()
    assert b"transformer.py" not in data, "no folders of the machine that made it"
    model, session = load_model(release), onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for batch, time in ((1, 1), (1, 64), (3, 17), (5, 2)):
        ids = torch.randint(0, 360, (batch, time), generator=torch.Generator().manual_seed(time))
        (logits,) = session.run(None, {"input_ids": ids.numpy()})
        assert logits.shape == (batch, time, 360)
        assert (model.logits(model(ids)) - torch.from_numpy(logits)).abs().max() < 1e-4
