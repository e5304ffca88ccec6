"""Signs of life of processes that work together: each touches a file of its own, and one that hangs stops to."""

import shutil
import time
from pathlib import Path

from storage.bystander import bystander

FOLDER = "beats"  # in the work folder of a training


@bystander
def beat(folder: Path, name: str) -> None:
    """Say that `name` goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


@bystander
class Pulse:
    """Whether all that beat in a folder go on. Changes of their files count, not the clocks of their machines."""

    def __init__(self, folder: Path, silence_seconds: float, setting: str) -> None:
        """`setting` is the field that says how long one may be silent."""
        self._folder, self._silence_seconds, self._setting = folder, silence_seconds, setting
        self._heard: dict[str, tuple[int, float]] = {}  # by name: its file's time, and when we have seen it change
        self._started = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)

    def check(self) -> None:
        """Raise TimeoutError, after which an attempt is made again, where one has been silent for too long."""
        now = time.monotonic()
        for path in self._folder.glob("*"):
            touched = path.stat().st_mtime_ns
            if self._heard.get(path.name, (0, 0.0))[0] != touched:
                self._heard[path.name] = touched, now
        silent = {name: now - when for name, (_, when) in self._heard.items()} or {"all of it": now - self._started}
        name = max(silent, key=lambda one: silent[one])
        if silent[name] > self._silence_seconds:
            raise TimeoutError(
                f"training hangs: no sign of life of {name} for {silent[name]:.0f} s ({self._setting}: "
                f"{self._silence_seconds:g})"
            )
