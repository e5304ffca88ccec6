"""From what users have said to a new model: corrected, retrained, compared on what held-out users have said."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from served_home import serving
from support import Command, llmill, outcomes, report_of, unwrapped
from users_said import correct, said, write

from tasks.collect.feedback.rules import heldout_users

pytestmark = pytest.mark.slow

DRAWN = [f"{number:02x}" * 32 for number in range(200)]
HELDOUT = [user for user in DRAWN if user in heldout_users(set(DRAWN), 0.1)][:10]
USERS = [*HELDOUT, *(user for user in DRAWN if user not in heldout_users(set(DRAWN), 0.1))][:30]
ASKED: Any = [{"role": "user", "content": "Where is the new mill?"}]
TOLD = "It is by the old one."
SHORT = ("--plain", "--set", "finetune.steps=10")


@pytest.fixture(scope="module")
def learned(
    smoke: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A home whose champion users have corrected, and the retraining after that. Not to be written to."""
    home = tmp_path_factory.mktemp("learned") / "home"
    shutil.copytree(smoke[0], home, symlinks=True)
    report_of(llmill("promote", "latest", "--json", home=home))
    write(home, *(correct(f"Where is {n}?", f"It is by the {n} mill.", user, n) for n, user in enumerate(USERS)))
    write(home, said("Who is there?", USERS[-1], 7, rating="down"))
    with serving(home, "champion") as (_, server):
        client = OpenAI(base_url=f"{server['address']}/v1", api_key="none", max_retries=0)
        reply = client.chat.completions.create(model="default", messages=ASKED, max_tokens=4)
        client.post("/feedback", body={"id": reply.id, "correction": TOLD, "consent": True}, cast_to=object)
    return home, report_of(llmill("retrain", "smoke", *SHORT, "--json", home=home))


def said_to(home: Path) -> list[dict[str, Any]]:
    """The pairs that users have taught."""
    pairs = [json.loads(line) for line in llmill("cat", "latest/filter/pairs", home=home).stdout.splitlines()]
    return [row for row in pairs if row["source"] == "feedback"]


def test_what_was_corrected_is_learned_and_nothing_before_it_is_made_again(
    learned: tuple[Path, dict[str, Any]], command: Command
) -> None:
    home, report = learned
    built = [stage for stage, outcome in outcomes(report).items() if outcome == "built"]
    assert built == ["collect", "filter", "finetune", "evaluate", "champion", "verdict", "release"]
    taught = {row["prompt"]: row for row in said_to(home)}
    assert taught[ASKED[0]["content"]]["answer"] == TOLD, "what was said to the server"
    assert len(taught) == len(USERS) + 1 and taught["Where is 5?"]["answer"] == "It is by the 5 mill."
    assert {row["split"] for row in taught.values()} == {"train", "heldout"}
    dropped = command.json("explain", "latest", "Who is there?", home=home)["steps"]
    assert [step["rule"] for step in dropped] == ["disliked_alone"]


def test_the_verdict_has_a_figure_on_what_held_out_users_have_said(
    learned: tuple[Path, dict[str, Any]], command: Command
) -> None:
    home, report = learned
    guards = {guard["name"]: guard for guard in report["verdict"]["guards"]}
    bits, accuracy = guards["feedback/bits_per_byte"], guards["feedback/accuracy"]
    heldout = {
        row["prompt"] for row in said_to(home) if row["split"] == "heldout"
    }  # of the server's user a salt decides
    assert len(heldout - {ASKED[0]["content"]}) == len(HELDOUT)
    assert bits["items"] == bits["documents"] == accuracy["items"] == len(heldout), "the user is the unit"
    assert bits["low"] <= bits["difference"] <= bits["high"]
    said = [reason for reason in report["verdict"]["reasons"] if "what held-out users have said" in reason]
    assert any("bits per byte" in reason for reason in said)
    assert "feedback/bits_per_byte" in Path(report["report"]).read_text()
    scores = command.json("cat", "latest/evaluate/scores", home=home)
    assert {score["metric"] for score in scores if score.get("name") == "feedback"} == {"bits_per_byte", "accuracy"}


def test_unchanged_feedback_is_nothing_new(learned: tuple[Path, dict[str, Any]], command: Command) -> None:
    plan = command.json("plan", "smoke", "--retrain", *SHORT[1:], home=learned[0])
    assert {line["will"] for line in plan["stages"]} == {"reuse"}
    out = llmill("retrain", "smoke", *SHORT, "--only-if-new", home=learned[0])
    assert "nothing new" in unwrapped(out.stdout)
