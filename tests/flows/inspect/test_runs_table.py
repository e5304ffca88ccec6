"""`llmill runs`: which runs are chosen, and the verdicts of retrainings among them."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import Command, unwrapped

RUNS = (  # recipe, status, decision
    ("smoke", "completed", None),
    ("smoke", "failed", None),
    ("quick", "interrupted", None),
    ("quick", "completed", None),
    ("quick", "crashed", None),
)
RETRAININGS = (("smoke", "completed", "promoted"), ("a-recipe-of-a-long-name", "interrupted", None))


def write_runs(home: Path, runs: tuple[tuple[str, str, str | None], ...]) -> None:
    """Run files whose digits are 0000, 0001, ..."""
    (home / "runs").mkdir()
    for number, (recipe, status, decision) in enumerate(runs):
        name = f"{recipe}-nano-20261129-050000-{number:04}"
        run: dict[str, Any] = {"format": 1, "run": name, "recipe_name": recipe, "status": status}
        run |= {"started": f"2026-11-29T05:{number:02}:00.000000+00:00", "seconds": 3599.0, "stages": []}
        if decision or recipe == "a-recipe-of-a-long-name":
            run["pipeline"] = "retrain"
        if decision:
            run["verdict"] = {"decision": decision, "reasons": [], "candidate": "1", "champion": "2"}
            summary = {"heldout_bits_per_byte_base": 1.9, "heldout_bits_per_byte_tuned": 12.5}
            artifact = {"digest": "1", "uri": "llmill://evaluate/1", "parts": {"scores": {}}, "summary": summary}
            run["stages"] = [{"stage": "evaluate", "outcome": "built", "artifact": artifact}] * 12
        (home / "runs" / f"{name}.json").write_text(json.dumps(run))


@pytest.fixture
def history(home: Path) -> Path:
    write_runs(home, RUNS)
    return home


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ((), ["0000", "0001", "0002", "0003", "0004"]),
        (("--limit", "2"), ["0003", "0004"]),
        (("--status", "completed"), ["0000", "0003"]),
        (("--status", "failed", "--status", "crashed"), ["0001", "0004"]),
        (("--recipe", "smoke"), ["0000", "0001"]),
        (("--recipe", "smoke", "--recipe", "quick", "--limit", "9"), ["0000", "0001", "0002", "0003", "0004"]),
        (("--recipe", "quick", "--status", "completed"), ["0003"]),
        (("--status", "completed", "--limit", "1"), ["0003"]),
        (("--recipe", "smoke", "--status", "crashed"), []),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_newest_of_those_that_are_meant(
    options: tuple[str, ...], chosen: list[str], history: Path, command: Command
) -> None:
    assert [run["run"][-4:] for run in command.json("runs", *options, home=history)] == chosen
    status, out, _ = command("runs", *options, home=history)
    shown = [line[:4] for line in out.splitlines() if line[:4].isdigit()]
    assert status == 0 and shown == chosen
    assert out == "none of 5 runs matches\n" if not chosen else "llmill" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "pieces"),
    [
        (("--status", "complete"), ("--status complete: no such status (did you mean 'completed'?)", "crashed")),
        (("--recipe", "smok"), ("--recipe smok: there is no run of it (did you mean 'smoke'?)", "quick, smoke")),
        (("--limit", "0"), ("--limit", "between 1 and")),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(
    option: tuple[str, str], pieces: tuple[str, ...], history: Path, command: Command
) -> None:
    for more in ((), ("--json",)):
        status, _, err = command("runs", *option, *more, home=history)
        assert status == 2 and all(piece in unwrapped(err) for piece in pieces)


def test_a_home_without_runs_says_so(home: Path, command: Command) -> None:
    assert command("runs", home=home)[:2] == (0, "no run yet; start one with `llmill run`\n")
    assert command.json("runs", "--status", "failed", home=home) == []
    status, _, err = command("runs", "--recipe", "smoke", home=home)
    assert status == 2 and "There is no run yet" in unwrapped(err)


def test_the_verdict_of_a_retraining_is_a_column_and_the_scores_are_the_candidate_s(
    home: Path, command: Command
) -> None:
    write_runs(home, (*RUNS, *RETRAININGS))
    _, out, _ = command("runs", home=home)
    head, *lines = out.splitlines()
    assert all(len(line) <= 80 for line in (head, *lines)), out
    first = head.index("verdict")
    verdicts = {line[:4]: line[first : first + 8].strip() for line in lines if line[:4].isdigit()}
    assert verdicts == {**{f"000{number}": "" for number in (0, 1, 2, 3, 4, 6)}, "0005": "promoted"}
    assert "12.50" in out and "of the candidate, not of the champion" in unwrapped(out)


def test_without_a_retraining_there_is_no_such_column(history: Path, command: Command) -> None:
    _, out, _ = command("runs", home=history)
    assert "verdict" not in out.casefold() and "candidate" not in out and "answers" in out.splitlines()[0]
