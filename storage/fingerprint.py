"""The digest of the code that a function can reach, read from the files, importing nothing.

From a root definition, every first-party definition that it names is followed: across modules, through re-exports,
lazy imports, decorators, default arguments, class bodies and constants. Each reached definition is digested as
the text of its syntax tree without comments, docstrings, formatting, annotations of function signatures, and
descriptions of pydantic fields: what changes no result changes no digest.

Where names are not enough, a whole module counts: one with statements at its top level that do more than define
(loops, calls, registrations by a first-party decorator), one used as a value (`getattr(module, name)`), one in
which a name cannot be found, and one that looks names up at run time (`globals()`, `import_module(variable)`).
"""

import ast
import contextlib
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from storage.canonical import digest_file
from storage.memory import many_small_objects

FIRST_PARTY = ("flows", "tasks", "model", "storage")
PARSE_ATTEMPTS = 10
WHOLE = "*"  # as a definition's name: the whole module

# The engine decides what is built, not what comes out: its decorator is no part of a stage's code.
ENGINE_DECORATOR = "stage"
_DOCUMENTATION_KEYWORDS = {"description", "title", "examples"}
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_./-]{0,98}\.[a-z0-9]{1,8}")
_DYNAMIC_LOOKUPS = {"globals", "locals", "eval", "exec", "__import__", "vars"}

Definition = tuple[str, str]  # (module, name)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def fingerprint(
    module: str, name: str, programs: Iterable[str] = (), also: Iterable[Definition] = ()
) -> dict[str, str]:
    """Digests of all first-party definitions that `module.name` can reach, by qualified name.

    `programs` are modules run in a child process: they count from their entry, the whole module first.
    `also` are further roots, such as the class of a stage's config. Returns `{"package.module.name": digest}`.
    """
    with many_small_objects():
        return _installed_code(module).reach([(module, name), *also, *((program, WHOLE) for program in programs)])


def _installed_code(module: str) -> "Code":
    """The code beside this package, and the top-level package or module in which a foreign stage is defined."""
    root = Path(__file__).resolve().parents[1]
    roots = dict.fromkeys(FIRST_PARTY, root)
    top = module.partition(".")[0]
    if top not in roots:
        file = getattr(sys.modules.get(module), "__file__", None)
        if file:
            path = Path(file).resolve()
            depth = module.count(".") + (path.name == "__init__.py")
            roots[top] = path if module == "__main__" else path.parents[depth]
    return _code(tuple(sorted(roots.items())))


_codes: dict[tuple[tuple[str, Path], ...], "Code"] = {}


def _code(roots: tuple[tuple[str, Path], ...]) -> "Code":
    """The code as it is on the disk now; read again only when a file has changed."""
    if roots not in _codes or not _codes[roots].is_current():
        _codes[roots] = Code(dict(roots))
    return _codes[roots]


@dataclass(frozen=True)
class _Import:
    """What an import binds: a module, or a name inside one."""

    module: str
    name: str | None = None


@dataclass
class _Imports:
    """The imports of a module or a definition: names bound, modules whose names all come in, modules run."""

    bound: dict[str, list[_Import]] = field(default_factory=dict)  # several: `try: import a as x; except: ...`
    stars: list[str] = field(default_factory=list)
    run: set[str] = field(default_factory=set)

    def read(self, node: ast.Import | ast.ImportFrom, module: "_Module") -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                self.bound.setdefault(alias.asname or name, []).append(_Import(name))
                self.run.add(alias.name)
            return
        source = node.module or ""
        if node.level:
            parts = module.name.split(".")
            base = parts[: len(parts) - node.level + (1 if module.package else 0)]
            source = ".".join([*base, *([source] if source else [])])
        self.run.add(source)
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(source)
            else:
                self.bound.setdefault(alias.asname or alias.name, []).append(_Import(source, alias.name))
                self.run.add(f"{source}.{alias.name}")


@dataclass
class _Scope:
    """A definition's references: dotted names in use, and the imports that stand inside it."""

    names: set[tuple[str, ...]] = field(default_factory=set)
    imports: _Imports = field(default_factory=_Imports)
    modules: set[str] = field(default_factory=set)  # imported by a constant string, used as values
    files: set[str] = field(default_factory=set)  # constants that look like the name of a file beside the module
    dynamic: bool = False


