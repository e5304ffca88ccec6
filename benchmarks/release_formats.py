"""What the formats of a release cost: bits per byte, bytes, and the speed of decoding with int8 weights.

    python -m benchmarks.release_formats HOME          quality of the newest release of a home, of each of its formats
    python -m benchmarks.release_formats               speed alone, of random models of two sizes

llama.cpp (the wheel `xllamacpp`, where it is installed) decodes the same shapes from GGUF, its server's work included.
Times are CPU seconds of one thread; both kinds of weights take turns in one process and the best of each counts.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.serving_peers import llama_cpp_server
from model import int8
from model.shape import INT8_WEIGHTS, SIZES, Shape
from model.transformer import Transformer, initialise, load_model, save_model

ROUNDS = 5
PROMPT = 128


def main() -> None:
    """Print one table."""
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        quality(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        for name, layers, vocabulary in (("nano", 2, 4_096), ("mini", 7, 8_192)):
            speed(name, shape_of(name, layers, vocabulary), Path(folder))


def quality(home: Path) -> None:
    """The formats of the newest release, and the loss of int8 weights when every product is that of decoding."""
    from flows.inspect.references import find_artifact, find_part
    from storage.store.local import Store
    from tasks.release.config import ReleaseConfig
    from tasks.release.formats import bits_per_byte, loss_documents

    store = Store(home)
    release = find_part(store, "latest/release", "release").path
    for line in json.loads((release / "formats.json").read_bytes()):
        print(f"{line['format']:<10}{line['bytes']:>12,} bytes  {line['bits_per_byte']:.4f}  {line['loss']:+.4f}")
    documents, size = loss_documents(ReleaseConfig(), release, find_artifact(store, "latest/filter"))
    few = int8.FEW_ROWS
    plain = bits_per_byte(load_model(release), documents, size, 2)
    int8.FEW_ROWS = sys.maxsize
    decoded = bits_per_byte(int8.load_int8(release), documents, size, 2)
    int8.FEW_ROWS = few
    print(f"int8 with the products of decoding: {decoded - plain:+.4f}")


def speed(name: str, shape: Shape, folder: Path) -> None:
    """Decoding and reading a prompt, float32 beside int8."""
    model = Transformer(shape)
    initialise(model, 0)
    save_model(model, folder)
    int8.save_int8(folder, folder / INT8_WEIGHTS)
    models: dict[str, Transformer] = {"float32": load_model(folder), "int8": int8.load_int8(folder)}
    decoding, reading = dict.fromkeys(models, 0.0), dict.fromkeys(models, 0.0)
    for _ in range(ROUNDS):
        for kind, one in models.items():
            decoding[kind] = max(decoding[kind], tokens_per_second(one))
            reading[kind] = max(reading[kind], prompt_tokens_per_second(one))
    print(f"{name}, {shape.parameters:,} parameters")
    for kind in ("F16", "Q8_0"):
        speed = llama_cpp_tokens_per_second(folder, kind, shape)
        if speed is not None:
            print(f"  decoding        llama.cpp {kind} {speed:,.0f} tokens/s  ratio {speed / decoding['float32']:.2f}")
    for what, found in (("decoding", decoding), (f"prompt of {PROMPT}", reading)):
        ratio = found["int8"] / found["float32"]
        print(f"  {what:<16}float32 {found['float32']:>9,.0f}  int8 {found['int8']:>9,.0f} tokens/s  ratio {ratio:.2f}")


def tokens_per_second(model: Transformer, tokens: int = 64) -> float:
    from model.generate import generate

    started = time.process_time()
    made = sum(1 for _ in generate(model, [0], tokens))
    return made / (time.process_time() - started)


def llama_cpp_tokens_per_second(folder: Path, kind: str, shape: Shape) -> float | None:
    """The same weights as GGUF; None where llama.cpp is not installed."""
    try:
        server, best = llama_cpp_server(folder, kind, shape, 1), 0.0
    except ImportError:
        return None
    for _ in range(ROUNDS):
        started = time.process_time()
        reply = server.handle_completions({"prompt": [0], "max_tokens": 64, "temperature": 0, "ignore_eos": True})
        best = max(best, reply["usage"]["completion_tokens"] / (time.process_time() - started))
    return best


@torch.inference_mode()
def prompt_tokens_per_second(model: Transformer) -> float:
    ids = torch.zeros(1, PROMPT, dtype=torch.long)
    started = time.process_time()
    for _ in range(3):
        model.logits(model(ids)[0, -1])
    return 3 * PROMPT / (time.process_time() - started)


def shape_of(name: str, layers: int, vocabulary: int) -> Shape:
    size = SIZES[name]
    return Shape(
        vocabulary,
        layers,
        size.width,
        size.heads,
        size.key_value_heads,
        size.head_dim,
        size.feed_forward,
        size.context_length,
    )


if __name__ == "__main__":
    main()
