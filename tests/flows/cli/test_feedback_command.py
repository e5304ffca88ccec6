"""`llmill feedback`, and what a plan of a retraining says of what users have said."""

from pathlib import Path

from benchmark_files import write_benchmarks
from support import Command, unwrapped
from users_said import correct, said, vote, write

A, B = "a" * 64, "b" * 64


def test_where_nobody_has_said_anything_it_says_how_one_does(home: Path, command: Command) -> None:
    status, out, _ = command("feedback", "smoke", home=home)
    assert status == 0 and "users have said nothing yet" in unwrapped(out) and "/v1/feedback" in out
    assert command.json("feedback", "smoke", home=home)["records"] == 0


def test_it_counts_what_was_said_and_what_is_learned_from_it(home: Path, command: Command) -> None:
    write(
        home,
        correct("Where?", "Here.", A, 1, rating="down"),
        said("Who?", A, 2, rating="up"),
        vote("Who is it?", "Me.", "Nobody.", B, 3),
        vote("Who is it?", "Me.", "Nobody.", B, 4, choice="tie"),
    )
    found = command.json("feedback", "smoke", home=home)
    assert found["said"] == {"up": 1, "down": 1, "corrections": 1, "votes": 2} and found["users"] == 2
    assert found["models"] == {"d" * 64: 4, "e" * 64: 2}
    assert found["becomes"] == {"pairs": {"train": 1, "heldout": 0}, "preferences": {"train": 2, "heldout": 0}}
    assert found["left_out"] == {"undecided": 1, "liked alone": 1} and not found["preferences_learned"]
    _, out, _ = command("feedback", "smoke", home=home)
    assert "collect: {feedback: {}}" in out and "left out: 1 liked alone" in out and "align: {}" in out
    off = command.json("feedback", "smoke", "--set", "retrain.feedback=false", home=home)
    assert off["said"]["votes"] == 2 and off["settings"] is None
    liked = command.json("feedback", "smoke", "--set", "collect.feedback={liked: true}", home=home)
    assert liked["becomes"]["pairs"]["train"] == 2 and "liked alone" not in liked["left_out"]


def test_a_retraining_learns_it_by_itself_and_a_run_does_not(home: Path, command: Command) -> None:
    def notices(*arguments: str) -> str:
        plan = command.json("plan", "smoke", *arguments, home=home)
        return " ".join(line for stage in plan["stages"] for line in stage["notices"])

    assert "feedback" not in notices("--retrain")
    write(home, correct("Where?", "Here.", A, 1))
    assert "1 records of 1 user become 1 pairs for training" in notices("--retrain")
    assert "feedback" not in notices() + notices("--retrain", "--set", "retrain.feedback=false")
    assert "1 pairs for training" in notices("--set", "collect.feedback={}")


def test_preferences_are_learned_where_there_are_enough(home: Path, command: Command) -> None:
    users = [f"{number:02x}" * 32 for number in range(200)]
    write(home, *(vote(f"Who is {n}?", "Me.", "Nobody.", user, n) for n, user in enumerate(users)))

    def stages(*settings: str) -> list[str]:
        return [row["stage"] for row in command.json("plan", "smoke", "--retrain", *settings, home=home)["stages"]]

    assert "align" in stages() and command.json("feedback", "smoke", home=home)["preferences_learned"]
    assert "align" not in stages("--set", "collect.feedback={least_preferences: 1000}")
    assert "align" not in stages("--set", "collect.feedback={heldout_users: 0}"), "it could not be measured"


def test_what_a_benchmark_of_the_recipe_asks_is_left_out(home: Path, tmp_path: Path, command: Command) -> None:
    tasks = write_benchmarks(tmp_path / "tasks")
    setting = ("--set", f"evaluate.tasks=[{{name: colours, path: {tasks}}}]")
    write(home, correct("What colour is the thing 3? It is", "Red.", A, 1), correct("Where?", "Here.", A, 2))
    thing = (tasks / "colours.jsonl").read_text().splitlines()[0].split('"thing": "')[1].partition('"')[0]
    write(home, correct(f"what colour is the {thing}? it is", "Red.", A, 3))
    found = command.json("feedback", "smoke", *setting, home=home)
    assert found["left_out"]["near benchmark"] >= 1 and found["becomes"]["pairs"]["train"] >= 1
    plan = command.json("plan", "smoke", "--retrain", *setting, home=home)
    assert plan["stages"][0]["stage"] == "benchmarks"
