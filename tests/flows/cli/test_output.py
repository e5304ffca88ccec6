"""Standard output: JSON and nothing else with `--json`, one error for one mistake, and a full disk behind it."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support import llmill_command, unwrapped

from storage.runs import runs


def test_a_bad_recipe_is_an_object_with_json(home: Path, command: Any) -> None:
    for arguments in (("run", "smoke"), ("plan", "smoke")):
        status, out, err = command(*arguments, "--set", "filter.min_words=-3", "--json", home=home)
        assert status == 2
        assert list(json.loads(out)) == ["error"] and unwrapped(json.loads(out)["error"]) in unwrapped(err)


def test_one_mistake_is_one_error(home: Path, command: Any) -> None:
    _, _, err = command("plan", "smoke", "--set", "filter.min_words=-3", home=home)
    assert err.count("filter.") == 2 and "filter.min_words: input should be" in unwrapped(
        err
    )  # the option, and what is wrong


def test_spaces_of_every_width_are_shown_and_what_turns_the_text_is_not(home: Path, command: Any) -> None:
    path = "/no\u00a0where\u3000at all\u202e.txt"
    _, _, err = command("plan", "smoke", "--set", f"collect.files=[{{name: a, path: '{path}'}}]", home=home)
    assert "no\u00a0where\u3000at all\\u202e.txt" in err


def test_a_failing_run_prints_one_object(home: Path, command: Any) -> None:
    missing = "collect.files=[{name: a, path: /nowhere.txt}]"
    status, out, _ = command("run", "smoke", "--plain", "--json", "--set", missing, home=home)
    assert status == 2
    json.loads(out)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_stdout_is_not_a_full_home(smoke_home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*llmill_command(), "runs"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LLMILL_HOME": str(smoke_home)},
        )
    assert ended.returncode == 2
    assert ended.stderr == "llmill: standard output cannot be written: No space left on device\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_interrupts_in_a_row_leave_an_interrupted_run(home: Path, number: signal.Signals) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, by what is started here too
    process = subprocess.Popen(
        [*llmill_command(), "run", "smoke", "--plain", "--to", "pretrain", "--set", "pretrain.steps=2000"],
        env={**os.environ, "LLMILL_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    signal.signal(signal.SIGHUP, before)
    while not list(home.glob("work/pretrain-*/keep/**/manifest.json")):
        assert process.poll() is None
        time.sleep(0.05)
    while process.poll() is None:
        process.send_signal(number)
        time.sleep(0.3)
    assert process.returncode == 130
    assert [run["status"] for run in runs(home)] == ["interrupted"]
