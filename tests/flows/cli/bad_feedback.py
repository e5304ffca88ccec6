"""Bad input of what users have said: its database, its records, its settings."""

import sqlite3
from pathlib import Path

from bad_input import EMPTY, BadInput
from users_said import correct, write

DATABASE = "service/service.db"
FEEDBACK = "collect: {synthetic: {documents: 20}, feedback: {%s}}\n"
DOWN = "postgresql://ada:secret@127.0.0.1:1/service"


def _garbage(folder: Path, home: Path) -> None:
    (home / DATABASE).parent.mkdir(parents=True)
    (home / DATABASE).write_bytes(b"this is no database\n" * 99)


def _damaged(change: str) -> "BadInput":
    def prepare(folder: Path, home: Path) -> None:
        write(home, correct("Where?", "Here."), correct("Whence?", "Thence.", number=1))
        with sqlite3.connect(home / DATABASE) as database:
            database.execute(f"update feedback set {change} where id = 2")

    return BadInput(
        f"damaged record: {change}",
        "retrain smoke --plain",
        ("after number 1 of the table feedback", "retrain.feedback=false"),
        prepare=prepare,
        home=EMPTY,
    )


def _setting(name: str, setting: str, *holds: str) -> BadInput:
    return BadInput(name, "plan recipe.yaml", ("collect.feedback", *holds), {"recipe.yaml": FEEDBACK % setting})


ROWS = (
    BadInput(
        "database of feedback that is none", "retrain smoke --plain", ("service.db",), prepare=_garbage, home=EMPTY
    ),
    BadInput("feedback of a database that is none", "feedback", ("service.db",), prepare=_garbage, home=EMPTY),
    _damaged("content = '{'"),
    _damaged("content = '[]'"),
    _damaged("content = '{}'"),
    _setting("half of all users and more held out", "heldout_users: 0.8", "heldout_users", "0.5"),
    _setting("no share for a user", "user_share: 0", "user_share", "greater than 0"),
    _setting("unknown setting of feedback", "likes: true", "likes", "did you mean", "liked"),
    _setting("prompts of no kind", "prompts: signature", "prompts", "declarations"),
    BadInput(
        "a source with the name of what users have said",
        "plan recipe.yaml",
        ("feedback is the name of what users have said",),
        {"recipe.yaml": "collect: {files: [{path: texts, name: feedback}]}\n", "texts/a.txt": "A text."},
    ),
    BadInput(
        "feedback alone",
        "plan recipe.yaml",
        ("no source", "give at least one"),
        {"recipe.yaml": "collect: {feedback: {}}\n"},
    ),
)
WITH_ENVIRONMENT = (
    BadInput(
        "feedback in a PostgreSQL that is down",
        "feedback smoke",
        ("LLMILL_SERVICE_DATABASE=postgresql://127.0.0.1:1/service", "cannot be used"),
        environment={"LLMILL_SERVICE_DATABASE": DOWN},
    ),
    BadInput(
        "retraining from a PostgreSQL that is down",
        "retrain smoke --plain",
        ("LLMILL_SERVICE_DATABASE=postgresql://127.0.0.1:1/service", "cannot be used"),
        environment={"LLMILL_SERVICE_DATABASE": DOWN},
    ),
)
