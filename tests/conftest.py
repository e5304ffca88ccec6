"""What all tests share: a home of their own, and no analytics, hub or user settings in reach."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home; no Prefect or MLflow address of the machine's user is in force."""
    path = tmp_path / "home"
    monkeypatch.setenv("LLMILL_HOME", str(path))
    for variable in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    path.mkdir()
    yield path
