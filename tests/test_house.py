"""The house rule on length: a function fits a screen and a file one sitting; what is longer is split by idea."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

FOLDERS = ("flows", "deployments", "tasks", "model", "storage", "tests", "benchmarks", "docs")
FUNCTION_LINES, FILE_LINES = 60, 400


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_function_has_more_than_60_lines_and_no_file_more_than_400(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, "the rule holds of nothing"
    assert [said for file in files for said in _too_long(file)] == []


def _too_long(file: Path) -> Iterator[str]:
    """A function counts from its `def` to its last line."""
    text, name = file.read_text(encoding="utf-8"), file.relative_to(ROOT)
    if (lines := len(text.splitlines())) > FILE_LINES:
        yield f"{name}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > FUNCTION_LINES:
            yield f"{name}:{node.lineno} {node.name}: {lines} lines"
