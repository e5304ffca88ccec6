"""Ways in which code reaches other code and data without naming it, and edits that cannot change a result."""

from pathlib import Path

import pytest

from storage.errors import ConfigError
from storage.fingerprint import Code

NUMBER = "LIMIT = 3\n"
READ = ".read_text()\n"
BESIDE = "from pathlib import Path\nHERE = Path(__file__).parent\n"
REGISTRY = "KNOWN = []\ndef add(x):\n    KNOWN.append(x)\n    return x\n"
ASKS_REGISTRY = "import shop.other\nfrom shop.registry import KNOWN\ndef run():\n    return KNOWN\n"

# name: (files but for the empty shop/__init__.py, the file that is edited, old text, new text)
Case = tuple[dict[str, str], str, str, str]


def imports(source: str) -> Case:
    """A stage that comes to the module `shop.other` by this source; a constant there is edited."""
    return {"stage.py": source, "other.py": NUMBER}, "other.py", "3", "4"


def reads(source: str, file: str = "words.txt", module: str = "stage.py") -> Case:
    """A stage that comes to a data file by this source; the file is edited."""
    files = {module: source, file: "a"}
    if module != "stage.py":
        files |= {"stage.py": f"from shop.{module.removesuffix('.py').replace('/', '.')} import run\n"}
    return files, file, "a", "b"


def registered(other: str, registry: str = REGISTRY) -> Case:
    """A module that registers something when it is imported; what it registers is edited."""
    return {"stage.py": ASKS_REGISTRY, "registry.py": registry, "other.py": other}, "other.py", "3", "4"


