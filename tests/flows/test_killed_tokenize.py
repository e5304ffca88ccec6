"""kill -9 of the run amid the stage tokenize, again and again: no shard that was finished is encoded a second time."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support import digests, drawn_moments, llmill, llmill_command, processes_of, report_of, wait_until

SHARDS, KILLS, LONGEST_WAIT_SECONDS = 40, 8, 0.15
WORDS = """the cat sat on a mat Der Hund läuft über den Hof 猫在垫子上睡觉 แมวนอนบนเสื่อ बिल्ली चटाई पर सोती है"""
RECIPE = """
collect: {{files: [{{path: '{0}'}}], documents_per_shard: 1, heldout_fraction: 0.1}}
filter: {{preset: none}}
tokenizer: {{vocabulary_size: 400}}
"""


@pytest.mark.slow
def test_killed_again_and_again_it_encodes_no_shard_twice(home: Path, tmp_path: Path) -> None:
    recipe = texts(tmp_path)
    whole = run(recipe, "tokenize", tmp_path / "whole", workers=1)
    assert digests(run(recipe, "tokenize", tmp_path / "two", workers=2)) == digests(whole)

    run(recipe, "tokenizer", home, workers=2)
    moments = drawn_moments()
    for _ in range(KILLS):
        before = shards_done(home)
        kill_amid(command(recipe, "tokenize", moments.choice([1, 2])), home, moments)
        assert before.items() <= shards_done(home).items(), "what was finished stays, and is not made again"
    before = shards_done(home)
    assert 0 < len(before) < SHARDS, "it was killed amid its work"
    assert digests(run(recipe, "tokenize", home, workers=2)) == digests(whole)
    assert before.items() <= shards_done(home).items(), "no shard that was finished is encoded again"
    assert records(home).keys() == records(tmp_path / "whole").keys(), "what later builds take over is there too"


def texts(folder: Path) -> Path:
    """A recipe over texts that take some hundredths of a second each to encode."""
    drawn, words = random.Random(7), WORDS.split()
    (folder / "in").mkdir()
    for number in range(SHARDS):
        text = " ".join(drawn.choice(words) + str(drawn.randrange(1000)) for _ in range(9000))
        (folder / "in" / f"{number:02}.txt").write_text(text, encoding="utf-8")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(folder / "in"))
    return recipe


def command(recipe: Path, last: str, workers: int) -> list[str]:
    return ["run", str(recipe), "--plain", "--to", last, "--set", f"execution.workers={workers}"]


def run(recipe: Path, last: str, home: Path, workers: int) -> dict[str, Any]:
    return report_of(llmill(*command(recipe, last, workers), "--json", home=home))


def kill_amid(arguments: list[str], home: Path, moments: random.Random) -> None:
    """Kill a run at a random moment after it has begun to encode, before half of what is left is done."""
    past = len(shards_done(home))
    enough = past + moments.randrange(0, max(1, (SHARDS - past) // 2))
    process = subprocess.Popen(
        [*llmill_command(), *arguments],
        env={**os.environ, "LLMILL_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    begun = home / "work"
    wait_until(lambda: any(begun.glob("tokenize-*/jobs/*")) and len(shards_done(home)) >= enough, "begun", process)
    time.sleep(moments.uniform(0, LONGEST_WAIT_SECONDS) if enough > past else 0)
    assert process.poll() is None, "it was killed amid its work"
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not [*processes_of(home)], "no process of the killed run is left")


def shards_done(home: Path) -> dict[str, int]:
    """The records of shards that are encoded, with the moment of each."""
    return {name: written for name, (written, record) in records(home).items() if record["alike"]}


def records(home: Path) -> dict[str, tuple[int, dict[str, Any]]]:
    """What the stage has noted of its shards, by which they are found by themselves and by what is near to them."""
    found = {
        path.name: (path.stat().st_mtime_ns, json.loads(path.read_bytes()))
        for path in (home / "store" / "jobs").glob("*.json")
    }
    return {name: one for name, one in found.items() if one[1]["stage"] == "tokenize"}
