"""Fingerprints change with every edit that can change a result, and with no other."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from storage.fingerprint import Code

STAGE = '''
"""A stage."""
import shop.prices as prices
from shop.helpers import area as surface, Scale
from shop import registry
from shop.config import StageSettings
from tasks.engine.stage import stage

LIMIT = 3

def unrelated():
    return 1

def fallback(x):
    return x

@stage("name", parts=("a",))
def run(config: StageSettings, documents, *, context, default=fallback(LIMIT)):
    """Doc."""
    from shop.lazy import late
    def inner(x):
        return surface(x) + 1
    return inner(prices.total(late())) + Scale(2).apply(1)
'''
FILES = {
    "__init__.py": "",
    "stage.py": STAGE,
    "prices.py": (
        "RATE = 2\ndef total(x):\n    assert x > 0, 'none'\n    return x * RATE\ndef unused():\n    return 0\n"
    ),
    "helpers.py": (
        "import functools\n"
        "def area(x):\n    return x\n"
        "class Base:\n    def shared(self):\n        return 1\n"
        "class Scale(Base):\n    def __init__(self, k):\n        self.k = k\n"
        "    def apply(self, x):\n        return x * self.k\n"
    ),
    "lazy.py": "from shop.deep import wrap\n@wrap\ndef late():\n    return 7\n",
    "deep.py": "def wrap(f):\n    return f\n",
    "registry.py": "",
    "config.py": (
        "from typing import Annotated\nfrom pydantic import Field\n"
        "class Nested(StageConfig):\n    width: int = 3\n"
        "class StageSettings(StageConfig):\n"
        '    words: int = Field(3, ge=1, description="Words.")\n'
        "    nested: Nested = Nested()\n"
        "    def half(self):\n        if self.share is None:\n            raise KeyError(NAMES['share'])\n"
        "    share: Annotated[float, Field(description='A share.')] = 0.5\n"
        "NAMES = {'share': 1, 'words': 2}\n"
    ),
    "trainer.py": (
        "from shop.layers import block\ndef main():\n    return block()\nif __name__ == '__main__':\n    main()\n"
    ),
    "layers.py": "def block():\n    return 1\n",
}


def fingerprint(folder: Path, changes: dict[str, tuple[str, str]] | None = None) -> Mapping[str, str]:
    package = folder / "shop"
    package.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        if changes and name in changes:
            old, new = changes[name]
            assert old in text
            text = text.replace(old, new, 1)
        (package / name).write_text(text)
    roots = [("shop.stage", "run"), ("shop.config", "StageSettings"), ("shop.trainer", "*")]
    return Code({"shop": folder}).reach(roots)


CHANGING = {
    "body": ("stage.py", "+ 1", "+ 2"),
    "nested function": ("stage.py", "surface(x) + 1", "surface(x) * 1"),
    "constant": ("stage.py", "LIMIT = 3", "LIMIT = 4"),
    "default argument's function": ("stage.py", "    return x\n\n@", "    return -x\n\n@"),
    "import a.b as c": ("prices.py", "x * RATE", "x + RATE"),
    "constant of another module": ("prices.py", "RATE = 2", "RATE = 5"),
    "from x import y as z": ("helpers.py", "def area(x):\n    return x", "def area(x):\n    return -x"),
    "class method": ("helpers.py", "x * self.k", "x / self.k"),
    "base class": ("helpers.py", "return 1", "return 2"),
    "lazy import": ("lazy.py", "return 7", "return 8"),
    "decorator of another module": ("deep.py", "return f", "return lambda: f()"),
    "pydantic field type": ("config.py", "words: int", "words: float"),
    "nested pydantic field type": ("config.py", "width: int", "width: float"),
    "pydantic field type after a method": ("config.py", "Annotated[float", "Annotated[int"),
    "key that an error is made of": ("config.py", "NAMES['share']", "NAMES['words']"),
    "condition of an assertion": ("prices.py", "x > 0", "x > 1"),
    "code behind the trainer": ("layers.py", "return 1", "return 2"),
}


@pytest.mark.parametrize("name", CHANGING)
def test_a_change_that_can_matter_changes_the_fingerprint(name: str, tmp_path: Path) -> None:
    file, old, new = CHANGING[name]
    before, after = fingerprint(tmp_path / "a"), fingerprint(tmp_path / "b", {file: (old, new)})
    assert before != after
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    assert any(key.startswith("shop." + file.removesuffix(".py")) for key in changed)


UNCHANGING = {
    "comment": ("prices.py", "RATE = 2", "RATE = 2  # the usual rate"),
    "docstring": ("stage.py", '"""Doc."""', '"""Another."""'),
    "docstring removed": ("stage.py", '    """Doc."""\n', ""),
    "formatting": ("prices.py", "    return x * RATE", "    return (x\n        * RATE)"),
    "signature annotation": ("helpers.py", "def area(x):", "def area(x: int) -> int:"),
    "annotation of the stage": ("stage.py", "documents,", "documents: 'Artifact',"),
    "unrelated function of the same module": ("stage.py", "return 1", "return 2"),
    "unrelated function of another module": ("prices.py", "return 0", "return 9"),
    "description of a field": ("config.py", '"Words."', '"Words in all."'),
    "description of a field in an annotation": ("config.py", "'A share.'", "'A half.'"),
    "message of an assertion": ("prices.py", "'none'", "'nothing'"),
    "the engine's decorator": ("stage.py", 'parts=("a",)', 'parts=("a", "b")'),
}


@pytest.mark.parametrize("name", UNCHANGING)
def test_a_change_that_cannot_matter_leaves_the_fingerprint(name: str, tmp_path: Path) -> None:
    file, old, new = UNCHANGING[name]
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b", {file: (old, new)})
