"""A checkpoint is whole or absent, damage is noticed, and another run's is refused."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from model.checkpoint import Checkpoint, Saver, load_checkpoint
from model.ranks import Ranks
from storage.errors import DataError, StoreError

PIECE = "tensors-00000-of-00001.safetensors"


def save(folder: Path, step: int, identity: str = "run") -> Path:
    tensors = {"weights": torch.full((100,), float(step)), "count": torch.tensor(step)}
    saver = Saver(folder, identity, kept=2)
    saver.save(Checkpoint(step, tensors, {"tokens": step * 10}))
    saver.wait()
    return folder / f"step-{step:08d}"


def loaded(folder: Path) -> Checkpoint:
    checkpoint = load_checkpoint(folder, "run")
    assert checkpoint is not None
    return checkpoint


def test_the_newest_comes_back_as_it_was_and_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 100):
        save(tmp_path, step)
    checkpoint = loaded(tmp_path)
    assert (checkpoint.step, checkpoint.state) == (100, {"tokens": 1000})
    assert torch.equal(checkpoint.tensors["weights"], torch.full((100,), 100.0))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000015", "step-00000100"]


@pytest.mark.parametrize("file", [PIECE, "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["bit", "cut", "gone"])
def test_a_damaged_one_is_skipped_and_said_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], file: str, damage: str
) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2) / file
    data = bytearray(path.read_bytes())
    if damage == "bit":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
    assert loaded(tmp_path).step == 1
    assert "step-00000002 is damaged" in capfd.readouterr().err


def test_what_a_kill_left_unfinished_is_not_seen(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none", "run") is None
    save(tmp_path, 3).rename(tmp_path / ".step-00000003.writing")
    assert load_checkpoint(tmp_path, "run") is None
    save(tmp_path, 3)
    assert loaded(tmp_path).step == 3


def test_a_damaged_one_is_replaced_by_a_new_one_of_the_same_step(tmp_path: Path) -> None:
    (save(tmp_path, 3) / PIECE).write_bytes(b"")
    save(tmp_path, 3)
    assert loaded(tmp_path).step == 3


def test_another_run_s_checkpoint_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1, identity="with another learning rate")
    with pytest.raises(DataError, match="another config"):
        load_checkpoint(tmp_path, "run")


class Threads(Ranks):
    """Two ranks that are threads of one process."""

    def __init__(self, rank: int, said: dict[int, int], meeting: threading.Barrier) -> None:
        super().__init__()
        self.rank, self.count, self._said, self._meeting = rank, 2, said, meeting

    def worst(self, trouble: int) -> int:
        self._meeting.wait(60)
        self._said[self.rank] = trouble
        self._meeting.wait(60)
        return max(self._said.values())


@pytest.mark.parametrize("comes", [True, False])
def test_all_take_up_the_same_checkpoint_also_where_one_sees_it_late(
    tmp_path: Path, comes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.checkpoint.LOOK_SECONDS", 0.2)
    monkeypatch.setattr("model.checkpoint.MOST_LOOKS", 5)
    early, late = tmp_path / "early", tmp_path / "late"
    save(early, 10)
    shutil.copytree(early, late)
    newer = save(early, 20)
    said: dict[int, int] = {}
    meeting = threading.Barrier(2)
    savers = [Saver(folder, "run", 2, Threads(rank, said, meeting)) for rank, folder in enumerate((early, late))]
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(saver.newest) for saver in savers]
        time.sleep(0.3)
        if comes:
            shutil.copytree(newer, late / ".new")
            (late / ".new").rename(late / newer.name)
            taken = [one.result() for one in found]
            assert [checkpoint and checkpoint.step for checkpoint in taken] == [20, 20]
        else:
            for one in found:
                with pytest.raises(StoreError, match="not all machines see the same"):
                    one.result()
