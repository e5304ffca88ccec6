"""The walk from some definitions to everything that they can reach."""

import ast
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.code.module import RUN, WHOLE, Module
from storage.code.names import (
    DEFINITIONS,
    FUNCTIONS,
    Aspect,
    Import,
    Scope,
    absolute,
    bound_names,
    dotted_name,
    is_docstring,
    is_main_guard,
    mentions,
)
from storage.code.paths import ANY, Found
from storage.code.sources import Sources, state_of

MOST_FILES, MOST_BYTES = 2_000, 64 << 20  # of a folder of data that code reads by computed names

Definition = tuple[str, str]  # (module, name)


@dataclass(frozen=True)
class Reach:
    """What some definitions can reach."""

    code: Mapping[str, str]  # digests by qualified name
    files: Mapping[Path, tuple[int, ...]]  # the sources and data files that were read for it, as they were then
    unresolved: tuple[str, ...]  # where the source doesn't show it, one sentence each: what counts instead

    def changed(self) -> list[Path]:
        """The files that were written or removed since they were read."""
        return [path for path, state in self.files.items() if state_of(path) != state]

    def saved_since(self, moment: int) -> list[Path]:
        """The sources that were changed after a moment, in nanoseconds since 1970: nobody knows what was imported."""
        return [path for path in self.files if path.suffix == ".py" and path.stat().st_ctime_ns > moment]


