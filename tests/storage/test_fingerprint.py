"""The code behind a fingerprint is compared with what is saved now."""

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from storage.code.remembered import KEPT_STATES, Remembered
from storage.code.walk import Definition, Reach, Walk
from storage.fingerprint import Code, changed_code, fingerprint
from storage.snapshot import PACKAGES


def test_what_was_saved_after_the_copy_was_taken_is_named(tmp_path: Path) -> None:
    copy, origin = tmp_path / "copy", tmp_path / "origin"
    for folder in (copy, origin):
        (folder / "tasks").mkdir(parents=True)
        (folder / "tasks" / "__init__.py").write_text("")
        (folder / "tasks" / "toy.py").write_text("def run():\n    return 1\ndef other():\n    return 2\n")
    roots = [("tasks.toy", "run")]
    reach = Code(dict.fromkeys(PACKAGES, copy)).reached_from(roots)

    def changed(old: str, new: str) -> list[str]:
        file = origin / "tasks" / "toy.py"
        file.write_text(file.read_text().replace(old, new))
        return changed_code(reach, copy, origin, roots)

    assert changed("nothing", "nothing") == []
    assert changed("return 2", "return 3") == []
    assert changed("return 1", "return 4") == ["code tasks.toy.run changed"]
    (half_typed,) = changed("def other():", "def other(")
    assert half_typed.startswith(f"code {origin}/tasks/toy.py, line 3: the code does not parse")


def test_code_is_walked_once_until_it_is_read_again(tmp_path: Path) -> None:
    toy, roots = tmp_path / "shop" / "toy.py", [("shop.toy", "run")]
    toy.parent.mkdir()
    toy.write_text("def run():\n    return 1\n")
    code = Code({"shop": tmp_path})
    reach = code.reached_from(roots)
    assert code.reached_from(iter(roots)) is reach and code.is_current()
    toy.write_text("def run():\n    return 10\n")
    assert not code.is_current() and Code({"shop": tmp_path}).reached_from(roots).code != reach.code


def test_packages_of_another_environment_are_not_the_users_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, own, stages = (tmp_path / name for name in ("site-packages", "own", "stages"))
    for folder, name in ((installed, "bought"), (own, "helper")):
        folder.mkdir()
        (folder / f"{name}.py").write_text("def f():\n    return 1\n")
        monkeypatch.syspath_prepend(str(folder))
    stages.mkdir()
    (stages / "of_mine.py").write_text("import bought, helper\ndef run():\n    return bought.f() + helper.f()\n")
    monkeypatch.syspath_prepend(str(stages))
    __import__("of_mine")
    try:
        assert set(fingerprint("of_mine", "run").code) == {"of_mine.run", "helper.f"}
    finally:
        for name in ("of_mine", "bought", "helper"):
            sys.modules.pop(name, None)


ROOTS = [("tasks.toy", "run")]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A package with a function that reads a list of words."""
    checkout = tmp_path / "checkout"
    (checkout / "tasks").mkdir(parents=True)
    (checkout / "tasks" / "__init__.py").write_text("")
    (checkout / "tasks" / "words.txt").write_text("one")
    (checkout / "tasks" / "toy.py").write_text(
        "from pathlib import Path\ndef run():\n    return Path(__file__).with_name('words.txt').read_text()\n"
    )
    (tmp_path / "home").mkdir()
    return checkout


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Reach]:
    """Every walk that was made."""
    made: list[Reach] = []
    from_roots = Walk.from_roots

    def noted(walk: Walk, roots: Iterable[Definition]) -> Reach:
        made.append(from_roots(walk, roots))
        return made[-1]

    monkeypatch.setattr(Walk, "from_roots", noted)
    return made


def reached(checkout: Path, home: Path) -> Reach:
    """What a process of its own finds."""
    return Code(dict.fromkeys(PACKAGES, checkout), (), Remembered(checkout, home)).reached_from(ROOTS)


def test_equal_sources_are_walked_once_whichever_process_asks(
    checkout: Path, tmp_path: Path, walks: list[Reach]
) -> None:
    first = reached(checkout, tmp_path / "home")
    assert set(first.code) == {"tasks.toy.run", "tasks.toy:words.txt"}
    assert reached(checkout, tmp_path / "home") == first == walks[0] and len(walks) == 1
    copy = checkout.rename(tmp_path / "elsewhere")
    assert reached(copy, tmp_path / "home").code == first.code and len(walks) == 1


@pytest.mark.parametrize("saved", ["toy.py", "words.txt", "new.py", "__init__.py"])
def test_whatever_is_saved_the_code_is_walked_again(
    saved: str, checkout: Path, tmp_path: Path, walks: list[Reach]
) -> None:
    first = reached(checkout, tmp_path / "home")
    code = Code(dict.fromkeys(PACKAGES, checkout), (), Remembered(checkout, tmp_path / "home"))
    assert code.reached_from(ROOTS) == first and code.is_current()
    file = checkout / "tasks" / saved
    file.write_text((file.read_text() if file.exists() else "").replace("one", "two") + "\n\nprint(1)\n")
    assert not code.is_current()
    now = reached(checkout, tmp_path / "home")
    assert len(walks) == 2 and (now.code != first.code) == (saved != "new.py")


def test_what_is_saved_during_the_walk_is_not_remembered(checkout: Path, tmp_path: Path, walks: list[Reach]) -> None:
    code = Code(dict.fromkeys(PACKAGES, checkout), (), Remembered(checkout, tmp_path / "home"))
    (checkout / "tasks" / "words.txt").write_text("two")
    early = code.reached_from(ROOTS)
    (checkout / "tasks" / "words.txt").write_text("one")
    assert reached(checkout, tmp_path / "home").code != early.code and len(walks) == 2


def test_damaged_memory_is_not_believed_and_old_memory_goes(checkout: Path, tmp_path: Path, walks: list[Reach]) -> None:
    first = reached(checkout, tmp_path / "home")
    kept = tmp_path / "home" / "cache" / "reach"
    (file,) = kept.glob("*/*.json")
    for damaged in ("", "{}", "[]", '{"code": {}, "files": ["gone"], "unresolved": []}'):
        file.write_text(damaged)
        assert reached(checkout, tmp_path / "home") == first
    for state in range(2 * KEPT_STATES):
        (checkout / "tasks" / "words.txt").write_text(f"state {state}")
        reached(checkout, tmp_path / "home")
    assert len(list(kept.iterdir())) == KEPT_STATES
    walked = len(walks)
    reached(checkout, tmp_path / "home")
    assert len(walks) == walked


def test_no_home_is_made_to_remember_in(checkout: Path, tmp_path: Path) -> None:
    assert reached(checkout, tmp_path / "none").code and not (tmp_path / "none").exists()
