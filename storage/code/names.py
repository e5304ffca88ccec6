"""The names that code uses: its imports, and what a definition refers to."""

import ast
import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

PARSE_ATTEMPTS = 10

Aspect = Literal["docstrings", "annotations", "descriptions"]  # what code may read of itself
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)

MODULE_NAME = re.compile(r"\.{0,2}[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[\w.]+)?")
FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_./-]{0,98}\.[A-Za-z0-9]{1,8}")
BUILTINS = {"globals", "locals", "eval", "exec", "vars"}  # they find names in the module itself
IMPORTERS = {  # functions of the standard library that import a module by name
    *("import_module", "resolve_name", "run_module", "run_path", "exec_module", "iter_modules", "walk_packages"),
    *("spec_from_file_location", "SourceFileLoader", "entry_points"),
}
_READERS: dict[str, Aspect] = {  # functions of the standard library that read what else is left out
    "getdoc": "docstrings",
    **dict.fromkeys(("get_type_hints", "get_annotations", "signature", "getfullargspec"), "annotations"),
}


def parsed(source: str | bytes, name: str, mode: str = "exec") -> Any:
    """The syntax tree of a source text; raises SyntaxError with that name."""
    for _ in range(PARSE_ATTEMPTS - 1):
        with contextlib.suppress(SystemError):  # CPython before 3.11.9: two threads that parse at once (gh-106905)
            return ast.parse(source, name, mode)
    return ast.parse(source, name, mode)


@dataclass(frozen=True)
class Import:
    """What an import binds: a module, or a name inside one."""

    module: str
    name: str | None = None


