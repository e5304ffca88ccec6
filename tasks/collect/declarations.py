"""Declarations as prompts: `def add_edge(self, u, v)` of `class Graph` -> `def graph . add edge ( u , v )`.

Identifiers are split into lower-case words, so that a small model can copy what it reads: in the answer "Add an edge
between u and v." the words are tokens of the prompt. Measured once with models of about 1M parameters: 1.703 bits per
byte on held-out summaries against 1.737 with raw declarations, and 0.12 instead of 0.06 better than with another pair's
declaration.

One form for training and for users: `declaration_prompt` makes the prompts of the pairs, `prompt_from_declaration`
turns what a user types into the same form.
"""

import ast
import re
from collections.abc import Sequence

MAX_ARGUMENTS = 10  # of a prompt; the rest says little about what a function does

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z0-9]+")
_BARE_CALL = re.compile(r"((?:[^\W\d]\w*\.)*)([^\W\d]\w*)\s*(\(.*\))\s*(?:->.*)?:?", re.DOTALL)
_DEFINITION = re.compile(r"(?:async\s+def|def|class)\s")


def words(identifier: str) -> str:
    """`add_edge` -> `add edge`, `InvalidTokenError` -> `invalid token error`, `HTTPServer` -> `http server`."""
    found = _WORD.findall(identifier) if identifier.isascii() else identifier.replace("_", " ").split()
    return " ".join(found).lower()


def function_prompt(name: str, arguments: Sequence[str], owner: str = "") -> str:
    """The prompt for a function or method; `owner` is the method's class, `arguments` are names without self."""
    listed = " , ".join(filter(None, map(words, arguments[:MAX_ARGUMENTS])))
    path = f"{words(owner)} . {words(name)}" if owner else words(name)
    return f"def {path} ( {listed} )" if listed else f"def {path} ( )"


def class_prompt(name: str, bases: Sequence[str] = ()) -> str:
    """The prompt for a class; `bases` are the last names of its base classes."""
    listed = " , ".join(filter(None, map(words, bases[:MAX_ARGUMENTS])))
    return f"class {words(name)} ( {listed} )" if listed else f"class {words(name)}"


def declaration_prompt(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, owner: str = "") -> str:
    """The prompt of a definition in a syntax tree."""
    if isinstance(node, ast.ClassDef):
        return class_prompt(node.name, [name for base in node.bases if (name := _last_name(base)) != "object" and name])
    return function_prompt(node.name, argument_names(node.args), owner)


def argument_names(arguments: ast.arguments) -> list[str]:
    """Names in order of the declaration, without self and cls."""
    found = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if found and found[0] in ("self", "cls", "mcs"):
        found = found[1:]
    if arguments.vararg:
        found.append(arguments.vararg.arg)
    found += [argument.arg for argument in arguments.kwonlyargs]
    if arguments.kwarg:
        found.append(arguments.kwarg.arg)
    return found


def prompt_from_declaration(text: str) -> str:
    """A user's `def` or `class` line or bare `name(arguments)` as the prompt of a pair; other text as it is.

    `Graph.add_edge(u, v)` is a method: a capital makes the name before the dot a class, else it is a module.
    """
    line = text.strip()
    owner = ""
    if _DEFINITION.match(line):
        source = line
    elif bare := _BARE_CALL.fullmatch(line):
        path, name, arguments = bare.groups()
        before = path.rstrip(".").rpartition(".")[2]
        owner = before if before[:1].isupper() else ""
        source = f"class {name}{arguments}" if name[0].isupper() and not name.isupper() else f"def {name}{arguments}"
    else:
        return text
    for ending in ("", "\n pass", ": pass"):
        try:
            tree = ast.parse(source + ending)
        except (SyntaxError, ValueError):
            continue
        if len(tree.body) == 1 and isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return declaration_prompt(tree.body[0], owner)
    return text


def _last_name(base: ast.expr) -> str:
    """`collections.abc.Mapping[str, int]` -> `Mapping`; empty for what is not a name (a call, a keyword)."""
    if isinstance(base, ast.Subscript):
        base = base.value
    if isinstance(base, ast.Attribute):
        return base.attr
    return base.id if isinstance(base, ast.Name) else ""
