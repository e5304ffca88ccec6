"""What the stages after a training need is looked at before the training is paid."""

import json
from pathlib import Path
from typing import Any

from benchmark_files import write_benchmarks
from local_stages import STAGE_NAMES
from support import Command, unwrapped

from storage.store.local import Store

UNRELATED = ("--set", "finetune.shared_words=50")  # no answer shares so many words with its prompt
ANEW = ("--set", "pretrain.seed=7", "--set", "pretrain.steps=1")


def failed(command: Command, home: Path, *arguments: str) -> tuple[dict[str, str], str]:
    """The outcome of each stage of a run that fails with status 2, and its error."""
    status, out, err = command("run", "smoke", "--plain", "--json", *arguments, home=home)
    assert status == 2, err
    report: dict[str, Any] = json.loads(out)
    return {row["stage"]: row["outcome"] for row in report["stages"]}, unwrapped(err)


def test_a_run_whose_fine_tuning_cannot_work_fails_before_it_trains(smoke_home: Path, command: Command) -> None:
    builds = len(Store(smoke_home).builds_of("pretrain"))
    outcomes, error = failed(command, smoke_home, *ANEW, *UNRELATED)
    trained = STAGE_NAMES.index("pretrain")
    assert outcomes == {
        **dict.fromkeys(STAGE_NAMES[:trained], "reused"),
        "pretrain": "failed",
        **dict.fromkeys(STAGE_NAMES[trained + 1 :], "skipped"),
    }
    assert "not trained, since a later stage would fail" in error
    assert "finetune kept none of" in error and "dropped by unrelated (finetune.shared_words)" in error
    assert len(Store(smoke_home).builds_of("pretrain")) == builds
    assert command("run", "smoke", "--plain", *ANEW, *UNRELATED, "--to", "pretrain", home=smoke_home)[0] == 0
    outcomes, error = failed(command, smoke_home, *ANEW, *UNRELATED)  # paid already: the stage says it itself
    assert (outcomes["pretrain"], outcomes["finetune"]) == ("reused", "failed")
    assert "not trained" not in error and "finetune kept none of" in error


def test_text_that_is_not_held_out_and_benchmarks_that_cannot_be_asked_are_found_together(
    smoke_home: Path, command: Command, tmp_path: Path
) -> None:
    folder = write_benchmarks(tmp_path / "benchmarks")
    (folder / "colours.jsonl").write_text('{"thing": "a house", "choices": ["red", "blue"], "gold": 7}\n')
    settings = (
        *("collect.heldout_fraction=0", "pretrain.steps=1"),
        *(f"evaluate.tasks=[{{path: {folder}}}]", "decontaminate.mode=none"),  # else they are read before
    )
    outcomes, error = failed(command, smoke_home, *(word for one in settings for word in ("--set", one)))
    assert (outcomes["tokenize"], outcomes["pretrain"]) == ("built", "failed")
    for expected in (
        "there is no held-out pair",
        "no text of the",
        "collect.heldout_fraction",
        "lm-eval cannot use it",
    ):
        assert expected in error, expected


def test_what_is_reused_is_not_looked_at_again(smoke_home: Path, command: Command) -> None:
    report = command.json("run", "smoke", "--plain", home=smoke_home)
    assert report["status"] == "reused"