@dataclass
class Imports:
    """The imports of a module or a definition: names bound, modules whose names all come in, modules run."""

    bound: dict[str, list[Import]] = field(default_factory=dict)  # several: `try: import a as x; except: ...`
    stars: list[str] = field(default_factory=list)
    run: set[str] = field(default_factory=set)

    def read(self, node: ast.Import | ast.ImportFrom, module: str, package: bool) -> None:
        """Note what an import statement in `module` binds and runs."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                self.bound.setdefault(alias.asname or name, []).append(Import(name))
                self.run.add(alias.name)
            return
        source = absolute(node.module or "", node.level, module, package)
        self.run.add(source)
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(source)
            else:
                self.bound.setdefault(alias.asname or alias.name, []).append(Import(source, alias.name))
                self.run.add(f"{source}.{alias.name}")

    def means(self, name: ast.expr, target: tuple[str, str]) -> bool:
        """Whether an expression is this name of this module, under any name it was imported as."""
        if isinstance(name, ast.Name):
            return any((one.module, one.name) == target for one in self.bound.get(name.id, ()))
        if isinstance(name, ast.Attribute) and name.attr == target[1] and isinstance(name.value, ast.Name):
            modules = (
                f"{one.module}.{one.name}" if one.name else one.module for one in self.bound.get(name.value.id, ())
            )
            return target[0] in modules
        return False


def absolute(name: str, level: int, module: str, package: bool) -> str:
    """The full name of a module that is named relative to `module`, `level` dots up."""
    if not level:
        return name
    parts = module.split(".")
    return ".".join([*parts[: len(parts) - level + (1 if package else 0)], *([name] if name else [])])


@dataclass
class Scope:
    """What a definition refers to."""

    names: set[tuple[str, ...]] = field(default_factory=set)  # dotted names in use
    imports: Imports = field(default_factory=Imports)  # the imports inside it
    strings: set[str] = field(default_factory=set)  # constants that may name a module
    prefixes: set[str] = field(default_factory=set)  # beginnings of f-strings and of sums that may name one
    files: set[str] = field(default_factory=set)  # constants that look like the name of a file beside the module
    paths: list[ast.expr] = field(default_factory=list)  # expressions that may be a path made from `__file__`
    aspects: set[Aspect] = field(default_factory=set)
    reads_fields: bool = False  # of a pydantic model, and their `description`s
    described: bool = False
    looks_up_names: bool = False
    looks_up_modules: bool = False
    reads_loaded: bool = False  # `sys.modules`
    asks_subclasses: bool = False


@cache
def visit_method(visitor: Any, node: Any) -> Callable[[Any, Any], Any]:
    """What a visitor does with nodes of a type. A plan visits hundreds of thousands; the library asks for each."""
    found: Callable[[Any, Any], Any] = getattr(visitor, f"visit_{node.__name__}", visitor.generic_visit)
    return found


class Reader(ast.NodeVisitor):
    """Fills a scope from a syntax tree whose essence is left."""

    def __init__(self, scope: Scope, module: str, package: bool, defined: Iterable[str], imports: Imports) -> None:
        self.scope = scope
        self.module, self.package = module, package
        self.defined = defined
        self.imports = imports

    def visit(self, node: ast.AST) -> Any:
        visitor: Any = type(self)
        kind: Any = type(node)
        return visit_method(visitor, kind)(self, node)

    def generic_visit(self, node: ast.AST) -> None:
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                self.visit(value)
            elif isinstance(value, list):
                for item in value:
                    if isinstance(item, ast.AST):
                        self.visit(item)

    def visit_Name(self, node: ast.Name) -> None:
        self.scope.names.add((node.id,))
        if node.id == "__file__":
            self.scope.paths.append(node)
        if node.id not in self.defined and node.id not in self.imports.bound:
            self.scope.looks_up_names |= node.id in BUILTINS
            self.scope.looks_up_modules |= node.id == "__import__"
        for one in self._bound(node.id):
            self._use(one.name or "")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.scope.paths.append(node)
        attributes: list[str] = []
        value: ast.expr = node
        while isinstance(value, ast.Attribute):
            attributes.append(value.attr)
            value = value.value
        self.scope.asks_subclasses |= "__subclasses__" in attributes
        self.scope.reads_fields |= not {"model_fields", "model_json_schema"}.isdisjoint(attributes)
        self.scope.described |= not {"description", "title", "examples", "model_json_schema"}.isdisjoint(attributes)
        self.scope.aspects |= {"docstrings"} if "__doc__" in attributes else set()
        self.scope.aspects |= {"annotations"} if "__annotations__" in attributes else set()
        if isinstance(value, ast.Name):
            self.scope.names.add((value.id, *reversed(attributes)))
            self.scope.reads_loaded |= (value.id, attributes[-1]) == ("sys", "modules")
            for one in self._bound(value.id):
                for name in (one.name or "", *attributes):
                    self._use(name)
        else:
            self.visit(value)

    def _bound(self, name: str) -> list[Import]:
        return [*self.scope.imports.bound.get(name, ()), *self.imports.bound.get(name, ())]

    def _use(self, name: str) -> None:
        """Something imported, or inside something imported, is used under this name."""
        self.scope.looks_up_modules |= name in IMPORTERS
        if name in _READERS:
            self.scope.aspects.add(_READERS[name])

    def visit_Import(self, node: ast.Import) -> None:
        self.scope.imports.read(node, self.module, self.package)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.scope.imports.read(node, self.module, self.package)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self.scope.paths.append(node)
        if isinstance(node.op, ast.Add) and isinstance(node.left, ast.Constant) and isinstance(node.left.value, str):
            self.scope.prefixes.add(node.left.value)
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        first = node.values[0] if node.values else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            self.scope.prefixes.add(first.value)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.scope.paths.append(node)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        for inner in ast.walk(node.annotation):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                with contextlib.suppress(SyntaxError):  # the text of a Literal or of an Annotated
                    self.visit(parsed(inner.value, "annotation", "eval"))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            if MODULE_NAME.fullmatch(node.value):
                self.scope.strings.add(node.value)
            if FILE_NAME.fullmatch(node.value):
                self.scope.files.add(node.value)


def dotted_name(expression: ast.expr) -> tuple[str, ...]:
    """`a.b.c` as its parts; empty for anything else."""
    parts: list[str] = []
    while isinstance(expression, ast.Attribute):
        parts.append(expression.attr)
        expression = expression.value
    return (expression.id, *reversed(parts)) if isinstance(expression, ast.Name) else ()


def is_docstring(statement: Any) -> bool:
    """Whether a statement is nothing but a string."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def is_main_guard(statement: ast.stmt) -> bool:
    """Whether a statement is `if __name__ == "__main__":`."""
    return isinstance(statement, ast.If) and mentions(statement.test, "__name__")


def mentions(node: ast.AST, name: str) -> bool:
    """Whether a name is used in a tree, alone or as an attribute."""
    return any(
        (isinstance(inner, ast.Name) and inner.id == name) or (isinstance(inner, ast.Attribute) and inner.attr == name)
        for inner in ast.walk(node)
    )


def bound_names(statement: ast.stmt) -> list[str]:
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
