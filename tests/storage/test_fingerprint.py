"""The code behind a fingerprint is compared with what is saved now."""

from pathlib import Path

from storage.fingerprint import FIRST_PARTY, Code, changed_code


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
