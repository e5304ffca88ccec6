"""`llmill votes` as a user types it."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.votes import votes_so_far
from storage.documents import Message
from storage.feedback import Preference, Vote, open_feedback
from storage.store.local import Store

STRONG, WEAK, LONELY, OTHER = (letter * 64 for letter in "badc")


def vote(model_a: str, model_b: str, choice: Preference, time: str = "2026-12-01") -> Vote:
    return Vote(
        request_a="chatcmpl-1",
        request_b="chatcmpl-2",
        time=f"{time}T00:00:00.000000+00:00",
        user="u",
        form="chat",
        messages=(Message("user", "Where is the river?"),),
        model_a=model_a,
        answer_a="Here.",
        model_b=model_b,
        answer_b="There.",
        choice=choice,
        consent=True,
    )


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    from flows.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_votes_are_ranked_for_people_and_for_programs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = command(capsys, "votes")
    assert status == 0 and "no votes yet" in out and "--beside" in out
    assert json.loads(command(capsys, "votes", "--json")[1])["models"] == []
    store = open_feedback(home)
    for _ in range(20):
        store.write(vote(STRONG, WEAK, "a"))
        store.write(vote(WEAK, STRONG, "b"))
    store.write(vote(WEAK, STRONG, "tie"))
    store.write(vote(WEAK, STRONG, "both_bad"))
    store.write(vote(LONELY, OTHER, "b", "2026-12-02"))
    status, out, _ = command(capsys, "votes")
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows[1:5]] == [STRONG[:12], WEAK[:12], OTHER[:12], LONELY[:12]]
    assert rows[1][-5:] == ["42", "40", "0", "1", "1"] and rows[2][-5:] == ["42", "0", "40", "1", "1"]
    assert "2 groups of models were never compared" in out
    assert f"a hint: {OTHER[:12]}, {LONELY[:12]}." in " ".join(out.split())
    assert "shown first won 48.8 % of the 41 votes" in " ".join(out.split())
    said: Any = json.loads(command(capsys, "votes", "--json")[1])
    assert votes_so_far(Store(home)) == said["models"], "what the report of a retraining shows"
    best = said["models"][0]
    assert best["model"] == STRONG and best["low"] < best["points"] < best["high"] and best["best"] == 1
    assert [one["group"] for one in said["models"]] == [0, 0, 1, 1] and best["champion"] is False
    assert said["pairs"][0] == {**{"first": WEAK, "second": STRONG, "wins": 0, "losses": 40, "ties": 1, "both_bad": 1}}
    assert said == json.loads(command(capsys, "votes", "--json")[1]), "the same each time"
    later = json.loads(command(capsys, "votes", "--json", "--since", "2026-12-02")[1])
    assert [one["model"] for one in later["models"]] == [OTHER, LONELY]
    assert "no votes since 2027-01-01" in command(capsys, "votes", "--since", "2027-01-01")[1]
    status, _, err = command(capsys, "votes", "--since", "yesterday")
    assert status == 2 and "--since yesterday" in err
