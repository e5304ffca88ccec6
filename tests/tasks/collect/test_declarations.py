"""Declarations in words: one form for the pairs and for what a user types."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.collect.declarations import MAX_ARGUMENTS, declaration_prompt, prompt_from_declaration, words


@pytest.mark.parametrize(
    ("identifier", "expected"),
    (
        ("add_edge", "add edge"),
        ("InvalidTokenError", "invalid token error"),
        ("HTTPServer", "http server"),
        ("parseHTTPHeader", "parse http header"),
        ("conv2d", "conv2d"),
        ("Base64Encoder", "base64 encoder"),
        ("_private__name_", "private name"),
        ("MAX_SIZE", "max size"),
        ("größe", "größe"),
        ("_", ""),
    ),
)
def test_identifiers_are_split_into_words(identifier: str, expected: str) -> None:
    assert words(identifier) == expected


@pytest.mark.parametrize(
    ("typed", "prompt"),
    (
        ("def add_edge(graph, node)", "def add edge ( graph , node )"),
        (
            "def add_edge(self, u: int, v=None, *rest, key, **data) -> None:",
            "def add edge ( u , v , rest , key , data )",
        ),
        ("async def fetch(url): ...", "def fetch ( url )"),
        ("class InvalidTokenError(jwt.DecodeError):", "class invalid token error ( decode error )"),
        ("class Graph", "class graph"),
        ("class Graph(object):", "class graph"),
        ("is_connected(graph)", "def is connected ( graph )"),
        ("Graph.add_edge(u, v)", "def graph . add edge ( u , v )"),
        ("np.linalg.norm(x)", "def norm ( x )"),
        ("InvalidTokenError(DecodeError)", "class invalid token error ( decode error )"),
        ("  def close()\n", "def close ( )"),
    ),
)
def test_what_a_user_types_becomes_a_prompt(typed: str, prompt: str) -> None:
    assert prompt_from_declaration(typed) == prompt


@pytest.mark.parametrize(
    "text",
    ("What is a graph?", "hello", "", "print(1, 2)", "a sentence (with a remark)", "def of the word", "f(x", "x\0(y)"),
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert prompt_from_declaration(text) == text


def test_long_declarations_are_cut() -> None:
    names = [f"name{letter}" for letter in "abcdefghijklmnop"]
    prompt = prompt_from_declaration(f"def f({', '.join(names)})")
    assert prompt.count(",") == MAX_ARGUMENTS - 1


NAMES = st.from_regex(r"[a-z][a-z_]{0,8}[a-z]", fullmatch=True).filter(lambda name: not ast_keyword(name))


def ast_keyword(name: str) -> bool:
    try:
        ast.parse(f"def {name}(): pass")
    except SyntaxError:
        return True
    return False


@given(name=NAMES, arguments=st.lists(NAMES.filter(lambda name: name not in ("self", "cls", "mcs")), unique=True))
def test_training_and_users_have_one_form(name: str, arguments: list[str]) -> None:
    line = f"def {name}({', '.join(arguments)})"
    node = ast.parse(line + ": pass").body[0]
    assert isinstance(node, ast.FunctionDef)
    assert (
        prompt_from_declaration(line) == declaration_prompt(node) == prompt_from_declaration(line.removeprefix("def "))
    )