class Code:
    """First-party code as syntax trees, parsed on demand. `roots` maps a top-level package to its parent folder."""

    def __init__(self, roots: dict[str, Path]) -> None:
        self.roots = roots
        self._modules: dict[str, _Module | None] = {}
        self._read: dict[Path, int] = {}
        self._effectful: dict[str, list[str]] = {}

    def module(self, name: str) -> "_Module | None":
        """The parsed module, or None where there is no such first-party file."""
        if name not in self._modules:
            self._modules[name] = self._parse(name)
        return self._modules[name]

    def _parse(self, name: str) -> "_Module | None":
        top, *rest = name.split(".")
        if top not in self.roots:
            return None
        base = self.roots[top].joinpath(top, *rest)
        script = [(self.roots[top], False)] if self.roots[top].is_file() else []  # `__main__` is where it was started
        for path, package in (*script, (base / "__init__.py", True), (base.with_suffix(".py"), False)):
            if path.is_file():
                self._read[path] = path.stat().st_mtime_ns
                return _Module(name, path, package, _parsed(path.read_bytes(), path.name))
        return None

    def is_current(self) -> bool:
        """Whether every file that was read is as it was."""
        try:
            return all(path.stat().st_mtime_ns == time for path, time in self._read.items())
        except FileNotFoundError:
            return False

    def reach(self, roots: Iterable[Definition]) -> dict[str, str]:
        """Digests of everything that can be reached from the roots, by qualified name."""
        found: dict[str, str] = {}
        seen: set[Definition] = set()
        met: set[str] = set()  # modules of which a definition was seen
        waiting = [(module, name.partition(".")[0]) for module, name in roots]  # a method counts its class
        for module_name, _ in waiting:
            if self.module(module_name) is None:
                raise LookupError(f"{module_name}: its source file is not found, so its code has no fingerprint")
        while waiting:
            module_name, name = definition = waiting.pop()
            module = self.module(module_name)
            if definition in seen or module is None:
                continue
            seen.add(definition)
            if module_name not in met:
                met.add(module_name)
                waiting.extend(self._effects(module, module.imports))
            if name == WHOLE:
                found[module_name] = module.digest
                waiting.extend((module_name, other) for other in module.definitions)
                waiting.extend(self._references(module, module.loose_scope))
                for name in module.imports.bound:
                    waiting.extend(self._resolve(module, (name,), {}))
                waiting.extend((star, WHOLE) for star in module.imports.stars)
            else:
                scope = module.scope(name)
                found[f"{module_name}.{name}"] = module.digest_of(name)
                waiting.extend(self._references(module, scope))
                found.update(module.data_files(scope))
                if scope.dynamic:
                    waiting.append((module_name, WHOLE))
        return dict(sorted(found.items()))

    def _effects(self, module: "_Module", imports: _Imports) -> Iterator[Definition]:
        """Importing runs modules, their parent packages and what those import: whole ones where it does something."""
        for imported in (module.name, *imports.run):
            name = imported if self.module(imported) else imported.rpartition(".")[0]
            if name not in self._effectful:
                self._effectful[name] = self._effects_of(name)
            for effectful in self._effectful[name]:
                yield effectful, WHOLE

    def _effects_of(self, name: str) -> list[str]:
        """The first-party modules that do more than define among those that importing `name` runs."""
        waiting, run = [name], set()
        while waiting:
            for package in _with_parents(waiting.pop()):
                if package not in run and (module := self.module(package)) is not None:
                    run.add(package)
                    waiting.extend(module.imports.run)
        return sorted(package for package in run if (module := self.module(package)) and module.has_effects(self))

    def _references(self, module: "_Module", scope: _Scope) -> Iterator[Definition]:
        for dotted in scope.names:
            yield from self._resolve(module, dotted, scope.imports.bound)
        yield from self._effects(module, scope.imports)
        for name in (*scope.imports.stars, *scope.modules):
            if self.module(name) is not None:
                yield name, WHOLE

    def _resolve(
        self, module: "_Module", dotted: tuple[str, ...], local: dict[str, list[_Import]]
    ) -> Iterator[Definition]:
        """The definitions that a dotted name can mean where it stands; nothing for builtins and third parties."""
        head, rest = dotted[0], dotted[1:]
        targets = [*local.get(head, ()), *module.imports.bound.get(head, ())]
        for target in targets:
            yield from self._inside(target.module, (target.name, *rest) if target.name else rest)
        if head in module.definitions:
            yield module.name, head
        elif not targets and (star := self._star_with(module, head)) is not None:
            yield from self._inside(star, dotted)

    def _star_with(self, module: "_Module", name: str, seen: frozenset[str] = frozenset()) -> str | None:
        """The module from which a star import, or a star of a star, brings a name."""
        for star in module.imports.stars:
            other = self.module(star)
            if other is None or star in seen:
                continue
            if name in other.definitions or name in other.imports.bound:
                return star
            if (inner := self._star_with(other, name, seen | {star})) is not None:
                return inner
        return None

    def _inside(self, module_name: str, dotted: tuple[str, ...]) -> Iterator[Definition]:
        """What `module.dotted` means: a definition, something re-exported, a submodule, or the whole module."""
        module = self.module(module_name)
        if module is None:
            if self.module(module_name.partition(".")[0]) is not None and dotted:
                yield from self._inside(f"{module_name}.{dotted[0]}", dotted[1:])
            return
        if not dotted:
            yield module_name, WHOLE
        elif dotted[0] in module.definitions or dotted[0] in module.imports.bound:
            yield from self._resolve(module, dotted, {})
        elif self.module(f"{module_name}.{dotted[0]}") is not None:
            yield from self._inside(f"{module_name}.{dotted[0]}", dotted[1:])
        elif (star := self._star_with(module, dotted[0])) is not None:
            yield from self._inside(star, dotted)
        else:
            yield module_name, WHOLE


