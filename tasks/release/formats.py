"""The weights in other forms, and what each form costs in quality: a file, its size and its loss.

The loss is measured, not assumed: what the numbers in the file stand for is put back into the model, which then scores
the same held-out documents as the float32 weights do. Cost: a forward pass over `loss_bytes` a form.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.shape import INT8_WEIGHTS, WEIGHTS, Shape
from storage.documents import HELDOUT
from storage.errors import ConfigError
from storage.store.artifacts import Artifact
from tasks.engine.context import Context
from tasks.evaluate.documents import index_documents, read_sample
from tasks.release.config import Format, ReleaseConfig
from tasks.tokenize.control import read_control
from tasks.train.device import training_device

if TYPE_CHECKING:
    from torch import Tensor

    from model.transformer import Transformer

USUAL_FORMATS: tuple[Format, ...] = ("gguf-f16", "gguf-q8_0", "int8")
SPEED_ROUNDS = 3
SPEED_TOKENS = 32
SEED = 1337  # of the choice of documents
DIGITS = 4  # of bits per byte: the last ones of a sum differ between kinds of CPU


@dataclass(frozen=True, slots=True)
class Weights:
    """A file of weights. `loss` is how many bits per byte of held-out text it takes more than float32."""

    format: str
    file: str
    bytes: int
    bits_per_byte: float
    loss: float
    note: str = ""


def why_not(name: Format, shape: Shape, folder: Path) -> str:
    """Why a model with the tokenizer of a folder cannot have a format; empty where it can."""
    if name == "int8":
        return f"int8 is for models without biases, this is {shape.family}" if shape.parts.biases else ""
    if name == "onnx":
        from tasks.release.onnx import why_no_onnx

        return why_no_onnx(shape.parameters)
    from tasks.release.gguf import why_no_gguf

    return why_no_gguf(shape, folder)


def chosen_formats(config: ReleaseConfig, shape: Shape, folder: Path) -> tuple[Format, ...]:
    """The formats that a release will have; ConfigError for one that is named and cannot be."""
    if config.formats is None:
        return tuple(name for name in USUAL_FORMATS if not why_not(name, shape, folder))
    for name in config.formats:
        if why := why_not(name, shape, folder):
            raise ConfigError(f"release.formats: {name}: {why}; take it off")
    return config.formats


def left_out(config: ReleaseConfig, shape: Shape, folder: Path) -> list[str]:
    """A sentence for each reason why a usual format is not there."""
    usual = USUAL_FORMATS if config.formats is None else ()
    reasons = dict.fromkeys(why for name in usual if (why := why_not(name, shape, folder)))
    return [f"release: left out: {why}" for why in reasons]


def write_formats(
    config: ReleaseConfig, release: Path, shape: Shape, clean: Artifact, context: Context
) -> list[dict[str, Any]]:
    """Write the formats that the recipe asks for into a release that holds all else; float32 is the first line."""
    measure = loss_meter(config, release, shape, clean, context)
    float32 = measure(_safetensors(release, shape))
    size = (release / WEIGHTS).stat().st_size
    lines = [Weights("float32", WEIGHTS, size, round(float32, DIGITS), 0.0)]
    formats = chosen_formats(config, shape, release)
    for number, name in enumerate(formats, start=1):
        context.progress(number, len(formats) + 1, "formats")
        file, weights, note = _write(name, config, release, shape)
        bits = measure(weights()) if weights else float32
        size = (release / file).stat().st_size
        lines.append(Weights(name, file, size, round(bits, DIGITS), round(bits - float32, DIGITS), note))
    return [asdict(line) for line in lines]


def _write(
    name: Format, config: ReleaseConfig, release: Path, shape: Shape
) -> tuple[str, Callable[[], Mapping[str, "Tensor"]] | None, str]:
    """Write one format: its file, what gives its weights as float32 (None: they are float32), a note."""
    if name == "int8":
        from model.int8 import save_int8, widened

        save_int8(release, release / INT8_WEIGHTS)
        return INT8_WEIGHTS, lambda: widened(release), "one scale a row; `llmill generate --int8`"
    if name == "onnx":
        from tasks.release.onnx import write_onnx

        write_onnx(release, release / "model.onnx")
        return "model.onnx", None, "float32; any batch, any length"
    from tasks.release.gguf import write_gguf

    kind = {"gguf-f16": "F16", "gguf-q8_0": "Q8_0"}[name]
    file = f"{config.name}-{kind}.gguf"
    stayed = write_gguf(release / file, kind, config, release)
    note = f"{stayed} matrices stay F16: their rows are not a multiple of 32" if stayed else "for llama.cpp"
    return file, lambda: _gguf(release / file, release, shape), note


def loss_meter(
    config: ReleaseConfig, release: Path, shape: Shape, clean: Artifact, context: Context
) -> Callable[[Mapping[str, "Tensor"]], float]:
    """A function from float32 weights to their bits per byte on `loss_documents`."""
    from model.transformer import Transformer

    documents, size = loss_documents(config, release, clean)
    device = training_device(config.device)
    workers = context.execution.workers if device == "cpu" else 1
    model = Transformer(shape).to(device).requires_grad_(False).eval()

    def measure(weights: Mapping[str, "Tensor"]) -> float:
        model.load_state_dict(dict(weights))
        return bits_per_byte(model, documents, size, workers)

    return measure


def loss_documents(config: ReleaseConfig, release: Path, clean: Artifact) -> tuple[list[list[int]], int]:
    """Ids of the first `loss_bytes` of held-out documents in sampling order, and the bytes of their text."""
    from tasks.tokenize.tokenizer import encode, load_tokenizer

    start = read_control(release).start
    entries, _ = index_documents(clean["documents"].path, SEED)
    texts = [document.text for document in read_sample(entries[HELDOUT], config.loss_bytes)]
    documents = [[start, *ids] for ids, _ in encode(load_tokenizer(release), texts)]
    return documents, sum(len(text.encode()) for text in texts)


def bits_per_byte(model: "Transformer", documents: list[list[int]], size: int, workers: int) -> float:
    """What a model needs for documents of `size` bytes; the same for any number of threads that share the batches."""
    from model.likelihood import score_documents
    from model.parallel import Workers, one_thread

    threads = Workers(workers)
    try:
        with one_thread():
            nats = sum(score_documents(model, documents, workers=threads))
    finally:
        threads.close()
    return nats / math.log(2) / size


def int8_speed(release: Path) -> dict[str, float]:
    """Tokens a CPU-second that one thread decodes with int8 weights, and how many times as many as with float32."""
    from model.int8 import load_int8
    from model.transformer import load_model

    models, start = {"float32": load_model(release), "int8": load_int8(release)}, read_control(release).start
    best = dict.fromkeys(models, 0.0)
    for _ in range(SPEED_ROUNDS):  # in turn, so that a busy machine slows both
        for name, model in models.items():
            best[name] = max(best[name], _decoding_speed(model, start))
    return {"int8_tokens_per_second": round(best["int8"], 1), "int8_speedup": round(best["int8"] / best["float32"], 2)}


def _decoding_speed(model: "Transformer", start: int) -> float:
    from model.generate import generate
    from model.parallel import one_thread

    tokens = min(SPEED_TOKENS, model.shape.context_length - 1)
    with one_thread():
        started = time.thread_time()
        made = sum(1 for _ in generate(model, [start], tokens))
        return made / max(time.thread_time() - started, 1e-9)


def _safetensors(release: Path, shape: Shape) -> dict[str, "Tensor"]:
    from model.tensors import as_ours, read_tensors

    return as_ours(shape, read_tensors(release))


def _gguf(path: Path, release: Path, shape: Shape) -> dict[str, "Tensor"]:
    import torch
    from safetensors import safe_open

    from model.tensors import as_ours
    from tasks.release.gguf import read_weights

    with safe_open(release / WEIGHTS, framework="numpy") as weights:
        names = list(weights.keys())
    return as_ours(shape, {name: torch.tensor(array) for name, array in read_weights(path, names, shape)})
