"""What trains starts without torch's compiler, whose import takes 1.8 s of CPU time."""

import os
import subprocess
import sys

import pytest
from support import ROOT

TRAINS = """
from types import SimpleNamespace
from model.optimizer import Optimizer, OptimizerSettings
from model.start import configure_torch
from small_model import small_model
configure_torch(SimpleNamespace(compiled=False, device="cpu", seed=0))
model = small_model().requires_grad_(True)
for parameter in model.parameters():
    parameter.grad = parameter.detach().clone()
Optimizer(model, OptimizerSettings(matrix_rate=0.1, embedding_rate=0.1)).step(1.0)
"""


@pytest.mark.parametrize("code", [TRAINS])
def test_the_compiler_is_not_imported(code: str) -> None:
    ends = "import sys, torch\nsys.exit('torch._dynamo' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    ended = subprocess.run([sys.executable, "-P", "-c", code + ends], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr or "torch._dynamo was imported"
