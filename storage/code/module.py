"""One parsed module: its definitions, its imports, and what it does besides."""

import ast
from collections.abc import Callable
from pathlib import Path

from storage.code.essence import Essence, digest_of_statements
from storage.code.names import DEFINITIONS, Aspect, Imports, Reader, Scope, bound_names, mentions, parsed
from storage.code.paths import Evaluator
from storage.errors import ConfigError
from storage.snapshot import original

WHOLE = "*"  # as a definition's name: the whole module
RUN = "<import>"  # as a definition's name: what importing the module does besides defining


class Module:
    """A source file's syntax tree, reduced to what can change a result."""

    def __init__(
        self, name: str, path: Path, package: bool, source: bytes, aspects: frozenset[Aspect] = frozenset()
    ) -> None:
        self.name, self.path, self.package = name, path, package
        self.source = source
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports = Imports()
        self.acting: list[ast.stmt] | None = None  # the statements that do more than define, once it is known
        self._scopes: dict[str, Scope] = {}
        self._evaluator: Evaluator | None = None
        self._digests: dict[tuple[str, frozenset[Aspect]], str] = {}
        self._fuller: dict[frozenset[Aspect], Module] = {}
        self.bystanders: set[str] = set()
        self.tree = self._essence(aspects)
        for statement in self.tree.body:
            self._read(statement)

    def _essence(self, aspects: frozenset[Aspect]) -> ast.Module:
        try:
            tree: ast.Module = parsed(self.source, self.path.name)
        except (SyntaxError, ValueError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            what = error.msg if isinstance(error, SyntaxError) else str(error)
            raise ConfigError(f"{original(self.path)}{line}: the code does not parse ({what})") from None
        imports = Imports()
        waiting: list[ast.stmt] = list(tree.body)
        while waiting:  # decorators and loggers are imported at the top, though perhaps inside an `if` or a `try`
            node = waiting.pop()
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                imports.read(node, self.name, self.package)
            elif isinstance(node, (ast.If, ast.Try)):
                waiting.extend(inner for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.stmt))
        essence = Essence(imports, aspects)
        stripped: ast.Module = essence.visit(tree)
        self.bystanders = essence.bystanders
        return stripped

    def _read(self, statement: ast.stmt) -> None:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            self.imports.read(statement, self.name, self.package)
        elif isinstance(statement, DEFINITIONS):
            self.definitions.setdefault(statement.name, []).append(statement)
        elif names := bound_names(statement):
            for name in names:
                self.definitions.setdefault(name, []).append(statement)
        elif isinstance(statement, ast.If) and mentions(statement.test, "TYPE_CHECKING"):
            for inner in (*statement.body, *statement.orelse):
                self._read(inner)
        elif not isinstance(statement, ast.Pass):
            self._read_loose(statement)

    def _read_loose(self, statement: ast.stmt) -> None:
        """A statement that does something; what it imports and binds on the way can be named elsewhere."""
        for node in ast.walk(statement):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imports.read(node, self.name, self.package)
            elif isinstance(node, DEFINITIONS):
                self.definitions.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.definitions.setdefault(node.id, []).append(statement)

    @property
    def top_folder(self) -> Path:
        """The folder of the top-level package, or of the script, that holds the module."""
        folder = self.path.parent
        for _ in range(self.name.count(".") - (not self.package)):
            folder = folder.parent
        return folder

    def scope(self, name: str) -> Scope:
        """What a definition refers to; with RUN, the statements that do more than define."""
        if name not in self._scopes:
            scope = Scope()
            reader = Reader(scope, self.name, self.package, self.definitions, self.imports)
            for statement in self._statements(name):
                reader.visit(statement)
            self._scopes[name] = scope
        return self._scopes[name]

    def digest(self, name: str, aspects: frozenset[Aspect]) -> str:
        """The digest of a definition, with the aspects of it that code reads at run time. Worked out once: most
        definitions are reached from several stages."""
        if name == RUN:
            aspects = frozenset()
        if (name, aspects) not in self._digests:
            whole = self._with(aspects) if aspects else self
            self._digests[name, aspects] = digest_of_statements(whole._statements(name))
        return self._digests[name, aspects]

    def _with(self, aspects: frozenset[Aspect]) -> "Module":
        """The same module, less reduced."""
        if aspects not in self._fuller:
            self._fuller[aspects] = Module(self.name, self.path, self.package, self.source, aspects)
        return self._fuller[aspects]

    def _statements(self, name: str) -> list[ast.stmt]:
        if name == WHOLE:
            return self.tree.body
        return (self.acting or []) if name == RUN else self.definitions.get(name, [])

    def evaluator(self, folder_of: Callable[[str], Path | None]) -> Evaluator:
        """Works out paths that the module makes from its own place; `folder_of` finds a package's folder."""
        if self._evaluator is None:
            self._evaluator = Evaluator(self.path, self.path.parent, self._constant, folder_of)
        return self._evaluator

    def _constant(self, name: str) -> ast.expr | None:
        statements = self.definitions.get(name, [])
        if len(statements) == 1 and isinstance(statements[0], (ast.Assign, ast.AnnAssign)):
            return statements[0].value
        return None