def _parsed(source: str | bytes, name: str, mode: str = "exec") -> Any:
    """The syntax tree of a source text."""
    for _ in range(PARSE_ATTEMPTS - 1):
        with contextlib.suppress(SystemError):  # CPython before 3.11.9: two threads that parse at once (gh-106905)
            return ast.parse(source, name, mode)
    return ast.parse(source, name, mode)


class _Module:
    """One parsed module: its definitions, its imports, and what it does besides."""

    def __init__(self, name: str, path: Path, package: bool, tree: ast.Module) -> None:
        self.name = name
        self.path = path
        self.package = package
        self.tree = tree
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports = _Imports()
        self.loose: list[ast.stmt] = []
        self._scopes: dict[str, _Scope] = {}
        self._effects: bool | None = None
        for statement in tree.body:
            self._read(statement)

    def _read(self, statement: ast.stmt) -> None:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            self.imports.read(statement, self)
        elif isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
            self.definitions.setdefault(statement.name, []).append(statement)
        elif names := _bound_names(statement):
            for name in names:
                self.definitions.setdefault(name, []).append(statement)
        elif isinstance(statement, ast.If) and _mentions(statement.test, "TYPE_CHECKING"):
            for inner in (*statement.body, *statement.orelse):
                self._read(inner)
        elif not _is_documentation(statement) and not isinstance(statement, ast.Pass):
            self._read_loose(statement)

    def _read_loose(self, statement: ast.stmt) -> None:
        """A statement that does something; what it imports and binds on the way can be named elsewhere."""
        self.loose.append(statement)
        for node in ast.walk(statement):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imports.read(node, self)
            elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
                self.definitions.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.definitions.setdefault(node.id, []).append(statement)

    def has_effects(self, code: Code) -> bool:
        """Whether importing the module does more than define: statements, or registration by a decorator."""
        if self._effects is None:
            self._effects = False  # a cycle of decorators ends here
            self._effects = any(not _is_main_guard(statement) for statement in self.loose) or any(
                self._registers(code, statement) for group in self.definitions.values() for statement in group
            )
        return self._effects

    def _registers(self, code: Code, statement: ast.stmt) -> bool:
        if not isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
            return False
        scope = _Scope()
        for decorator in _foreign_decorators(statement):
            _Reader(scope, self).visit(decorator)
        return any(True for dotted in scope.names for _ in code._resolve(self, dotted, {}))

    def scope(self, name: str) -> _Scope:
        """What a definition refers to."""
        if name not in self._scopes:
            self._scopes[name] = _references_of(self.definitions.get(name, []), self)
        return self._scopes[name]

    @cached_property
    def loose_scope(self) -> _Scope:
        return _references_of(self.loose, self)

    def data_files(self, scope: _Scope) -> dict[str, str]:
        """Digests of the files beside the module (templates, tables) that a definition names."""
        paths = {name: self.path.parent / name for name in scope.files}
        return {f"{self.name}:{name}": digest_file(path)[:32] for name, path in paths.items() if path.is_file()}

    def digest_of(self, name: str) -> str:
        return _digest(self.definitions.get(name, []))

    @cached_property
    def digest(self) -> str:
        return _digest(self.tree.body)


