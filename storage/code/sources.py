"""First-party sources: which file a module is, each read once."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from storage.code.module import Module


class Sources:
    """First-party code as syntax trees, each file read once.

    `roots` maps a top-level package to its parent folder; in the folders `beside` any module is first-party.
    """

    def __init__(self, roots: Mapping[str, Path], beside: Iterable[Path] = ()) -> None:
        self.roots = dict(roots)
        self.beside = tuple(beside)
        self._modules: dict[str, Module | None] = {}
        self.states: dict[Path, tuple[int, ...]] = {}  # of every file that was read, and its folder
        self._contents: dict[Path, str] = {}  # digests of data files

    def module(self, name: str) -> Module | None:
        """The parsed module, or None where no first-party file has that name."""
        if name not in self._modules:
            found = self._find(name)
            self._modules[name] = Module(name, found[0], found[1], self.read(found[0])) if found else None
        return self._modules[name]

    def _find(self, name: str) -> tuple[Path, bool] | None:
        """The file of a module, and whether it is a package."""
        top, *rest = name.split(".")
        root = self.roots.get(top)
        if root is None:
            folders = [folder for folder in self.beside if top.isidentifier()]
        elif root.is_file():  # `__main__` is where it was started
            return (root, False) if not rest else None
        else:
            folders = [root]
        for folder in folders:
            base = folder.joinpath(top, *rest)
            for path, package in ((base / "__init__.py", True), (base.with_suffix(".py"), False)):
                if path.is_file():
                    return path, package
        return None

    def folder(self, package: str) -> Path | None:
        """The folder of a package, with or without an `__init__.py`."""
        module = self.module(package)
        if module is not None:
            return module.path.parent if module.package else None
        top, *rest = package.split(".")
        roots = [self.roots[top]] if top in self.roots else self.beside
        places = (root.joinpath(top, *rest) for root in roots)
        return next((place for place in places if place.is_dir()), None)

    def below(self, package: str) -> list[str]:
        """The names of all modules of a package, itself included."""
        folder = self.folder(package)
        if folder is None:
            return [package] if self.module(package) else []
        names = []
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if all(part.isidentifier() for part in parts):
                names.append(".".join([package, *parts]))
        return names

    def read(self, path: Path) -> bytes:
        """A file's contents; its state is noted, so that a later change is seen."""
        for place in (path.parent, path):  # a new file changes its folder
            self.states[place] = state_of(place)
        return path.read_bytes()

    def content(self, path: Path) -> str:
        """The digest of a data file, worked out once."""
        if path not in self._contents:
            self._contents[path] = hashlib.sha256(self.read(path)).hexdigest()[:32]
        return self._contents[path]

    def is_current(self) -> bool:
        """Whether every file that was read is as it was, and none was added beside it."""
        return all(state_of(path) == state for path, state in self.states.items())


def state_of(path: Path) -> tuple[int, ...]:
    """A state that differs once a file has changed; empty where there is no file."""
    try:
        state = path.stat()
    except OSError:
        return ()
    return state.st_ino, 0 if path.is_dir() else state.st_size, state.st_mtime_ns
