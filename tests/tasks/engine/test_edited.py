"""Code that is saved while a stage of a script of the user's runs: nothing of it is kept under a key it is not of."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HELPERS = "def factor():\n    return 2\n"
SCRIPT = """
    import os, sys, time
    from pathlib import Path
    from helpers import factor
    from storage.canonical import digest_file
    from storage.store.artifacts import StoredFile
    from storage.store.local import Store
    from tasks.engine.config import StageConfig
    from tasks.engine.context import Execution, Job
    from tasks.engine.builder import Builder
    from tasks.engine.stage import engine_in_force, stage

    FLAGS = Path(os.environ["FLAGS"])

    class DoubleConfig(StageConfig):
        numbers: tuple[int, ...] = (1, 2, 3)

    def double(config, inputs, out):
        (FLAGS / "began").touch()
        while (FLAGS / "wait").exists():
            time.sleep(0.02)
        from late import more
        (out / "n.txt").write_text(str(config["number"] * factor() + more()))
        return {}

    @stage("double", parts=("out",))
    def doubled(config, *, context):
        jobs = [Job(str(number), {"number": number}) for number in config.numbers]
        for result in context.map(double, jobs):
            (context.part("out") / f"{result.name}.txt").write_text(result.files["n.txt"].path.read_text())
        return {}

    if __name__ == "__main__":
        with Builder(Store(Path(sys.argv[1])), Execution(workers=int(sys.argv[2]))) as builder:
            with engine_in_force(builder):
                made = doubled(DoubleConfig())
        result = builder.results[0]
        print(result.outcome, made["out"].digest[:16], result.record.get("doubtful"))
"""


class Folder:
    """A folder with a script, its helper, one more that is imported late, and a home."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.flags = path / "flags"
        self.flags.mkdir(parents=True)
        (path / "mine.py").write_text(textwrap.dedent(SCRIPT))
        (path / "helpers.py").write_text(HELPERS)
        (path / "late.py").write_text("def more():\n    return 1\n")

    def start(self, workers: int) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "mine.py", str(self.path / "home"), str(workers)],
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "FLAGS": str(self.flags), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, workers: int = 1) -> list[str]:
        out, err = self.start(workers).communicate(timeout=120)
        assert out, err
        return out.split(maxsplit=2)


EDITS = {
    "a module imported before": ("helpers.py", "2", "7"),
    "a module imported later": ("late.py", "1", "5"),
    "the job itself": ("mine.py", "* factor()", "* -factor()"),
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", EDITS)
def test_an_edit_while_shards_are_worked_on_is_never_served(name: str, workers: int, tmp_path: Path) -> None:
    file, old, new = EDITS[name]
    edited, fresh = Folder(tmp_path / "edited"), Folder(tmp_path / "fresh")
    (edited.flags / "wait").touch()
    process = edited.start(workers)
    while not (edited.flags / "began").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    for folder in (edited, fresh):
        source = folder.path / file
        source.write_text(source.read_text().replace(old, new))
    (edited.flags / "wait").unlink()
    outcome, _, doubtful = process.communicate(timeout=120)[0].split(maxsplit=2)
    assert outcome == "built" and "saved meanwhile" in doubtful, "the result is there, and said to be doubtful"
    again = edited.run(workers)
    assert again[:2] == ["built", fresh.run(workers)[1]]
    assert edited.run(workers)[0] == "reused"


def test_an_edit_after_the_import_and_before_the_build_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "edited")
    script, main = folder.path / "mine.py", 'if __name__ == "__main__":'
    touch = '\n    time.sleep(0.1)\n    Path("helpers.py").touch()'
    script.write_text(script.read_text().replace(main, main + touch))
    _, err = folder.start(1).communicate(timeout=120)
    assert "helpers.py: saved after this process had imported stage double" in err


PLAN_AFTER_AN_EDIT = """
    from tasks.engine.planner import Options, Planner
    Path("helpers.py").write_text(Path("helpers.py").read_text().replace("2", "7"))
    planner = Planner(Store(Path(sys.argv[1])), Options())
    with engine_in_force(planner):
        doubled(DoubleConfig())
    print(planner.decisions[0][1].will, *planner.decisions[0][1].why)
"""


def test_a_plan_after_an_edit_in_the_same_process_sees_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "edited")
    script = folder.path / "mine.py"
    script.write_text(script.read_text() + PLAN_AFTER_AN_EDIT)
    built, planned = folder.start(1).communicate(timeout=120)[0].splitlines()
    assert built.startswith("built ") and planned == "build code helpers.factor changed"