def _references_of(statements: list[ast.stmt], module: _Module) -> _Scope:
    scope = _Scope()
    reader = _Reader(scope, module)
    for statement in statements:
        reader.visit(statement)
    return scope


class _Reader(ast.NodeVisitor):
    """Collects the dotted names, imports and dynamic look-ups of a syntax tree."""

    def __init__(self, scope: _Scope, module: _Module) -> None:
        self.scope = scope
        self.module = module

    def visit_Name(self, node: ast.Name) -> None:
        self.scope.names.add((node.id,))
        if node.id in _DYNAMIC_LOOKUPS and node.id not in self.module.definitions:
            self.scope.dynamic = True

    def visit_Attribute(self, node: ast.Attribute) -> None:
        attributes: list[str] = []
        value: ast.expr = node
        while isinstance(value, ast.Attribute):
            attributes.append(value.attr)
            value = value.value
        if isinstance(value, ast.Name):
            self.scope.names.add((value.id, *reversed(attributes)))
        else:
            self.visit(value)

    def visit_Import(self, node: ast.Import) -> None:
        self.scope.imports.read(node, self.module)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.scope.imports.read(node, self.module)

    def visit_Call(self, node: ast.Call) -> None:
        if _mentions(node.func, "import_module"):
            if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                self.scope.modules.add(node.args[0].value)
            else:
                self.scope.dynamic = True
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        for inner in ast.walk(node.annotation):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                with contextlib.suppress(SyntaxError):  # the text of a Literal or of an Annotated
                    self.visit(_parsed(inner.value, "annotation", "eval"))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and _FILE_NAME.fullmatch(node.value):
            self.scope.files.add(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in _foreign_decorators(node):
            self.visit(decorator)
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        for statement in node.body:
            self.visit(statement)

    visit_AsyncFunctionDef = visit_FunctionDef


def _digest(statements: list[ast.stmt]) -> str:
    """128 bits, hexadecimal, of the essence of some statements."""
    pieces: list[str] = []
    _write_essence(statements, pieces)
    return hashlib.sha256("\n".join(pieces).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _write_essence(value: Any, pieces: list[str]) -> None:
    """Append what of a syntax tree can change a result, node by node.

    Left out: documentation, annotations of function signatures, descriptions of pydantic fields, the engine's
    decorator, and empty fields (so that Python versions that add fields agree).
    """
    if isinstance(value, list):
        pieces.append("[")
        for item in value:
            if not _is_documentation(item):
                _write_essence(item, pieces)
        pieces.append("]")
        return
    if not isinstance(value, ast.AST):
        pieces.append(repr(value))
        return
    pieces.append(type(value).__name__)
    for name in value._fields:
        inner = getattr(value, name, None)
        if inner is None or inner == [] or name in ("ctx", "type_comment", "kind"):
            continue
        if isinstance(value, ast.arg) and name == "annotation":
            continue
        if isinstance(value, _FUNCTIONS):
            if name == "returns":
                continue
            if name == "decorator_list":
                inner = _foreign_decorators(value)
        elif name == "keywords" and isinstance(value, ast.Call) and getattr(value.func, "id", None) == "Field":
            inner = [keyword for keyword in inner if keyword.arg not in _DOCUMENTATION_KEYWORDS]
        pieces.append(name)
        _write_essence(inner, pieces)


def _with_parents(module: str) -> list[str]:
    """A module's name and those of the packages around it, outermost first."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _bound_names(statement: ast.stmt) -> list[str]:
    """The names that a plain assignment binds; nothing where it does more than bind names."""
    if isinstance(statement, ast.Assign):
        targets = list(statement.targets)
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return [statement.name.id] if type(statement).__name__ == "TypeAlias" else []  # type: ignore[attr-defined]
    names: list[str] = []
    for target in targets:
        elements = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
        if not all(isinstance(element, ast.Name) for element in elements):
            return []
        names.extend(element.id for element in elements if isinstance(element, ast.Name))
    return names


def _foreign_decorators(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> list[ast.expr]:
    return [decorator for decorator in node.decorator_list if not _is_engine(decorator)]


def _is_engine(decorator: ast.expr) -> bool:
    return (
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Name)
        and decorator.func.id == ENGINE_DECORATOR
    )


def _is_documentation(statement: Any) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and _mentions(statement.test, "__name__")


def _mentions(node: ast.expr, name: str) -> bool:
    return any(
        (isinstance(inner, ast.Name) and inner.id == name) or (isinstance(inner, ast.Attribute) and inner.attr == name)
        for inner in ast.walk(node)
    )
