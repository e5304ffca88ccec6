"""A home for a user whom the system does not know."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTLE = "import os; from storage.home import settle_user_home; settle_user_home(); print(os.environ.get('HOME'))"


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
