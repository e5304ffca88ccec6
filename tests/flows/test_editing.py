"""Code is edited while runs go on, at random moments; each stage comes out as a fresh home of the same code makes it.

`LLMILL_EDITED_RUNS=50 LLMILL_EDITS_A_RUN=4` makes it a campaign of 200 edits; its seed is printed.
"""

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, digests

from storage.runs import runs
from storage.snapshot import PACKAGES

RUNS = int(os.environ.get("LLMILL_EDITED_RUNS", "3"))
EDITS_A_RUN = int(os.environ.get("LLMILL_EDITS_A_RUN", "4"))
SEED = int(os.environ.get("LLMILL_EDITING_SEED", "1"))
SMALL = (
    *("collect.synthetic.documents=160", "collect.documents_per_shard=20", "tokenizer.vocabulary_size=400"),
    *("pretrain.steps=6", "finetune.steps=4", "evaluate.items=10", "evaluate.heldout_bytes=2000"),
)
REACHED = (  # file, text, another text: each changes what a stage makes, in this process, a worker, or the trainer
    ("tasks/collect/synthetic.py", '_COLOURS = "black', '_COLOURS = "amber'),
    ("tasks/deduplicate/stage.py", '"exact", "near")', '"same", "near")'),
    ("tasks/filter/quality.py", '"words": len(words),', '"words": len(words) + 1,'),
    ("tasks/tokenize/tokenizer.py", '"clean_up_tokenization_spaces": False', '"clean_up_tokenization_spaces": True'),
    ("tasks/tokenize/stage.py", 'description="Seed of the canaries.")', 'description="Seed of canaries.")'),
    ("tasks/train/jobs.py", "round(steps * config.warmup_share)", "round(steps * config.warmup_share) + 1"),
    ("model/transformer.py", "rms_norm(x, self.weight, self.epsilon)", "rms_norm(x, self.weight, 2 * self.epsilon)"),
    ("tasks/train/trainer_process.py", '"seed": job.seed,', '"seed": job.seed + 1,'),
    ("tasks/evaluate/measures/own_items.py", "CLOZE_WORDS = 80", "CLOZE_WORDS = 40"),
    ("tasks/release/model_card.md.jinja", "A causal language model", "A language model"),
)
UNREACHED = ("tasks/filter/stage.py", "tasks/train/finetune.py", "model/trainer.py", "tasks/deduplicate/shingles.py")


class Checkout:
    """A copy of the code that is edited: which of the reached edits are in it is its state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        self.state = [False] * len(REACHED)

    def toggle(self, number: int) -> None:
        file, one, other = REACHED[number]
        old, new = (other, one) if self.state[number] else (one, other)
        path = self.folder / file
        text = path.read_text()
        assert old in text, (file, old)
        path.write_text(text.replace(old, new))
        self.state[number] = not self.state[number]

    def bring_to(self, state: list[bool]) -> None:
        for number, wanted in enumerate(state):
            if self.state[number] != wanted:
                self.toggle(number)

    def edit(self, chance: random.Random) -> str:
        """One random edit: of reached code, of unreached code, or a line that is half typed and then finished."""
        kind = chance.choice(("reached", "reached", "unreached", "half typed"))
        if kind == "reached":
            number = chance.randrange(len(REACHED))
            self.toggle(number)
            return f"reached {REACHED[number][0]}"
        path = self.folder / chance.choice(UNREACHED)
        text = path.read_text()
        if kind == "half typed":
            path.write_text(text + "\ndef half_typed(\n")
            time.sleep(chance.uniform(0.1, 1.0))
            path.write_text(text)
        else:
            path.write_text(text + f"\n\ndef unrelated_{chance.randrange(10**9)}():\n    return 1\n")
        return f"{kind} {path.name}"

    def start(self, home: Path) -> "subprocess.Popen[str]":
        settings = [word for setting in SMALL for word in ("--set", setting)]
        return subprocess.Popen(
            [sys.executable, "-P", "-u", "-m", "flows.cli.main", "run", "smoke", "--plain", *settings],
            env={**os.environ, "LLMILL_HOME": str(home), "PYTHONPATH": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def stages_of(home: Path) -> dict[str, str]:
    """The parts' digests of the newest run; it has completed."""
    run: dict[str, Any] = runs(home)[-1]
    assert run["status"] in ("completed", "reused"), run.get("error")
    return digests(run)


@pytest.mark.parametrize(("file", "text"), [(file, text) for file, text, _ in REACHED])
def test_what_is_edited_is_there(file: str, text: str) -> None:
    assert text in (ROOT / file).read_text()


@pytest.mark.slow
def test_each_stage_comes_out_as_a_fresh_home_of_the_same_code_makes_it(tmp_path: Path) -> None:
    print(f"seed {SEED}, {RUNS} runs, {EDITS_A_RUN} edits a run")
    chance = random.Random(SEED)
    edited, fresh, home = Checkout(tmp_path / "edited"), Checkout(tmp_path / "fresh"), tmp_path / "home"
    expected: dict[tuple[bool, ...], dict[str, str]] = {}
    for number in range(RUNS):
        state = list(edited.state)
        process = edited.start(home)
        assert process.stdout is not None
        said: list[str] = []
        while not any(line.startswith("run ") for line in said):  # its snapshot is taken
            said.append(process.stdout.readline())
            assert said[-1], said
        reader = threading.Thread(target=said.extend, args=(process.stdout,))
        reader.start()
        moments = sorted(chance.uniform(0, 14) for _ in range(EDITS_A_RUN))
        begun, edits = time.monotonic(), []
        for moment in moments:
            while process.poll() is None and time.monotonic() - begun < moment:
                time.sleep(0.02)
            edits.append(f"{moment:.1f} s {edited.edit(chance)}")
        assert process.wait() == 0, "".join(said)
        reader.join()
        if tuple(state) not in expected:
            fresh.bring_to(state)
            other = tmp_path / f"fresh-{number}"
            output = fresh.start(other).communicate()[0]
            expected[tuple(state)] = stages_of(other)
            assert output
            shutil.rmtree(other)
        found = stages_of(home)
        print(f"run {number}: {'; '.join(edits)}", flush=True)
        assert found == expected[tuple(state)], f"run {number} of seed {SEED}: {edits}"
