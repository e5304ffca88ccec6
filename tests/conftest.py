"""What all tests share: a home of their own, and no analytics, hub or user settings in reach."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: its children would ignore Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("llmill", deadline=None)  # a busy machine is not a fault of the code
settings.load_profile("llmill")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes start here: the code is compiled once
sys.dont_write_bytecode = False
ADDRESSES = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
for variable in ADDRESSES:
    os.environ.pop(variable, None)


@pytest.fixture(autouse=True)
def addresses_stay_in_their_test() -> Iterator[None]:
    """`mlflow.set_tracking_uri` sets the variable too: what a later test starts would use another test's server."""
    yield
    for variable in ADDRESSES:
        os.environ.pop(variable, None)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home."""
    path = tmp_path / "home"
    monkeypatch.setenv("LLMILL_HOME", str(path))
    path.mkdir()
    yield path
