"""The reasons that a person reads in the plan: what was set, few lines a stage; `--json` has all of them."""

import json
from pathlib import Path
from typing import Any

from support import Command

from storage.store.local import Store

Smoke = tuple[Path, dict[str, Any]]


def shown(command: Command, home: Path, stage: str, *settings: str) -> list[str]:
    """The lines of a stage in the plan, without the columns before the reasons."""
    options = [option for setting in settings for option in ("--set", setting)]
    status, out, err = command("plan", "smoke", *options, home=home)
    assert status == 0, err
    lines = out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"{stage} "))
    rest = next(number for number, line in enumerate(lines[first + 1 :], first + 1) if not line.startswith(" "))
    return [line[35:] for line in lines[first:rest]]


def reasons(command: Command, home: Path, stage: str, *settings: str) -> list[str]:
    options = [option for setting in settings for option in ("--set", setting)]
    stages = command.json("plan", "smoke", *options, home=home)["stages"]
    return list(next(row["why"] for row in stages if row["stage"] == stage))


def test_a_preset_is_one_reason_and_what_was_set_beside_it_another(smoke: Smoke, command: Command) -> None:
    settings = ("filter.preset=gopher", "filter.min_words=20")
    assert shown(command, smoke[0], "filter", *settings) == [
        "config filter.preset: docstrings -> gopher",
        "config filter.min_words: 8 -> 20",
        "and 12 more settings that follow",
    ]
    assert len(reasons(command, smoke[0], "filter", *settings)) == 14


def test_without_another_preset_a_setting_follows_from_nothing(smoke_home: Path, command: Command) -> None:
    """Though it goes back to the value that the preset in force gives it."""
    (path,) = (smoke_home / "builds" / "filter").glob("*.json")
    record = json.loads(path.read_text())
    record["identity"]["config"] |= {"min_words": 20, "max_words": 50_000}
    path.unlink()
    Store(smoke_home).record_build({**record, "key": "0" * 64})
    lines = shown(command, smoke_home, "filter")
    assert lines == ["config filter.max_words: 50000 -> 100000", "config filter.min_words: 20 -> 8"]


def test_the_size_comes_first(smoke: Smoke, command: Command) -> None:
    lines = shown(command, smoke[0], "pretrain", "pretrain.size=micro", "pretrain.batch_tokens=2048")
    assert lines == ["config pretrain.size: nano -> micro", "config pretrain.batch_tokens: 1024 -> 2048"]


def test_a_table_holds_about_four_lines_of_a_stage_and_counts_the_rest(smoke: Smoke, command: Command) -> None:
    settings = [f"pretrain.{name}" for name in ("layers=1", "seed=7", "steps=41", "momentum=0.9", "clip_norm=2")]
    lines = shown(command, smoke[0], "pretrain", *settings)
    assert lines[-1] == "and 1 more" and len(lines) == 5
    long = ("collect.heldout_groups=[a-long-name, another-long-name, a-third-one]", "collect.synthetic.seed=7")
    more = (*long, "collect.documents_per_shard=77", "collect.max_bad_fraction=0.5")
    lines = shown(command, smoke[0], "collect", *more)
    assert len(lines) <= 5 and all(len(line) <= 45 for line in lines)
    counted = sum(line.startswith("config ") for line in lines)
    assert counted + int(lines[-1].split()[1]) == len(reasons(command, smoke[0], "collect", *more))
