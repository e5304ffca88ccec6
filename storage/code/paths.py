"""Paths that code makes from its own place: `Path(__file__).parent / "words.txt"`, `files("tasks") / name`.

They are worked out from the syntax tree as far as they are constant. What is not constant (a variable, an f-string, a
pattern) leaves the folder that it is in.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_SAME = {
    *("resolve", "absolute", "expanduser", "realpath", "abspath", "normpath", "fspath", "as_posix", "as_file"),
    *("Path", "PurePath", "str"),
}
ANY = "**/*"

Value = TypeVar("Value")


@dataclass(frozen=True)
class Found:
    """A path, or where its last step is computed, the folder and the pattern of what it can be.

    `named` if its last step was a name and not the way up to a folder.
    """

    path: Path
    pattern: str = ""
    named: bool = False

    @property
    def exact(self) -> bool:
        return not self.pattern


class Evaluator:
    """Works expressions out inside one module."""

    def __init__(
        self,
        file: Path,
        package: Path,
        lookup: Callable[[str], ast.expr | None],
        folder_of: Callable[[str], Path | None],
    ) -> None:
        self.file, self.package = file, package
        self.lookup = lookup  # the value of a constant of the module, by name
        self.folder_of = folder_of  # the folder of a package of ours, by name
        self._inside: list[str] = []

    def path(self, node: ast.expr) -> Found | None:
        """The path that an expression makes from the module's own place; None if it makes none."""
        match node:
            case ast.Name(id="__file__"):
                return Found(self.file)
            case ast.Name(id=name):
                return self._constant(name, self.path)
            case ast.Attribute(value=value, attr="parent"):
                return self._up(self.path(value), 1)
            case ast.Subscript(value=ast.Attribute(value=value, attr="parents"), slice=ast.Constant(value=int(steps))):
                return self._up(self.path(value), steps + 1)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self._join(self.path(left), [right])
            case ast.Call(func=function, args=arguments):
                return self._call(function, arguments)
        return None

    def _call(self, function: ast.expr, arguments: list[ast.expr]) -> Found | None:
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = self.path(function.value) if isinstance(function, ast.Attribute) else None
        if owner is not None:
            if name in ("with_name", "with_stem"):
                return self._join(self._up(owner, 1), arguments)
            if name == "with_suffix":
                suffix = self._text(arguments[0]) if arguments else None
                if suffix is None or not owner.exact:
                    return Found(owner.path.parent, f"{owner.path.stem}*")
                return Found(owner.path.with_suffix(suffix), named=True)
            if name in ("joinpath", "__truediv__"):
                return self._join(owner, arguments)
            if name in ("glob", "rglob", "iterdir", "walk"):
                pattern = self._text(arguments[0]) if arguments and name in ("glob", "rglob") else None
                deep = name == "rglob" or pattern is None
                return Found(owner.path, ("**/" if deep else "") + (pattern or "*"))
            return owner if name in _SAME else None
        first = arguments[0] if arguments else None
        if name == "files" or name == "get_data":
            folder = self._package_folder(first)
            found = Found(folder) if folder is not None else None
            return self._join(found, arguments[1:]) if name == "get_data" else found
        if first is None:
            return None
        if name == "dirname":
            return self._up(self.path(first), 1)
        if name == "join" or name in ("Path", "PurePath"):
            return self._join(self.path(first), arguments[1:])
        if name in ("glob", "iglob", "listdir", "scandir", "walk"):
            found = self.path(first)
            return Found(found.path, ANY) if found is not None else None
        return self.path(first) if name in _SAME else None

    def _package_folder(self, node: ast.expr | None) -> Path | None:
        if node is None or (isinstance(node, ast.Name) and node.id in ("__package__", "__name__")):
            return self.package
        text = self._text(node)
        return self.folder_of(text) if text is not None else None

    def _join(self, found: Found | None, steps: list[ast.expr]) -> Found | None:
        for step in steps:
            if found is None or not found.exact:
                return found
            text = self._text(step)
            found = Found(found.path, _pattern(step)) if text is None else Found(_normal(found.path / text), named=True)
        return found

    def _up(self, found: Found | None, steps: int) -> Found | None:
        if found is None or not found.exact:
            return found
        path = found.path
        for _ in range(steps):
            path = path.parent
        return Found(path)

    def _text(self, node: ast.expr) -> str | None:
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Name(id=name):
                return self._constant(name, self._text)
        return None

    def _constant(self, name: str, evaluate: Callable[[ast.expr], Value | None]) -> Value | None:
        value = self.lookup(name)
        if value is None or name in self._inside:
            return None
        self._inside.append(name)
        try:
            return evaluate(value)
        finally:
            self._inside.pop()


def _pattern(step: ast.expr) -> str:
    """What a computed step can be: an f-string keeps its constant pieces."""
    if not isinstance(step, ast.JoinedStr):
        return ANY
    pieces = (part.value if isinstance(part, ast.Constant) else "*" for part in step.values)
    return "".join(str(piece) for piece in pieces)


def _normal(path: Path) -> Path:
    """Without `..`, and without asking the disk."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return Path(*parts)
