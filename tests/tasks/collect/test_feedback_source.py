"""What users have said becomes pairs and preferences: which, of whom, and what is left out and why."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collecting import rows_of, run_collect
from users_said import correct, said, vote, write

from storage.documents import Message
from storage.errors import DataError
from storage.feedback import open_feedback
from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.collect.config import CollectConfig
from tasks.collect.feedback.rules import heldout_users
from tasks.collect.stage import collect
from tasks.engine.context import Summary
from tasks.engine.planner import Options, Planner
from tasks.engine.stage import engine_in_force
from tasks.notices import notices_of
from tasks.overlap import hashes_of

USERS = [f"{number:02x}" * 32 for number in range(40)]
HELDOUT = sorted(heldout_users(set(USERS), 0.1))
LEARNED = [user for user in USERS if user not in HELDOUT]


def taught(home: Path, **feedback: Any) -> tuple[Artifact, Summary]:
    """The stage's artifact and summary, of a recipe that has little else."""
    return run_collect(home, synthetic={"documents": 20}, feedback=feedback)


def of_users(artifact: Artifact, part: str) -> list[dict[str, Any]]:
    return [row for row in rows_of(artifact, part) if row["source"] == "feedback"]


def rules(artifact: Artifact) -> dict[str, str]:
    return {row["file"]: row["rule"] for row in rows_of(artifact, "dropped") if row["source"] == "feedback"}


