"""A snapshot holds the code as it was, is made once, and is never taken from who runs from it."""

import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from storage import snapshot

PRINTS = "from pathlib import Path\ndef value():\n    return 1, Path(__file__).with_name('words.txt').read_text()\n"
RUNS = (
    "import sys, time; from pathlib import Path\n"
    "from storage.snapshot import enter\n"
    "enter(Path(sys.argv[1]))\n"
    "print('entered', flush=True)\n"
    "sys.stdin.readline()\n"
    "from tasks.toy import value\n"
    "print(value(), flush=True)\n"
    "from storage.snapshot import original\n"
    "sys.stdin.readline()\n"
    "print(original(Path(sys.modules['tasks.toy'].__file__)), original(Path('/else')), flush=True)\n"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of four small packages; storage/ holds the snapshot's own code."""
    for package in snapshot.PACKAGES:
        (tmp_path / "code" / package).mkdir(parents=True)
        (tmp_path / "code" / package / "__init__.py").write_text("")
    (tmp_path / "code" / "storage" / "snapshot.py").write_text(Path(snapshot.__file__).read_text())
    (tmp_path / "code" / "tasks" / "toy.py").write_text(PRINTS)
    (tmp_path / "code" / "tasks" / "words.txt").write_text("words")
    return tmp_path / "code"


def start(checkout: Path, home: Path) -> "subprocess.Popen[str]":
    """A process that enters a snapshot, and reads the toy when it may go on."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", RUNS, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(checkout)},
    )
    assert process.stdout is not None and process.stdout.readline() == "entered\n"
    return process


def say(process: "subprocess.Popen[str]") -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_passwords_and_texts_beside_the_code_are_not_copied(checkout: Path, tmp_path: Path) -> None:
    (checkout / "deployments" / "data").mkdir(parents=True)
    (checkout / "deployments" / ".env").write_text("POSTGRES_PASSWORD=secret\n")
    (checkout / "deployments" / "data" / "text.txt").write_text("a large corpus")
    copy = snapshot.take(checkout, tmp_path / "copies")
    assert {path.name for path in copy.iterdir()} == {"flows", "model", "storage", "tasks"}


def test_a_process_runs_what_the_code_was_when_it_started(checkout: Path, tmp_path: Path) -> None:
    process = start(checkout, tmp_path / "home")
    (checkout / "tasks" / "toy.py").write_text("def value():\n    return 2\n")
    (checkout / "tasks" / "words.txt").write_text("others")
    assert say(process) == "(1, 'words')"
    assert say(process) == f"{checkout / 'tasks' / 'toy.py'} /else", "for messages"
    process.communicate()
    later = start(checkout, tmp_path / "home")
    assert say(later) == "2"
    later.communicate("\n")


def test_an_unchanged_checkout_is_copied_once(checkout: Path, tmp_path: Path) -> None:
    first = snapshot.take(checkout, tmp_path / "copies")
    copied = (first / "tasks" / "toy.py").stat().st_ino
    assert snapshot.take(checkout, tmp_path / "copies") == first
    assert (first / "tasks" / "toy.py").stat().st_ino == copied
    (checkout / "tasks" / "toy.py").write_text("X = 1\n")
    assert snapshot.take(checkout, tmp_path / "copies") != first


def test_a_damaged_copy_is_made_again(checkout: Path, tmp_path: Path) -> None:
    first = snapshot.take(checkout, tmp_path / "copies")
    (first / "tasks" / "toy.py").write_text("edited in the copy")
    assert (snapshot.take(checkout, tmp_path / "copies") / "tasks" / "toy.py").read_text() == PRINTS
    (first / "tasks" / "extra.py").write_text("")
    assert not (snapshot.take(checkout, tmp_path / "copies") / "tasks" / "extra.py").exists()


def test_old_copies_go_but_those_in_use_stay(checkout: Path, tmp_path: Path) -> None:
    process = start(checkout, tmp_path / "home")
    folder = tmp_path / "home" / "cache" / "code"
    held = next(folder.glob("*/")).name
    for number in range(snapshot.KEPT_COPIES + 3):
        (checkout / "tasks" / "toy.py").write_text(f"X = {number}\n")
        finished = start(checkout, tmp_path / "home")
        finished.communicate("\n\n")
    kept = {path.name for path in folder.iterdir() if path.is_dir()}
    assert held in kept
    assert len(kept) == snapshot.KEPT_COPIES + 1
    process.communicate("\n\n")


def test_a_new_copy_takes_over_what_is_compiled_of_the_same_source(checkout: Path, tmp_path: Path) -> None:
    process = start(checkout, tmp_path / "home")
    say(process)
    process.communicate("\n")
    (checkout / "flows" / "__init__.py").write_text("X = 1\n")
    new = snapshot.take(checkout, tmp_path / "home" / "cache" / "code")
    assert list((new / "tasks" / "__pycache__").glob("toy.*.pyc"))


@pytest.mark.parametrize(("seconds", "says"), [(2, "(3, 'words')"), (1, "(1, 'words')")])
def test_a_first_copy_takes_over_what_is_compiled_in_the_checkout(
    checkout: Path, tmp_path: Path, seconds: int, says: str
) -> None:
    """What is compiled says 3, so that it shows. A moment after a save it may be of an earlier text: not taken."""
    toy, saved = checkout / "tasks" / "toy.py", 1_700_000_000
    toy.write_text(PRINTS.replace("1,", "3,"))
    os.utime(toy, (saved, saved))
    compiled = py_compile.compile(str(toy))
    assert compiled is not None
    os.utime(compiled, (saved + seconds, saved + seconds))
    toy.write_text(PRINTS)
    os.utime(toy, (saved, saved))
    process = start(checkout, tmp_path / "home")
    assert say(process) == says
    process.communicate("\n")