SEEN: dict[str, Case] = {
    "a relative name": imports(
        "from importlib import import_module\ndef run():\n    return import_module('.other', __package__).LIMIT\n"
    ),
    "a keyword": imports(
        "from importlib import import_module\ndef run():\n    return import_module(name='shop.other').LIMIT\n"
    ),
    "a name in a constant": imports(
        "from importlib import import_module\nNAME = 'shop.other'\ndef run():\n    return import_module(NAME).LIMIT\n"
    ),
    "another name of import_module": imports(
        "from importlib import import_module as load\ndef run(n):\n    return load(n).LIMIT\n"
    ),
    "import_module as a value": imports(
        "import importlib\nload = importlib.import_module\ndef run(n):\n    return load(n).LIMIT\n"
    ),
    "__import__": imports("def run(n):\n    return __import__(n).LIMIT\n"),
    "resolve_name": imports("import pkgutil\ndef run():\n    return pkgutil.resolve_name('shop.other:LIMIT')\n"),
    "sys.modules": imports("import sys, shop.other\ndef run():\n    return sys.modules['shop.other'].LIMIT\n"),
    "a computed name with a beginning": imports(
        "from importlib import import_module\ndef run(n):\n    return import_module(f'shop.ot{n}').LIMIT\n"
    ),
    "a sum of strings": imports(
        "from importlib import import_module\ndef run(n):\n    return import_module('shop.' + n).LIMIT\n"
    ),
    "a package as a value": (
        {"stage.py": "from shop import sub\ndef run(n):\n    return getattr(sub, n).LIMIT\n", "sub/__init__.py": ""}
        | {"sub/other.py": NUMBER},
        *("sub/other.py", "3", "4"),
    ),
    "a program": imports(
        "import subprocess, sys\ndef run():\n    return subprocess.run([sys.executable, '-m', 'shop.other'])\n"
    ),
    "a call in an assignment": registered("from shop.registry import add\ndef f():\n    return 3\nf = add(f)\n"),
    "a call for its effect": registered("from shop.registry import KNOWN\n_ = KNOWN.append(3)\n"),
    "setattr in an assignment": registered("import shop.registry\n_ = setattr(shop.registry, 'KNOWN', 3)\n"),
    "a class body": registered("from shop.registry import KNOWN\nclass X:\n    KNOWN.append(3)\n"),
    "a subclass": registered(
        "from shop.registry import Base\nclass X(Base):\n    value = 3\n",
        "KNOWN = []\nclass Base:\n    def __init_subclass__(cls):\n        KNOWN.append(cls)\n",
    ),
    "a subclass of a subclass": registered(
        "from shop.registry import Middle\nclass X(Middle):\n    value = 3\n",
        "KNOWN = []\nclass Base:\n    def __init_subclass__(c):\n        KNOWN.append(c)\nclass Middle(Base): ...\n",
    ),
    "a metaclass": registered(
        "from shop.registry import Meta\nclass X(metaclass=Meta):\n    value = 3\n",
        "KNOWN = []\nclass Meta(type):\n    def __new__(m, *a):\n        KNOWN.append(a)\n        return type(*a)\n",
    ),
    "__subclasses__": (
        {
            "stage.py": "import shop.other\nfrom shop.base import Base\ndef run():\n    return Base.__subclasses__()\n",
            "base.py": "class Base: ...\n",
            "other.py": "from shop.base import Base\nclass X(Base):\n    value = 3\n",
        },
        *("other.py", "3", "4"),
    ),
    "a decorator that reads annotations": (
        {"stage.py": "from functools import singledispatch\n@singledispatch\ndef run(x: int):\n    return x\n"},
        *("stage.py", "int", "str"),
    ),
    "annotations that are read": (
        {"stage.py": "from typing import get_type_hints as t\ndef g(x: int): ...\ndef run():\n    return t(g)\n"},
        *("stage.py", "int", "str"),
    ),
    "a docstring that is read": (
        {"stage.py": "def g():\n    'one'\ndef run():\n    return g.__doc__\n"},
        *("stage.py", "one", "two"),
    ),
    "a description that is read": (
        {
            "stage.py": "from pydantic import BaseModel, Field\n"
            "class C(BaseModel):\n    x: int = Field(1, title='one')\n"
            "def run():\n    return C.model_fields['x'].title\n"
        },
        *("stage.py", "one", "two"),
    ),
    "a decorator called stage": (
        {
            "stage.py": "from shop.other import stage\n@stage(3)\ndef f():\n    return 1\ndef run():\n    return f()\n",
            "other.py": "def stage(n):\n    return lambda f: f\n",
        },
        *("stage.py", "stage(3)", "stage(4)"),
    ),
    "a computed file name": reads(BESIDE + "def run(n):\n    return (HERE / f'{n}.txt')" + READ),
    "a pattern": reads(BESIDE + "def run():\n    return list((HERE / 'packs').glob('*.txt'))\n", "packs/words.txt"),
    "a joined path": reads(BESIDE + "def run():\n    return (HERE / 'packs' / 'words.txt')" + READ, "packs/words.txt"),
    "another suffix": reads(
        "from pathlib import Path\ndef run():\n    return Path(__file__).with_suffix('.txt')" + READ, "stage.txt"
    ),
    "two dots": reads(
        "from pathlib import Path\ndef run():\n    return (Path(__file__).parent / '../words.txt')" + READ,
        module="sub/m.py",
    ),
    "the parent's parent": reads(
        "from pathlib import Path\ndef run():\n    return (Path(__file__).parents[1] / 'words.txt')" + READ,
        module="sub/m.py",
    ),
    "a resource": reads(
        "from importlib.resources import files\ndef run():\n    return (files('shop') / 'words.txt')" + READ
    ),
    "files of the package itself": reads(
        "from importlib.resources import files\ndef run():\n    return (files() / 'packs' / 'words.txt')" + READ,
        "packs/words.txt",
    ),
    "a joined path with a computed step": reads(
        "import os\ndef run(a):\n    return open(os.path.join(os.path.dirname(__file__), a, 'one', 'two'))\n",
        "packs/words.txt",
    ),
    "os.path": reads("import os\ndef run():\n    return open(os.path.join(os.path.dirname(__file__), 'words.txt'))\n"),
    "a name without an ending": reads(BESIDE + "def run():\n    return (HERE / 'WORDS')" + READ, "WORDS"),
    "a capital ending": reads(BESIDE + "def run():\n    return (HERE / 'w.TXT')" + READ, "w.TXT"),
    "a folder by its name": reads(
        BESIDE + "PACKS = HERE / 'packs'\ndef run():\n    return PACKS\n", "packs/a/words.txt"
    ),
    "a print to standard output": (
        {"stage.py": "def run():\n    print('one')\n"},
        *("stage.py", "one", "two"),
    ),
    "a log line that calls": (
        {"stage.py": "import logging\nL = logging.getLogger()\ndef run(x):\n    L.info(x.pop(1))\n"},
        *("stage.py", "pop(1)", "pop(2)"),
    ),
    "what the package does when it is imported": (
        {"__init__.py": "import os\nos.environ['X'] = '3'\n", "stage.py": "def run():\n    return 1\n"},
        *("__init__.py", "3", "4"),
    ),
    "a number in an error": (
        {"stage.py": "def run():\n    raise KeyError(1)\n"},
        *("stage.py", "1", "2"),
    ),
}
UNSEEN: dict[str, Case] = {
    "a file of a home that lies in the folder": (
        {
            "stage.py": BESIDE + "def run():\n    return list((HERE / 'all').glob('**/*.txt'))\n",
            **{"all/home/builds/a.txt": "a", "all/home/store/a.txt": "a", "all/words.txt": "a"},
        },
        *("all/home/store/a.txt", "a", "b"),
    ),
    "the wording of an error": (
        {"stage.py": "def run(x):\n    raise ValueError('bad', f'{x} is bad')\n"},
        *("stage.py", "bad", "worse"),
    ),
    "the message of an assertion": (
        {"stage.py": "def run(x):\n    assert x, 'bad'\n    return x\n"},
        *("stage.py", "'bad'", "f'worse {x}'"),
    ),
    "a log line": (
        {"stage.py": "import logging\nL = logging.getLogger('x')\ndef run(x):\n    L.info('bad')\n    return x\n"},
        *("stage.py", "'bad'", "'worse %s', x"),
    ),
    "a print to standard error": (
        {"stage.py": "import sys\ndef run(x):\n    print('bad', file=sys.stderr)\n    return x\n"},
        *("stage.py", "'bad'", "'worse'"),
    ),
    "a local annotation": ({"stage.py": "def run():\n    x = 3\n    return x\n"}, "stage.py", "x = 3", "x: int = 3"),
    "a bystander": (
        {
            "stage.py": "from shop.other import tell\ndef run(x):\n    tell(x)\n    return x\n",
            "other.py": "from storage.bystander import bystander\nSECONDS = 3\n@bystander\ndef tell(x):\n"
            "    return x, SECONDS\n",
        },
        *("other.py", "3", "4"),
    ),
    "a bystander beside its caller": (
        {
            "stage.py": "from storage.bystander import bystander\n@bystander\ndef tell(x):\n    return x, 3\n"
            "def run(x):\n    tell(x)\n    return x\n",
        },
        *("stage.py", "3", "4"),
    ),
    "the wording of an error by keyword": (
        {"stage.py": "def run(x):\n    raise Bad(message='bad')\n"},
        *("stage.py", "'bad'", "'worse'"),
    ),
    "a function beside statements": (
        {
            "stage.py": "from shop.other import T\ndef run():\n    return T\n",
            "other.py": "T = {}\nfor i in 'ab':\n    T[i] = i\n",
        },
        *("other.py", "T = {}", "def unrelated():\n    return 1\nT = {}"),
    ),
    "a data file that is not read": (
        {"stage.py": BESIDE + "def run():\n    return (HERE / 'words.txt')" + READ, "words.txt": "x", "other.txt": "a"},
        *("other.txt", "a", "b"),
    ),
    "a file beside a script's folder that is only put on the path": (
        {
            "stage.py": "import sys\n" + BESIDE + "sys.path.insert(0, str(HERE))\ndef run():\n    return 1\n",
            "home.db": "a",
        },
        *("home.db", "a", "b"),
    ),
}


