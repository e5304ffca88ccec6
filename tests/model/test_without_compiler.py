"""What trains or answers starts without torch's compiler, whose import takes 1.5 to 1.8 s of CPU time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

TRAINS = """
from types import SimpleNamespace
from model.optimizer import Optimizer, OptimizerSettings
from model.start import configure_torch
from small_model import small_model
configure_torch(SimpleNamespace(compiled=False, device="cpu", products=None, seed=0))
model = small_model().requires_grad_(True)
for parameter in model.parameters():
    parameter.grad = parameter.detach().clone()
Optimizer(model, OptimizerSettings(matrix_rate=0.1, embedding_rate=0.1)).step(1.0)
"""

LOADS = """
import sys
from pathlib import Path
from model.transformer import load_model, save_model
from small_model import small_model
save_model(small_model(), Path(sys.argv[1]))
load_model(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [TRAINS, LOADS])
def test_the_compiler_is_not_imported(code: str, tmp_path: Path) -> None:
    ends = "import sys, torch\nsys.exit('torch._dynamo' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-P", "-c", code + ends, str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr or "torch._dynamo was imported"
