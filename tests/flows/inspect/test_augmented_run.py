"""A run that learns documents in other forms: what the report, explain, cat and the data sheet say of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import Command, llmill, report_of
from test_moderated_run import tables_of

from tasks.augment.about import EXAMPLES

pytestmark = pytest.mark.slow
RECIPE = """
collect: {synthetic: {documents: 60}}
augment:
  noise: {share: 0.3}
  middle: {share: 0.5, instead: true}
filter: {preset: none}
tokenizer: {vocabulary_size: 300}
pretrain: {size: nano, context_length: 64, batch_tokens: 1024, steps: 2, validation_tokens: 1024}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A home with that run, and its report."""
    folder = tmp_path_factory.mktemp("augmented")
    (folder / "recipe.yaml").write_text(RECIPE)
    started = ("run", str(folder / "recipe.yaml"), "--plain", "--json", "--to", "pretrain")
    return folder / "home", report_of(llmill(*started, home=folder / "home"))


def rows(run: tuple[Path, dict[str, Any]], command: Command, part: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in command("cat", f"latest/augment/{part}", home=run[0])[1].splitlines()]


def test_the_report_shows_both_forms_of_documents(run: tuple[Path, dict[str, Any]]) -> None:
    table = tables_of(run[1]["report"])[EXAMPLES]
    assert {row[0] for row in table[1:]} == {"noise", "middle"} and len(table) == 5
    assert all(row[3] != row[4] for row in table[1:] if row[0] == "noise")


def test_explain_knows_sources_and_their_forms(run: tuple[Path, dict[str, Any]], command: Command) -> None:
    ledger = rows(run, command, "ledger")
    noisy, cut = (next(row for row in ledger if row["kind"] == kind) for kind in ("noise", "middle"))
    of_source = command.json("explain", "latest", noisy["twin"], home=run[0])["steps"]
    step = next(step for step in of_source if step["stage"] == "augment")
    assert noisy["id"] in [form["id"] for form in step["forms"]]
    of_cut = command.json("explain", "latest", cut["twin"], home=run[0])["steps"]
    assert next(step for step in of_cut if step["stage"] == "augment")["verdict"] == "replaced"
    of_form = command.json("explain", "latest", noisy["id"], home=run[0])
    assert of_form["document"]["id"] == noisy["twin"], "a form leads to its source"
    assert of_form["steps"][0] | {"stage": "augment", "kind": "noise"} == of_form["steps"][0]
    assert f"noise, of {noisy['twin']}" in command("explain", "latest", noisy["id"], home=run[0])[1]


def test_the_data_sheet_counts_the_kinds(run: tuple[Path, dict[str, Any]], command: Command) -> None:
    ledger = rows(run, command, "ledger")
    sheet = json.loads(Path(command.json("datasheet", home=run[0])["json"]).read_bytes())
    stage = next(one for one in sheet["treatment"] if one["stage"] == "augment")
    listed = {row["reason"]: row["rows"] for row in stage["ledger"]}
    assert listed == {kind: sum(row["kind"] == kind for row in ledger) for kind in ("noise", "middle")}


def test_a_recipe_without_the_section_has_no_such_stage(home: Path, command: Command) -> None:
    stages = {stage["stage"] for stage in command.json("plan", "quick", "--json", home=home)["stages"]}
    assert "augment" not in stages