class Walk:
    """One walk from some roots through the code."""

    def __init__(self, code: Sources) -> None:
        self.code = code
        self.found: dict[Definition, Module] = {}
        self.data: dict[str, str] = {}
        self.files: set[Path] = set()
        self.unresolved: set[str] = set()
        self.waiting: list[Definition] = []
        self.run: set[str] = set()  # modules that importing runs
        self.aspects: dict[str, set[Aspect]] = {}  # by module
        self.asks_subclasses = False

    def from_roots(self, roots: Iterable[Definition]) -> Reach:
        for module_name, name in roots:
            module = self.code.module(module_name)
            if module is None:
                raise LookupError(f"{module_name}: its source file is not found, so its code has no fingerprint")
            top = name.partition(".")[0]  # a method counts its class
            if top == WHOLE or top in module.definitions:
                self.waiting.append((module_name, top))
            else:
                self.waiting.extend(self._inside(module_name, (top,)))
        while self.waiting:
            module_name, name = self.waiting.pop()
            module = self.code.module(module_name)
            if module is not None and (module_name, name) not in self.found:
                self._take(module, name)
            if not self.waiting and self.asks_subclasses:
                self.waiting.extend(self._subclasses())
        digests = {
            module.name if name == WHOLE else f"{module.name}.{name}": module.digest(
                name, frozenset(self.aspects.get(module.name, ()))
            )
            for (_, name), module in self.found.items()
        }
        code = dict(sorted((digests | self.data).items()))
        files = {path: self.code.states[path] for path in sorted(self.files)}
        return Reach(code, files, tuple(sorted(self.unresolved)))

    def _take(self, module: Module, name: str) -> None:
        """Count a definition and put in line what it refers to."""
        self.found[module.name, name] = module
        self.files.add(module.path)
        self._run(module.name)
        if name == WHOLE:
            self.waiting.extend((module.name, other) for other in module.definitions)
            self.waiting.append((module.name, RUN))
            for bound in module.imports.bound:
                self.waiting.extend(self._resolve(module, (bound,), {}))
            self.waiting.extend((star, WHOLE) for star in module.imports.stars)
            return
        scope = module.scope(name)
        for dotted in scope.names:
            self.waiting.extend(self._resolve(module, dotted, scope.imports.bound))
        for imported in scope.imports.run:
            self._run(imported)
        self.waiting.extend((star, WHOLE) for star in scope.imports.stars if self.code.module(star))
        self._data_files(module, scope)
        self._modules_by_name(module, scope)
        self.asks_subclasses |= scope.asks_subclasses
        if scope.looks_up_names:
            self.waiting.append((module.name, WHOLE))
        aspects: set[Aspect] = set(scope.aspects)
        if scope.reads_fields and scope.described:
            aspects.add("descriptions")
        if aspects:
            for dotted in scope.names:
                for other, _ in self._resolve(module, dotted, scope.imports.bound):
                    self.aspects.setdefault(other, set()).update(aspects)
            self.aspects.setdefault(module.name, set()).update(aspects)

    # What importing does ------------------------------------------------------------------------------------------

    def _run(self, name: str) -> None:
        """Importing a module runs it, its parent packages and what they import: what does something there counts."""
        waiting = [name if self.code.module(name) else name.rpartition(".")[0]]
        while waiting:
            for package in _with_parents(waiting.pop()):
                if package in self.run or (module := self.code.module(package)) is None:
                    continue
                self.run.add(package)
                self.files.add(module.path)
                waiting.extend(module.imports.run)
                if self._acting(module):
                    self.waiting.append((package, RUN))

    def _acting(self, module: Module) -> bool:
        """Work out, once, which statements of a module do more than define."""
        if module.acting is None:
            module.acting = [statement for statement in module.tree.body if self._acts(module, statement)]
        return bool(module.acting)

    def _acts(self, module: Module, statement: ast.stmt) -> bool:
        if isinstance(statement, (ast.Import, ast.ImportFrom, ast.Pass)) or is_docstring(statement):
            return False
        if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            if any(self._is_ours(module, decorator) for decorator in statement.decorator_list):
                return True
            return isinstance(statement, ast.ClassDef) and self._registers(module, statement)
        if bound_names(statement):
            return self._calls_ours(module, statement)
        if isinstance(statement, ast.If) and mentions(statement.test, "TYPE_CHECKING"):
            return any(self._acts(module, inner) for inner in statement.orelse)
        return not is_main_guard(statement)

    def _registers(self, module: Module, statement: ast.ClassDef) -> bool:
        """Whether a class statement registers the class somewhere: by its bases, its metaclass, or its body."""
        if any(keyword.arg == "metaclass" and self._is_ours(module, keyword.value) for keyword in statement.keywords):
            return True
        if any(self._knows_subclasses(base) for base in self._bases(module, statement)):
            return True
        plain = (*DEFINITIONS, ast.Assign, ast.AnnAssign, ast.Pass)
        body = (inner for inner in statement.body if not is_docstring(inner))
        return any(
            not isinstance(inner, plain) or (bool(bound_names(inner)) and self._calls_ours(module, inner, names=False))
            for inner in body
        )

    def _knows_subclasses(self, base: Definition, seen: frozenset[Definition] = frozenset()) -> bool:
        module = self.code.module(base[0])
        if module is None or base in seen:
            return False
        for node in module.definitions.get(base[1], ()):
            if isinstance(node, ast.ClassDef):
                named = any(isinstance(one, FUNCTIONS) and one.name == "__init_subclass__" for one in node.body)
                metaclass = any(one.arg == "metaclass" and self._is_ours(module, one.value) for one in node.keywords)
                if named or metaclass:
                    return True
                if any(self._knows_subclasses(one, seen | {base}) for one in self._bases(module, node)):
                    return True
        return False

    def _bases(self, module: Module, statement: ast.ClassDef) -> list[Definition]:
        return [found for base in statement.bases for found in self._resolve(module, dotted_name(base), {})]

    def _subclasses(self) -> list[Definition]:
        """`__subclasses__()` is asked for: every class of a module that was run, derived from a class of ours."""
        return [
            (module.name, name)
            for module in filter(None, map(self.code.module, sorted(self.run)))
            for name, nodes in module.definitions.items()
            if (module.name, name) not in self.found
            and any(isinstance(node, ast.ClassDef) and self._bases(module, node) for node in nodes)
        ]

    def _calls_ours(self, module: Module, statement: ast.stmt, *, names: bool = True) -> bool:
        """Whether an assignment calls first-party code, or a method of something first-party, or sets attributes."""
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                dotted = dotted_name(node.func)
                if dotted in (("setattr",), ("delattr",), ("exec",)):
                    return True
                if len(dotted) > 1 and any(True for _ in self._resolve(module, dotted[:1], {})):
                    return True
                if names and any(True for _ in self._resolve(module, dotted, {})):
                    return True
        return False

    def _is_ours(self, module: Module, expression: ast.expr) -> bool:
        called = expression.func if isinstance(expression, ast.Call) else expression
        dotted = dotted_name(called)
        return any(True for length in range(1, len(dotted) + 1) for _ in self._resolve(module, dotted[:length], {}))

    # What is looked up at run time --------------------------------------------------------------------------------

    def _modules_by_name(self, module: Module, scope: Scope) -> None:
        counted = False
        for text in scope.strings:
            counted |= self._named_module(module, text, scope.looks_up_modules)
        if not scope.looks_up_modules and (not scope.reads_loaded or any("." in text for text in scope.strings)):
            return  # a name of `sys.modules` that is not ours is somebody else's
        for prefix in scope.prefixes:
            package = prefix.rpartition(".")[0]
            if package and self.code.folder(package) is not None:
                names = [name for name in self.code.below(package) if name.startswith(prefix)]
                self.waiting.extend((name, WHOLE) for name in names)
                counted = counted or bool(names)
        if not counted:
            package = module.name if module.package else module.name.rpartition(".")[0]
            for name in self.code.below(package) if package else [module.name]:
                self.waiting.append((name, WHOLE))
            what = f"the whole package {package} counts" if package else "what it imports so does not count"
            self.unresolved.add(f"{module.name} imports by a name that its source does not show: {what}")

    def _named_module(self, module: Module, text: str, looked_up: bool) -> bool:
        """Count the module, or the definition in one, that a string names; False where it is not one of ours."""
        name = text.partition(":")[0]
        if "." not in name and not looked_up:
            return False
        if name.startswith("."):
            stripped = name.lstrip(".")
            name = absolute(stripped, len(name) - len(stripped), module.name, module.package)
        if self.code.module(name) is not None:
            self.waiting.append((name, WHOLE))
            return True
        package, _, last = name.rpartition(".")
        other = self.code.module(package) if package else None
        if other is not None and last in other.definitions:
            self.waiting.append((package, last))
            return True
        return False

    def _data_files(self, module: Module, scope: Scope) -> None:
        """Count the data files that a definition names, or the folders that it searches for some."""
        for name in scope.files:
            path = module.path.parent / name
            if path.is_file() and path.suffix != ".py":
                self._count(module, path)
        consumed: set[int] = set()
        for expression in scope.paths:
            if id(expression) in consumed:
                continue
            found = module.evaluator(self.code.folder).path(expression)
            if found is not None:
                consumed.update(id(inner) for inner in ast.walk(expression))
                self._count_found(module, found)

    def _count_found(self, module: Module, found: Found) -> None:
        if found.exact and found.path.is_file():
            if found.path.suffix != ".py":
                self._count(module, found.path)
        elif (found.named or not found.exact) and found.path.is_dir():
            paths = [path for path in sorted(found.path.glob(found.pattern or ANY)) if _is_data(path, found.path)]
            around = module.top_folder
            inside = found.path == around or found.path.is_relative_to(around)
            if inside and len(paths) <= MOST_FILES and sum(path.stat().st_size for path in paths) <= MOST_BYTES:
                for path in paths:
                    self._count(module, path)
            else:
                self.unresolved.add(
                    f"{module.name} reads files by computed names from a large or outer folder: none counts"
                )

    def _count(self, module: Module, path: Path) -> None:
        self.files.add(path)
        name = os.path.relpath(path, module.path.parent).replace(os.sep, "/")
        self.data[f"{module.name}:{name}"] = self.code.content(path)

    # What names mean ----------------------------------------------------------------------------------------------

    def _resolve(
        self,
        module: Module,
        dotted: tuple[str, ...],
        local: Mapping[str, list[Import]],
        followed: frozenset[Definition] = frozenset(),
    ) -> Iterator[Definition]:
        """The definitions that a dotted name can mean in a module; nothing for builtins and third parties.

        `followed` are the re-exports on the way here, which can lead in a circle.
        """
        if not dotted:
            return
        head, rest = dotted[0], dotted[1:]
        targets = [*local.get(head, ()), *module.imports.bound.get(head, ())]
        for target in targets:
            yield from self._inside(target.module, (target.name, *rest) if target.name else rest, followed)
        if head in module.definitions:
            yield module.name, head
        elif not targets and (star := self._star_with(module, head)) is not None:
            yield from self._inside(star, dotted, followed)

    def _star_with(self, module: Module, name: str, seen: frozenset[str] = frozenset()) -> str | None:
        """The module from which a star import, or a star of a star, brings a name."""
        for star in module.imports.stars:
            other = self.code.module(star)
            if other is None or star in seen:
                continue
            if name in other.definitions or name in other.imports.bound:
                return star
            if (inner := self._star_with(other, name, seen | {star})) is not None:
                return inner
        return None

    def _inside(
        self, module_name: str, dotted: tuple[str, ...], followed: frozenset[Definition] = frozenset()
    ) -> Iterator[Definition]:
        """What `module.dotted` means: a definition, something re-exported, a submodule, or the whole module."""
        module = self.code.module(module_name)
        if module is None:
            if dotted and self.code.folder(module_name) is not None:  # a package without an `__init__.py`
                yield from self._inside(f"{module_name}.{dotted[0]}", dotted[1:], followed)
            return
        if not dotted:
            names = self.code.below(module_name) if module.package else [module_name]
            yield from ((name, WHOLE) for name in names)
        elif dotted[0] in module.bystanders:
            return
        elif (here := (module_name, ".".join(dotted))) not in followed and (
            dotted[0] in module.definitions or dotted[0] in module.imports.bound
        ):
            yield from self._resolve(module, dotted, {}, followed | {here})
        elif self.code.module(f"{module_name}.{dotted[0]}") is not None:
            yield from self._inside(f"{module_name}.{dotted[0]}", dotted[1:], followed)
        elif (star := self._star_with(module, dotted[0])) is not None:
            yield from self._inside(star, dotted, followed)
        elif not module.package or self.code.folder(f"{module_name}.{dotted[0]}") is None:
            yield module_name, WHOLE
        else:
            yield from self._inside(f"{module_name}.{dotted[0]}", dotted[1:], followed)


def _is_data(path: Path, folder: Path) -> bool:
    """Whether a file below a folder may be read as data: no source, nothing hidden, nothing of a home of ours."""
    if path.suffix == ".py" or not path.is_file():
        return False
    inner = path.relative_to(folder)
    if any(part.startswith(".") or part == "__pycache__" for part in inner.parts):
        return False
    return not any(
        (folder / parent / "builds").is_dir() and (folder / parent / "store").is_dir() for parent in inner.parents
    )


def _with_parents(module: str) -> list[str]:
    """A module's name and those of the packages around it, outermost first."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
