"""The digest of the code that a function can reach, read from the files, importing nothing.

From a root definition, every first-party definition that it names is followed: across modules, through re-exports,
lazy imports, decorators, default arguments, class bodies and constants. Each reached definition is digested as the
text of its syntax tree without what can't change a result (storage/code/essence.py).

What is not named is followed as far as the source shows it:

- importing a module runs it, and all that it imports: statements that do more than define count, wherever they are
  (loops, calls of first-party code, registration by decorator, by subclass, by metaclass or in a class body);
- a string that names a module of ours counts that module (`import_module("...")`, `-m` programs, `sys.modules`), the
  constant beginning of a computed name all modules that begin so;
- a path made from `__file__` or `importlib.resources` counts the file that it leads to, or all files below the folder
  that is searched for a computed name (storage/code/paths.py).

Where that is not enough, a whole module counts (a module used as a value, a name that can't be found, `globals()`) or
the whole package around it (an import by a name that nothing in the source shows); `Reach.unresolved` says which.
First-party is what is in the packages of this checkout; for a stage of the user's own also what can be imported from
outside the installation: the modules beside it, and the folders of `sys.path` that are the user's.
"""

import gc
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from storage.code.module import WHOLE
from storage.code.remembered import Remembered
from storage.code.sources import Sources
from storage.code.walk import Definition, Reach, Walk
from storage.errors import ConfigError
from storage.home import home
from storage.snapshot import PACKAGES


class Code(Sources):
    """First-party sources, and what definitions in them can reach. With `remembered` nothing is walked that has been
    walked before in equal sources."""

    def __init__(
        self, roots: Mapping[str, Path], beside: Iterable[Path] = (), remembered: Remembered | None = None
    ) -> None:
        super().__init__(roots, beside)
        self._reached: dict[tuple[Definition, ...], Reach] = {}
        self._remembered = remembered

    def reached_from(self, roots: Iterable[Definition]) -> Reach:
        """Everything that can be reached from the roots; walked once, as each file is read once."""
        key = tuple(roots)
        if key not in self._reached:
            self._reached[key] = self._recalled(key) or self._walked(key)
        return self._reached[key]

    def _recalled(self, roots: tuple[Definition, ...]) -> Reach | None:
        return self._remembered.recall(roots) if self._remembered else None

    def _walked(self, roots: tuple[Definition, ...]) -> Reach:
        reach = Walk(self).from_roots(roots)
        if self._remembered:
            self._remembered.keep(roots, reach)
        return reach

    def is_current(self) -> bool:
        """Whether every file that was read is as it was, and none was added beside it."""
        return super().is_current() and (self._remembered is None or self._remembered.is_current())

    def reach(self, roots: Iterable[Definition]) -> Mapping[str, str]:
        """The digests of everything that can be reached from the roots, by qualified name."""
        return self.reached_from(roots).code


_codes: dict[tuple[tuple[str, Path], ...], Code] = {}


def fingerprint(module: str, name: str, programs: Iterable[str] = (), also: Iterable[Definition] = ()) -> Reach:
    """What `module.name` can reach in the code of this process.

    `programs` are modules run in a child process: they count from their entry, the whole module first.
    `also` are further roots, such as the class of a stage's config. Raises ConfigError for code that does not parse.
    """
    with many_small_objects():
        roots = [(module, name), *also, *((program, WHOLE) for program in programs)]
        reach = _installed_code(module).reached_from(roots)
        gc.freeze()  # the trees stay as long as the process
        return reach


def reread_code() -> None:
    """Let the next fingerprint read changed sources again: a plan or a run begins. In between none is read twice."""
    for key in [key for key, code in _codes.items() if not code.is_current()]:
        del _codes[key]


def changed_code(reach: Reach, copy: Path, origin: Path, roots: Iterable[Definition]) -> list[str]:
    """What of the code reached in a copy is different in the folder that it was copied from, one line each.

    For people only: a file that does not parse is one of the lines, and nothing raises.
    """
    pairs = [(file, origin / file.relative_to(copy)) for file in sorted(reach.files) if file.is_relative_to(copy)]
    changed = [other for file, other in pairs if not other.is_file() or other.read_bytes() != file.read_bytes()]
    if not changed:
        return []
    try:
        now = Code(dict.fromkeys(PACKAGES, origin)).reached_from(roots).code
    except (ConfigError, LookupError, OSError) as error:
        return [f"code {error}"]
    names = sorted(name for name in reach.code.keys() | now.keys() if reach.code.get(name) != now.get(name))
    return [f"code {name} changed" for name in names]


def _installed_code(module: str) -> Code:
    """The code beside this package, and what a stage that is defined elsewhere can import of the user's own."""
    root = Path(__file__).resolve().parents[1]
    roots = dict.fromkeys(PACKAGES, root)
    top = module.partition(".")[0]
    beside: tuple[Path, ...] = ()
    if top not in roots:
        file = getattr(sys.modules.get(module), "__file__", None)
        if file:
            path = Path(file).resolve()
            folder = path.parents[module.count(".") + (path.name == "__init__.py")]
            roots[top] = path if module == "__main__" else folder
            beside = tuple(dict.fromkeys(place for place in (folder, *map(Path, sys.path)) if _is_users(place)))
    key = (*sorted(roots.items()), *(("", place) for place in beside))
    if key not in _codes:
        remembered = Remembered(root, home()) if roots.keys() == set(PACKAGES) else None
        _codes[key] = Code(roots, beside, remembered)
    return _codes[key]


def _is_users(folder: Path) -> bool:
    """Whether a folder of `sys.path` is the user's own, no part of this Python's installation or of another's."""
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    place = folder.resolve()
    if place.name in ("site-packages", "dist-packages"):
        return False
    return place.is_dir() and not any(place.is_relative_to(one) for one in installed)


@contextmanager
def many_small_objects() -> Iterator[None]:
    """Without the collector of cycles: syntax trees and what is imported have few, and it would take a fifth of the
    time to find out."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
