"""The home: where it is, whether it can be written, and a home for a user whom the system does not know."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.errors import StoreError
from storage.home import home, prepare_home, ui_file

SETTLE = "import os; from storage.home import ensure_user_home; ensure_user_home(); print(os.environ.get('HOME'))"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take the number of a user who is not there")
@pytest.mark.parametrize(("given", "settled"), [(None, "/nowhere/cache/user"), ("/", "/")])
def test_a_user_without_a_home_folder_is_given_one(given: str | None, settled: str) -> None:
    environment = {"LLMILL_HOME": "/nowhere"} | ({"HOME": given} if given else {})

    # the interpreter may lie in root's own folder: what is needed of it is imported before
    code = f"import os, pathlib, tempfile\nimport storage.home\nos.setuid(54321)\n{SETTLE}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == settled, done.stderr


def test_a_home_folder_that_is_known_stays(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SETTLE], env={"HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path), done.stderr


def test_a_home_is_absolute_for_all_children_and_is_made_with_what_lies_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMILL_HOME", "deep/er/home")
    assert home() == tmp_path / "deep" / "er" / "home" and not home().exists()
    assert os.environ["LLMILL_HOME"] == str(home())
    for _ in range(2):
        assert prepare_home() == home() and list(home().iterdir()) == []
    monkeypatch.delenv("LLMILL_HOME")
    assert home() == tmp_path / ".llmill"
    assert ui_file(home()) == tmp_path / ".llmill" / "prefect" / "ui.json"


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no folder that nobody may write to")
def test_a_home_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("/sys/kernel", "/sys/kernel/below"):
        monkeypatch.setenv("LLMILL_HOME", place)
        with pytest.raises(StoreError, match=rf"{place}: the home cannot be written \(.*Set LLMILL_HOME to a folder"):
            prepare_home()


def test_a_home_whose_name_is_not_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMILL_HOME", os.fsdecode(b"/tmp/gr\xf6\xdfe"))
    with pytest.raises(StoreError, match="is not UTF-8"):
        home()
