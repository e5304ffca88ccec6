"""ONNX: the model as a graph that onnxruntime runs without Python or torch; ids (batch, time) in, logits out.

Both dimensions are free, up to the context's length. torch traces the very transformer, so that there is no second
definition of it. The packages `onnx` and `onnxscript` come with `pip install 'llmill[onnx]'`.
"""

import contextlib
import importlib.util
import io
import logging
import warnings
from pathlib import Path
from typing import Any

from tasks.wording import figure

OPSET = 20
MAX_BYTES = 2_000_000_000  # of one protobuf message


def why_no_onnx(parameters: int) -> str:
    """What is missing for ONNX: a package, or room in one file; empty where nothing is."""
    for package in ("onnx", "onnxscript"):  # torch's exporter is built on the second
        if importlib.util.find_spec(package) is None:
            return f"onnx needs the package {package}: pip install 'llmill[onnx]'"
    return f"an ONNX file holds {figure(MAX_BYTES)} bytes at most" if 4 * parameters > MAX_BYTES else ""


def write_onnx(release: Path, target: Path) -> None:
    """Write a release's float32 model as ONNX; equal bytes for equal weights."""
    import onnx
    import torch

    from model.transformer import Logits, load_model

    model = load_model(release)
    length = model.shape.context_length
    example = torch.zeros(2, min(7, length), dtype=torch.long)
    free = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("time", min=1, max=length)}
    with _quiet():
        program = torch.onnx.export(
            Logits(model),
            (example,),
            dynamo=True,
            dynamic_shapes={"ids": free},
            input_names=["input_ids"],
            output_names=["logits"],
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    made = program.model_proto
    _forget_origin(made)
    onnx.save(made, target)


def _forget_origin(made: Any) -> None:
    """Take out where in which source file each node came from: it names this machine's folders."""
    graph = made.graph
    for part in (made, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Any:
    """The exporter's notes on packages that it misses are not for the user."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
