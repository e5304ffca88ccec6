"""The code behind a fingerprint is compared with what is saved now."""

import sys
from pathlib import Path

import pytest

from storage.fingerprint import FIRST_PARTY, Code, changed_code, fingerprint


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