def test_a_correction_is_a_pair_and_a_preference_and_a_vote_and_thumbs_are_preferences(home: Path) -> None:
    a, b = LEARNED[:2]
    talk = (Message("system", "Kurz."), Message("user", "Wo?"), Message("assistant", "Hier."), Message("user", "Ach?"))
    write(
        home,
        correct("Wo ist die Brücke?", "Bei der Mühle.", a, 1, answer="Weiß nicht."),
        correct("", "Ja.", a, 2, messages=talk),
        said("河在哪里？", a, 3, rating="up", answer="在桥下。"),
        said("河在哪里？", b, 4, rating="down", answer="不知道。"),
        vote("Who is it?", "Me.", "Nobody.", b, 5),
        vote("Who is that?", "Nobody.", "Me.", b, 6, choice="b"),
    )
    artifact, summary = taught(home)
    pairs = {(row["prompt"], row["answer"]) for row in of_users(artifact, "pairs")}
    assert pairs == {("Wo ist die Brücke?", "Bei der Mühle."), ("Ach?", "Ja.")}
    (turns,) = [row["earlier"] for row in of_users(artifact, "pairs") if row["prompt"] == "Ach?"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant"]
    preferences = {(row["prompt"], row["answer"], row["rejected"]) for row in of_users(artifact, "preferences")}
    assert preferences == {
        ("Wo ist die Brücke?", "Bei der Mühle.", "Weiß nicht."),
        ("Ach?", "Ja.", "I do not know."),
        ("河在哪里？", "在桥下。", "不知道。"),
        ("Who is it?", "Me.", "Nobody."),
        ("Who is that?", "Me.", "Nobody."),
    }
    assert {row["group"] for row in of_users(artifact, "pairs")} == {f"user#{a[:16]}"}
    assert summary["feedback.read"] == summary["feedback.kept"] == 6
    assert (
        "source feedback: 6 records of 2 users become 2 pairs for training, 5 preferences for training"
        in notices_of(summary)
    )

    liked = of_users(taught(home, liked=True)[0], "pairs")
    assert ("河在哪里？", "在桥下。") in {(row["prompt"], row["answer"]) for row in liked}


def test_each_record_that_is_left_out_is_in_the_ledger_with_its_rule(home: Path) -> None:
    a, b = LEARNED[:2]
    write(
        home,
        correct("Where?", "There.", a, 1, request="one"),
        correct("Where?", "Here.", a, 2, request="one"),
        correct("Where?", "here. ", b, 3),
        said("When?", a, 4, rating="up"),
        said("Why?", a, 5, rating="down"),
        correct("Same?", "I do not know. ", a, 6),
        vote("Who?", "Me.", "You.", a, 7, choice="tie"),
        vote("Who?", "Me.", "You.", a, 8, choice="both_bad"),
        vote("Who?", "Me.", "Me.", a, 9),
        correct("NUL \0?", "x", a, 10),
        correct("", "x", a, 11, messages=(Message("assistant", "Hello."),)),
    )
    artifact, summary = taught(home)
    assert rules(artifact) == {
        "feedback 1": "superseded",
        "feedback 3": "repeated",
        "feedback 4": "liked_alone",
        "feedback 5": "disliked_alone",
        "feedback 6": "liked_alone",
        "vote 1": "undecided",
        "vote 2": "undecided",
        "vote 3": "undecided",
    }
    assert [row["answer"] for row in of_users(artifact, "pairs")] == ["Here."]
    bad = {row["line"]: row["reason"] for row in rows_of(artifact, "quarantine")}
    assert "NUL" in bad[7] and "not the user's" in bad[8], "a bad record is set aside, and costs no more"
    assert summary["feedback.dropped"] == 8 and summary["feedback.quarantined"] == 2
    assert any("left out: 1 superseded, 3 undecided, 1 repeated" in line for line in notices_of(summary))


def test_some_users_are_held_out_and_nothing_they_say_is_learned(home: Path) -> None:
    records = [correct(f"Question {place}?", f"Answer {place}.", user, place) for place, user in enumerate(USERS)]
    shared = correct("QUESTION  0?", "Otherwise.", HELDOUT[0], 50)
    write(home, *records, shared)
    artifact, summary = taught(home)
    for part in ("pairs", "preferences"):
        held = {row["group"] for row in of_users(artifact, part) if row["split"] == "heldout"}
        learned = {row["group"] for row in of_users(artifact, part) if row["split"] == "train"}
        assert held == {f"user#{user[:16]}" for user in HELDOUT} and not held & learned
    assert list(rules(artifact).values()) == ["asked_in_training"], "its question is learned from another"
    assert 2 < len(HELDOUT) < 9 and summary["feedback.kept"] == 40


def test_a_lone_user_is_learned_from_whatever_the_hash(home: Path) -> None:
    write(home, correct("Where?", "Here.", HELDOUT[0]))
    (pair,) = of_users(taught(home)[0], "pairs")
    assert pair["split"] == "train"


def test_a_user_brings_a_share_at_most_and_the_newest_stay(home: Path) -> None:
    many = [correct(f"Many {number}?", "Yes.", LEARNED[0], number) for number in range(30)]
    others = [correct(f"Few {place}?", "No.", user, place) for place, user in enumerate(LEARNED[1:13])]
    write(home, *many, *others)
    artifact, summary = taught(home, user_records=2, user_share=0.25)
    kept = sorted(row["prompt"] for row in of_users(artifact, "pairs") if row["answer"] == "Yes.")
    assert kept == [f"Many {number}?" for number in range(26, 30)], "4 of 16 are a quarter"
    assert list(rules(artifact).values()) == ["user_share"] * 26
    assert summary["feedback.kept"] == 16


def test_a_held_out_row_makes_room_for_a_question_that_a_user_has_corrected(home: Path) -> None:
    before, _ = run_collect(home, synthetic={"documents": 60})
    asked = next(row for row in rows_of(before, "pairs") if row["split"] == "heldout")
    write(home, correct(asked["prompt"].upper(), "In the house by the river.", LEARNED[0]))
    artifact, summary = run_collect(home, synthetic={"documents": 60}, feedback={})
    rows = [row for row in rows_of(artifact, "pairs") if row["prompt"].casefold() == asked["prompt"].casefold()]
    assert {row["answer"] for row in rows if row["split"] == "heldout"} == set()
    assert "In the house by the river." in {row["answer"] for row in rows}
    assert summary["pairs_made_room"] >= 1
    assert any("made room" in line for line in notices_of(summary))


def test_declarations_are_put_into_words_where_the_release_takes_them_so(home: Path) -> None:
    write(home, correct("def add_edge(self, u, v):", "Add an edge between u and v.", LEARNED[0]))
    (pair,) = of_users(taught(home, prompts="declarations")[0], "pairs")
    assert pair["prompt"] == "def add edge ( u , v )"
    (pair,) = of_users(taught(home, prompts="as_said")[0], "pairs")
    assert pair["prompt"] == "def add_edge(self, u, v):"


def test_what_a_benchmark_asks_is_not_learned(home: Path, tmp_path: Path) -> None:
    from tasks.collect.feedback.derive import FeedbackJob, read_feedback
    from tasks.collect.feedback.records import write_records

    question = "Which of these gases do plants take in from the air by day, and which do they give off?"
    write(home, correct(f"Please: {question}", "Oxygen.", LEARNED[0]), correct("Where?", "Here.", LEARNED[0], 1))
    write_records(tmp_path / "records")
    np.save(tmp_path / "runs.npy", hashes_of([question]))
    files = {"records": tmp_path / "records", "benchmarks": tmp_path / "runs.npy"}
    summary = read_feedback(FeedbackJob(documents_per_shard=10, max_document_bytes=10_000), files, tmp_path)
    assert summary["dropped_near_benchmark"] == 1 and summary["pairs"] == 1


def test_only_what_is_said_decides_whether_the_stage_is_built(home: Path) -> None:
    def decision(**settings: Any) -> tuple[str, str]:
        planner = Planner(Store(home), Options())
        with engine_in_force(planner):
            collect(CollectConfig(synthetic={"documents": 20}, **settings))
        ((_, found),) = planner.decisions
        return found.will, found.identity.key

    without = decision()[1]
    write(home, correct("Where?", "Here.", LEARNED[0]))
    assert decision()[1] == without, "a recipe that does not ask for it is not touched"
    taught(home)
    store = open_feedback(home)
    store.user_of("a key", "somebody")
    assert decision(feedback={})[0] == "reuse", "the salt is no record"
    store.write(correct("Whence?", "Thence.", LEARNED[0], 2))
    assert decision(feedback={})[0] == "build"
    assert "feedback" not in CollectConfig(synthetic={"documents": 20}).identity()


def test_where_nobody_has_said_anything_it_is_said_and_nothing_fails(home: Path) -> None:
    with_it, summary = taught(home)
    without, _ = run_collect(home, synthetic={"documents": 20})
    for part in ("documents", "pairs", "preferences"):
        assert with_it[part].digest == without[part].digest
    assert any("users have said nothing yet" in line for line in notices_of(summary))
    assert not (home / "service").exists(), "looking makes no database"


def test_a_damaged_record_is_named_and_what_to_do(home: Path) -> None:
    write(home, correct("Where?", "Here.", LEARNED[0]), correct("Whence?", "Thence.", LEARNED[0], 2))
    import sqlite3

    with sqlite3.connect(home / "service" / "service.db") as database:
        database.execute("update feedback set content = '{' where id = 2")
    with pytest.raises(DataError, match=r"after number 1 of the table feedback.*retrain\.feedback=false"):
        taught(home)
