"""What a definition reaches: across modules, through re-exports, stars, decorators and registries."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from storage.fingerprint import Code


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


CIRCLES = {
    "two modules that have a name from each other": {
        "one": "from shop.two import f\n",
        "two": "from shop.one import f\n",
    },
    "a name from itself": {"one": "from shop.one import f\n"},
    "stars and names": {"one": "from shop.two import *\nfrom shop.two import f\n", "two": "from shop.one import f\n"},
    "a definition beside the import": {
        "one": "try:\n    from shop.two import f\nexcept ImportError:\n    def f():\n        return 1\n",
        "two": "from shop.one import f\n",
    },
}


@pytest.mark.parametrize("modules", CIRCLES.values(), ids=CIRCLES)
def test_re_exports_in_a_circle_count_their_modules(tmp_path: Path, modules: dict[str, str]) -> None:
    main = "from shop.one import f\ndef run():\n    return f()\n"
    found = reach(tmp_path, ("shop.main", "run"), main=main, **modules)
    assert len(found) > 1, "more than run itself"


def test_a_package_that_imports_its_own_module_is_followed_into_it(tmp_path: Path) -> None:
    (tmp_path / "shop" / "shelf").mkdir(parents=True)
    (tmp_path / "shop" / "shelf" / "__init__.py").write_text("from . import leaf\n")
    (tmp_path / "shop" / "shelf" / "leaf.py").write_text("def f():\n    return 1\n")
    main = "from shop import shelf\ndef run():\n    return shelf.leaf.f()\n"
    assert "shop.shelf.leaf.f" in reach(tmp_path, ("shop.main", "run"), main=main)


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
