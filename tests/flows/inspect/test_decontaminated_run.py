"""A run whose data hold what its user will ask later: what the plan, the report, explain and cat say of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import Command, llmill, report_of
from test_moderated_run import tables_of

from tasks.decontaminate.report import PLACES, STATES

pytestmark = pytest.mark.slow
QUESTION = "Who built the long stone bridge over the quiet river below the town, and for whom was it? The miller"
CHINESE = "植物白天从空气中吸收哪一种气体，又放出哪一种气体？请用一句话回答这个问题并说明理由。"
PROSE = "The river is quiet and wide, and number {} of its boats is late again today.\n"
RECIPE = """
collect:
  heldout_fraction: 0.5
  files: [{name: own, path: texts.jsonl}]
  conversations: [{name: talk, path: pairs.json}]
filter: {preset: none}
decontaminate:
  files: [{name: exam, path: exam.jsonl, text_fields: [question, answer]}]
"""


def prose(start: int) -> str:
    return "".join(PROSE.format(1000 * start + number) for number in range(20))


TEXTS = [prose(1), f"{prose(2)}{QUESTION.upper()} {prose(3)}", f"他问道：{CHINESE}", prose(4)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A home with that run, and its report."""
    folder = tmp_path_factory.mktemp("decontaminated")
    question, _, answer = QUESTION.rpartition("? ")
    exam = [{"question": f"{question}?", "answer": answer}, {"question": CHINESE, "answer": "氧气"}]
    rows = {"texts": [{"id": str(n), "text": text} for n, text in enumerate(TEXTS)], "exam": exam}
    for name, some in rows.items():
        lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in some)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    pairs = [{"prompt": f"{question}?", "completion": answer}, {"prompt": "Who is late?", "completion": "A boat."}]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    (folder / "recipe.yaml").write_text(RECIPE)
    started = ("run", str(folder / "recipe.yaml"), "--plain", "--json", "--to", "decontam")
    return folder / "home", report_of(llmill(*started, home=folder / "home"))


def test_the_report_counts_items_and_names_the_texts(run: tuple[Path, dict[str, Any]]) -> None:
    tables = tables_of(run[1]["report"])
    assert tables[STATES][1][:7] == ["exam", "2", "2", "100\u00a0%", "0", "0", "0"]
    assert tables[STATES][1][7:] == ["2", "1", "1", "1"], "documents with an item, cut, dropped, and a pair"
    assert [row[6] for row in tables[PLACES][1:]] == ["cut", "dropped", "dropped"]


def test_explain_and_cat_know_each_text(run: tuple[Path, dict[str, Any]], command: Command) -> None:
    steps = [command.json("explain", "latest", str(number), home=run[0])["steps"][-1] for number in range(4)]
    assert [step["verdict"] for step in steps] == ["kept", "kept", "dropped", "kept"]
    assert steps[1]["characters_cut"] > len(QUESTION) and steps[2]["items"][0]["benchmark"] == "exam"
    assert "1 item of benchmarks" in command("explain", "latest", "1", home=run[0])[1]
    pair = command.json("explain", "latest", "Who built the long", home=run[0])["steps"][-1]
    assert (pair["stage"], pair["verdict"]) == ("decontam", "dropped")
    rows = [json.loads(line) for line in command("cat", "latest/decontam/ledger", home=run[0])[1].splitlines()]
    assert {row["part"] for row in rows} == {"documents", "pairs"} and len(rows) == 3


def test_a_recipe_that_asks_nothing_has_no_such_stage(home: Path, command: Command) -> None:
    stages = {stage["stage"] for stage in command.json("plan", "quick", "--json", home=home)["stages"]}
    assert not stages & {"items", "decontam"}
