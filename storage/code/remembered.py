"""What has been found of the installed code, kept in the home: equal sources have equal fingerprints.

To parse and walk 300 files takes most of the time of a plan. What was found is kept in `cache/reach/`, by the contents
of all files of the packages, so that any saved file, a word list as well as a module, is another state of the code.
Of the states the newest few stay. Losing the cache costs a second, never a wrong answer.
"""

import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from storage.canonical import canonical_json, digest_of
from storage.code.walk import Definition, Reach
from storage.files import read_json, write_atomic
from storage.snapshot import digest, read, states

KEPT_STATES = 5


class Remembered:
    """What is known of the packages in a folder, as they are now."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        sources, self.states = read(root)
        self._folder = home / "cache" / "reach" / digest(sources)

    def is_current(self) -> bool:
        """Whether all files of the packages are as they were."""
        return states(self.root) == self.states

    def recall(self, roots: Iterable[Definition]) -> Reach | None:
        """What was found from these roots in equal sources; None where it is not known."""
        known: Any = read_json(self._place(roots))
        try:
            files = {self.root / name: self.states[name] for name in known["files"]}
            return Reach(known["code"], files, tuple(known["unresolved"]))
        except (KeyError, TypeError):  # none there, or damaged
            return None

    def keep(self, roots: Iterable[Definition], reach: Reach) -> None:
        """Keep what was found, unless it depends on a file elsewhere, or one was saved meanwhile.

        A home that is not there or cannot be written is left as it is.
        """
        if not all(path.is_relative_to(self.root) for path in reach.files) or not self.is_current():
            return
        files = [str(path.relative_to(self.root)) for path in reach.files]
        known = {"code": dict(reach.code), "files": files, "unresolved": list(reach.unresolved)}
        with suppress(OSError):
            if not self._folder.is_dir():
                self._make_room()
            write_atomic(self._place(roots), canonical_json(known), durable=False)

    def _place(self, roots: Iterable[Definition]) -> Path:
        asked = digest_of({"roots": [list(root) for root in roots], "python": list(sys.version_info[:3])})
        return self._folder / f"{asked}.json"

    def _make_room(self) -> None:
        """Make the folder of this state of the code, and remove those of old ones."""
        self._folder.parents[2].stat()  # no plan creates a home
        self._folder.mkdir(parents=True, exist_ok=True)
        known = sorted(self._folder.parent.iterdir(), key=lambda path: (-path.stat().st_mtime_ns, path.name))
        for old in known[KEPT_STATES:]:
            shutil.rmtree(old, ignore_errors=True)