def codes(folder: Path, case: Case) -> tuple[Code, Code]:
    """The code before and after the edit of a case."""
    files, edited, old, new = case
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    before = Code({"shop": folder})
    before.reach([("shop.stage", "run")])
    target = folder / "shop" / edited
    assert old in target.read_text()
    target.write_text(target.read_text().replace(old, new))
    return before, Code({"shop": folder})


@pytest.mark.parametrize("name", SEEN)
def test_an_edit_of_what_is_reached_is_seen(name: str, tmp_path: Path) -> None:
    before, after = codes(tmp_path, SEEN[name])
    assert before.reach([("shop.stage", "run")]) != after.reach([("shop.stage", "run")])


@pytest.mark.parametrize("name", UNSEEN)
def test_an_edit_that_cannot_change_a_result_is_not(name: str, tmp_path: Path) -> None:
    before, after = codes(tmp_path, UNSEEN[name])
    assert before.reach([("shop.stage", "run")]) == after.reach([("shop.stage", "run")])


def test_what_the_source_does_not_show_is_said(tmp_path: Path) -> None:
    before, _ = codes(tmp_path, SEEN["another name of import_module"])
    said = before.reached_from([("shop.stage", "run")]).unresolved
    assert said == ("shop.stage imports by a name that its source does not show: the whole package shop counts",)


def test_code_that_does_not_parse_names_file_and_line(tmp_path: Path) -> None:
    _, after = codes(tmp_path, ({"stage.py": "X = 1\ndef run(): ...\n"}, "stage.py", "def run(): ...", "def run("))
    with pytest.raises(ConfigError, match=r"stage\.py, line 2: the code does not parse"):
        after.reach([("shop.stage", "run")])
