"""What of a module's syntax tree can change a result: the essence that fingerprints are made of.

Left out, and not followed either:

- comments, formatting, docstrings, annotations of functions and of local variables;
- descriptions of pydantic fields, and the engine's own decorator;
- the wording of errors: strings in a `raise` statement, the message of an `assert`;
- statements that only log: a call of a `logging` logger or of `print(..., file=sys.stderr)`, where no argument is a
  call itself;
- definitions marked `@bystander` (storage/bystander.py).

Where code reads its own annotations, docstrings or descriptions, they count for the whole module (`Aspect`). A
function with a decorator that may read its annotations (`singledispatch`, `validate_call`) keeps its annotations.
"""

import ast
import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from storage.code.names import Aspect, Imports, is_docstring, visit_method

ENGINE_DECORATOR = ("tasks.engine.stage", "stage")  # it decides what is built, not what comes out
BYSTANDER = ("storage.bystander", "bystander")

_NO_MEANING = {"ctx", "type_comment", "kind"}  # fields of nodes that hold nothing that others do not
_DOCUMENTATION_KEYWORDS = {"description", "title", "examples"}
_LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_BLIND_DECORATORS = {  # they do not read annotations
    *("staticmethod", "classmethod", "property", "setter", "abstractmethod", "override", "overload", "cache"),
    *("lru_cache", "cached_property", "contextmanager", "asynccontextmanager", "wraps", "total_ordering"),
    *("fixture", "field_validator", "model_validator", "compile", "no_grad", "inference_mode"),
}


def digest_of_statements(statements: Iterable[ast.AST]) -> str:
    """128 bits, hexadecimal, of the essence of some statements."""
    pieces: list[str] = []
    _write(list(statements), pieces.append)
    return hashlib.sha256("\n".join(pieces).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _write(value: Any, append: Callable[[str], None]) -> None:
    """Write a tree node by node; empty fields are left out, so that Python versions that add fields agree.

    A plan writes hundreds of thousands of nodes and values: each is one call at most.
    """
    if isinstance(value, list):
        append("[")
        for item in value:
            _write(item, append)
        append("]")
        return
    if not isinstance(value, ast.AST):
        append(repr(value))
        return
    kind: Any = type(value)
    append(kind.__name__)
    for name in _fields(kind):
        inner = getattr(value, name, None)
        if not inner and (inner is None or inner == []):
            continue
        append(name)
        if type(inner) is str:  # a name: most of what is written
            append(repr(inner))
        else:
            _write(inner, append)


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(name for name in kind._fields if name not in _NO_MEANING)


class Essence(ast.NodeTransformer):
    """Takes out of a module's tree what can't change a result, except the aspects that its code reads."""

    def __init__(self, imports: Imports, aspects: frozenset[Aspect] = frozenset()) -> None:
        self.imports = imports
        self.aspects = aspects
        self.loggers: set[str] = set()
        self.bystanders: set[str] = set()  # names of the definitions taken out
        self._in_function = False
        self._describes = "Field" in imports.bound

    def visit(self, node: ast.AST) -> Any:
        visitor: Any = type(self)
        kind: Any = type(node)
        return visit_method(visitor, kind)(self, node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Without descriptions there is nothing in an expression to take out: half the time saved."""
        return node if isinstance(node, ast.expr) and not self._describes else super().generic_visit(node)

    def visit_Module(self, node: ast.Module) -> ast.Module:
        self.loggers = {name for statement in node.body for name in _logger_names(statement)}
        self.generic_visit(node)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if is_docstring(node):
            return node if "docstrings" in self.aspects else None
        return None if self._only_logs(node.value) else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            _Wordless().visit(node.exc)
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if self._in_function and isinstance(node.target, ast.Name) and "annotations" not in self.aspects:
            if node.value is None:
                return None
            assign = ast.Assign(targets=[node.target], value=node.value)
            return self.generic_visit(ast.copy_location(assign, node))
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if getattr(node.func, "id", None) == "Field" and "descriptions" not in self.aspects:
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in _DOCUMENTATION_KEYWORDS]
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST | None:
        if self._is_bystander(node):
            return None
        node.decorator_list = [one for one in node.decorator_list if not self._is_engine(one)]
        if "annotations" not in self.aspects and not any(map(_may_read_annotations, node.decorator_list)):
            node.returns = None
            every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
            for argument in filter(None, every):
                argument.annotation = None
        outer, self._in_function = self._in_function, True
        self.generic_visit(node)
        self._in_function = outer
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST | None:
        if self._is_bystander(node):
            return None
        outer, self._in_function = self._in_function, False
        self.generic_visit(node)
        self._in_function = outer
        return node

    def _is_bystander(self, node: Any) -> bool:
        if not any(self.imports.means(decorator, BYSTANDER) for decorator in node.decorator_list):
            return False
        self.bystanders.add(node.name)
        return True

    def _is_engine(self, decorator: ast.expr) -> bool:
        return isinstance(decorator, ast.Call) and self.imports.means(decorator.func, ENGINE_DECORATOR)

    def _only_logs(self, call: ast.expr) -> bool:
        """Whether an expression statement reports something and does nothing else."""
        if not isinstance(call, ast.Call):
            return False
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        acting = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
        if any(isinstance(inner, acting) for value in values for inner in ast.walk(value)):
            return False
        if isinstance(call.func, ast.Name):
            target = next((keyword.value for keyword in call.keywords if keyword.arg == "file"), None)
            return call.func.id == "print" and target is not None and ast.unparse(target) == "sys.stderr"
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in _LOG_METHODS:
            return False
        owner = call.func.value
        if isinstance(owner, ast.Name) and owner.id in self.loggers:
            return True
        return isinstance(owner, ast.Name) and any(
            (one.module, one.name) == ("logging", None) for one in self.imports.bound.get(owner.id, ())
        )


class _Wordless(ast.NodeTransformer):
    """Empties the strings of an error's message; what is between them stays."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.copy_location(ast.Constant(""), node) if isinstance(node.value, str) else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        return node  # a key, not a word

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.args = [self.visit(value) for value in node.args]
        for keyword in node.keywords:
            keyword.value = self.visit(keyword.value)
        return node


def _logger_names(statement: ast.stmt) -> list[str]:
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
        return []
    made_by = ast.unparse(statement.value.func).rpartition(".")[2]
    return [target.id for target in statement.targets if isinstance(target, ast.Name) and made_by == "getLogger"]


def _may_read_annotations(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).rpartition(".")[2] not in _BLIND_DECORATORS
