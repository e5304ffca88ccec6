"""Fingerprints change with everything that a function can reach and with nothing else."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from storage.fingerprint import FIRST_PARTY, Code, changed_code

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


def reach(tmp_path: Path, root: tuple[str, str], **modules: str) -> Mapping[str, str]:
    package = tmp_path / "shop"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("")
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)
    return Code({"shop": tmp_path}).reach([root])


def test_statements_at_module_level_count_with_what_they_name(tmp_path: Path) -> None:
    plain = "TABLE = {}\ndef f():\n    return TABLE\ndef g():\n    return 1\ndef unrelated():\n    return 2\n"
    assert set(reach(tmp_path / "a", ("shop.m", "f"), m=plain)) == {"shop.m.f", "shop.m.TABLE"}
    found = reach(tmp_path / "b", ("shop.m", "f"), m=plain + "TABLE['g'] = g\n")
    assert set(found) == {"shop.m.f", "shop.m.TABLE", "shop.m.<import>", "shop.m.g"}


def test_a_registry_filled_by_decorators_counts_whole_even_in_another_module(tmp_path: Path) -> None:
    registry = "RULES = {}\ndef rule(f):\n    RULES[f.__name__] = f\n    return f\n"
    rules = "from shop.registry import rule\n@rule\ndef short(x):\n    return len(x) < 3\n"
    main = "import shop.rules\nfrom shop.registry import RULES\ndef run(x):\n    return RULES['short'](x)\n"
    before = reach(tmp_path / "a", ("shop.main", "run"), registry=registry, rules=rules, main=main)
    after = reach(tmp_path / "b", ("shop.main", "run"), registry=registry, rules=rules.replace("< 3", "< 4"), main=main)
    assert before != after


def test_what_cannot_be_resolved_counts_the_whole_module(tmp_path: Path) -> None:
    helper = "def a():\n    return 1\ndef b():\n    return 2\n"
    by_name = "import shop.helper as helper\ndef run(name):\n    return getattr(helper, name)()\n"
    assert "shop.helper" in reach(tmp_path / "a", ("shop.main", "run"), helper=helper, main=by_name)
    dynamic = "def a():\n    return 1\ndef run(name):\n    return globals()[name]()\n"
    assert "shop.main" in reach(tmp_path / "b", ("shop.main", "run"), main=dynamic)
    imported = "import importlib\ndef run():\n    return importlib.import_module('shop.helper').a()\n"
    assert "shop.helper" in reach(tmp_path / "c", ("shop.main", "run"), helper=helper, main=imported)


def test_re_exports_star_imports_and_relative_imports_are_followed(tmp_path: Path) -> None:
    modules = {
        "inner": "def leaf():\n    return 1\n",
        "middle": "from .inner import leaf\n",
        "star": "from shop.inner import *\n",
        "main": "from . import middle, star\ndef run():\n    return middle.leaf() + star.leaf()\n",
    }
    found = reach(tmp_path, ("shop.main", "run"), **modules)
    assert "shop.inner.leaf" in found


HELPER = "def f():\n    return 1\n"
FOLLOWED = {
    "an import inside a function": {
        "main": "def run():\n    import shop.helper as helper\n    return helper.f()\n",
    },
    "a star": {
        "main": "from shop.helper import *\ndef run():\n    return f()\n",
    },
    "a name put together": {
        "main": "import importlib\ndef run(name):\n    return importlib.import_module('shop.help' + name).f()\n",
    },
    "a name in an f-string": {
        "main": "import importlib\ndef run(name):\n    return importlib.import_module(f'shop.help{name}').f()\n",
    },
    "a call in an f-string": {
        "main": "from shop.helper import f\ndef run(name):\n    return f'{f()}'\n",
    },
    "an import that may fail": {
        "main": "try:\n    from shop.helper import f\nexcept ImportError:\n    f = None\ndef run():\n    return f()\n",
    },
    "the other branch of TYPE_CHECKING": {
        "main": "if TYPE_CHECKING:\n    f = 1\nelse:\n    from shop.helper import f\ndef run():\n    return f()\n",
    },
    "a star of a star": {
        "star": "from shop.second import *\n",
        "second": "from shop.helper import *\n",
        "main": "from shop.star import f\ndef run():\n    return f()\n",
    },
    "what a whole module imports": {
        "facade": "from shop.helper import f\n",
        "main": "import shop.facade as facade\ndef run(name):\n    return getattr(facade, name)()\n",
    },
    "a registration two imports away": {
        "helper": HELPER + "TABLE = {}\nTABLE['f'] = f\n",
        "setup": "import shop.helper\n",
        "main": "import shop.setup\ndef run():\n    return 1\n",
    },
    "a nested string annotation": {
        "main": "from shop.helper import f\nclass run:\n    rules: list['f'] = []\n",
    },
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_roundabout_ways_are_followed(name: str, tmp_path: Path) -> None:
    modules = {"helper": HELPER} | FOLLOWED[name]
    before = reach(tmp_path / "a", ("shop.main", "run"), **modules)
    modules["helper"] = modules["helper"].replace("return 1", "return 2")
    assert before != reach(tmp_path / "b", ("shop.main", "run"), **modules)


def test_a_template_beside_the_module_counts(tmp_path: Path) -> None:
    main = (
        "from pathlib import Path\nTEMPLATE = Path(__file__).parent / 'card.jinja'\ndef run():\n    return TEMPLATE\n"
    )
    found = []
    for text in ("one", "two"):
        (tmp_path / text / "shop").mkdir(parents=True)
        (tmp_path / text / "shop" / "card.jinja").write_text(text)
        found.append(reach(tmp_path / text, ("shop.main", "run"), main=main))
    assert found[0] != found[1]


def test_a_method_counts_its_class_and_a_missing_module_is_an_error(tmp_path: Path) -> None:
    assert "shop.main.A" in reach(
        tmp_path / "a", ("shop.main", "A.method"), main="class A:\n    def method(self): ...\n"
    )
    with pytest.raises(LookupError):
        reach(tmp_path / "b", ("shop.nowhere", "f"))


def test_what_was_saved_after_the_copy_was_taken_is_named(tmp_path: Path) -> None:
    copy, origin = tmp_path / "copy", tmp_path / "origin"
    for folder in (copy, origin):
        (folder / "tasks").mkdir(parents=True)
        (folder / "tasks" / "__init__.py").write_text("")
        (folder / "tasks" / "toy.py").write_text("def run():\n    return 1\ndef other():\n    return 2\n")
    roots = [("tasks.toy", "run")]
    reach = Code(dict.fromkeys(FIRST_PARTY, copy)).reached_from(roots)

    def changed(old: str, new: str) -> list[str]:
        file = origin / "tasks" / "toy.py"
        file.write_text(file.read_text().replace(old, new))
        return changed_code(reach, copy, origin, roots)

    assert changed("nothing", "nothing") == []
    assert changed("return 2", "return 3") == []
    assert changed("return 1", "return 4") == ["code tasks.toy.run changed"]
    (half_typed,) = changed("def other():", "def other(")
    assert half_typed.startswith(f"code {origin}/tasks/toy.py, line 3: the code does not parse")
