"""`explain` and `cat` of conversations, preferences and labels."""

import json
from pathlib import Path

import pytest
from support import Command, llmill, unwrapped

TALK = [("user", "Where is the harbour of Ilmouth?"), ("assistant", "Behind the mill."), ("user", "Who says so?")]


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose own data are a conversation, with an address in it, preferences and a label."""
    folder = tmp_path_factory.mktemp("talks")
    messages = [{"role": role, "content": text} for role, text in (*TALK, ("assistant", "Ask olga@firma-mail.de."))]
    files = {
        "talk": [{"messages": messages}],
        "preferences": [{"prompt": f"Which is better, {n}?", "chosen": "This.", "rejected": "That."} for n in (1, 2)],
        "labels": [{"text": "A fine day", "label": "good"}],
    }
    for name, made in files.items():
        (folder / f"{name}.json").write_text(json.dumps(made))
    recipe = "collect: {synthetic: {documents: 200}, conversations: [{name: own, path: '*.json'}]}\n"
    (folder / "recipe.yaml").write_text(recipe + "filter: {preset: docstrings}\n")
    made_run = llmill("run", str(folder / "recipe.yaml"), "--plain", "--to", "filter", home=folder / "home")
    assert made_run.returncode == 0, made_run.stderr
    return folder / "home"


def test_explain_finds_a_conversation_by_words_of_a_question_or_its_id(command: Command, talks: Path) -> None:
    found = command.json("explain", "latest", "harbour of ILMOUTH", home=talks)
    assert found["pair"]["part"] == "pairs" and found["pair"]["prompt"] == "Who says so?"
    assert [(step["stage"], step["verdict"]) for step in found["steps"]] == [
        ("collect", "collected"),
        ("filter", "kept"),
    ]
    assert found["steps"][1]["redacted"] is True
    assert command.json("explain", "latest", found["pair"]["id"][:10], home=talks) == found
    status, out, _ = command("explain", "latest", "who says", home=talks)
    assert max(map(len, out.splitlines())) <= 80
    assert status == 0 and "user       Where is the harbour" in out and "redacted" in out
    found = command.json("explain", "latest", "better, 2", home=talks)
    assert (found["pair"]["part"], found["pair"]["rejected"]) == ("preferences", "That.")
    assert command.json("explain", "latest", "fine day", home=talks)["pair"]["answer"] == "good"


def test_explain_of_words_in_many_questions_names_their_ids(command: Command, talks: Path) -> None:
    status, _, err = command("explain", "latest", "which is better", home=talks)
    assert status == 2 and "means 2 pairs. Give an id" in unwrapped(err)
    status, _, err = command("explain", "latest", "no such thing", home=talks)
    assert status == 2 and "no pair has these words in a question" in unwrapped(err)


def test_cat_shows_the_parts_of_supervised_data(command: Command, talks: Path) -> None:
    (pair,) = [row for row in command.json("cat", "latest/filter/pairs", home=talks) if row["source"] == "own"]
    assert [tuple(message.values()) for message in pair["earlier"]] == TALK[:2]
    assert pair["answer"] == "Ask email@example.com."
    assert len(command.json("cat", "latest/filter/preferences", home=talks)) == 2
    assert command.json("cat", "latest/collect/labels", home=talks)[0]["answer"] == "good"


def test_explain_says_whether_a_pair_was_for_training_and_how_it_was_answered(command: Command, two_runs: Path) -> None:
    pairs = command.json("cat", "latest/filter/pairs", home=two_runs)
    asked = {" ".join(row["prompt"].casefold().split()) for row in pairs if row["split"] == "heldout"}
    training = [row for row in pairs if row["split"] == "train"]
    leaking = next(row for row in training if " ".join(row["prompt"].casefold().split()) in asked)
    learned = next(row for row in training if " ".join(row["prompt"].casefold().split()) not in asked)
    items = command.json("cat", "latest/evaluate/items", home=two_runs)
    measured = next(row["document"] for row in items if row["name"] == "answers")
    verdicts = {}
    for identity in (leaking["id"], learned["id"], measured):
        found = command.json("explain", "latest", identity, home=two_runs)
        assert found["pair"]["id"] == identity
        verdicts[identity] = {step["stage"]: step["verdict"] for step in found["steps"]}
    assert verdicts[leaking["id"]]["finetune"] == "left out"
    assert verdicts[learned["id"]]["finetune"] == "for training"
    assert verdicts[measured]["finetune"] == "held out" and verdicts[measured]["evaluate"] == "measured"
    status, out, _ = command("explain", "latest", leaking["id"], home=two_runs)
    assert status == 0 and "a held-out pair has its question" in out
