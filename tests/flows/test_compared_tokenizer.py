"""A recipe that compares its tokenizer with another one: a table in the report, and no token made anew."""

import json
from pathlib import Path

from support import Command, outcomes

from tasks.tokenize.tokenizer import TokenizerConfig, learn

ARGUMENTS = ("smoke", "--set", "collect.synthetic.documents=100")
TEXT = "the cat sat on the mat, and the rat ran at the cat. " * 20


def test_another_tokenizer_costs_its_own_stage_and_stands_in_the_report(
    home: Path, command: Command, tmp_path: Path
) -> None:
    plain = command.json("run", "--plain", *ARGUMENTS, "--to", "tokenize", home=home)
    assert "compression" not in outcomes(plain)
    path = tmp_path / "cats <b>" / "tokenizer.json"
    path.parent.mkdir()
    path.write_text(learn(TokenizerConfig(vocabulary_size=270), [TEXT]).to_str())
    wanted = (*ARGUMENTS, "--to", "compression", "--set", f"tokenize.compare_with={json.dumps(str(path.parent))}")
    run = command.json("run", "--plain", *wanted, home=home)
    assert {stage for stage, outcome in outcomes(run).items() if outcome == "built"} == {"compression"}
    page = next(home.glob(f"runs/{run['run']}.html")).read_text()
    for what in ("source", "language"):
        assert page.count(f"<h3>Bytes per token by {what}, beside cats &lt;b&gt;</h3>") == 1
    assert "<b>" not in page.partition("beside cats")[2][:20]
    assert outcomes(command.json("run", "--plain", *wanted, home=home))["compression"] == "reused"
    path.write_text(learn(TokenizerConfig(vocabulary_size=265), [TEXT]).to_str())
    (stage,) = (one for one in command.json("plan", *wanted, home=home)["stages"] if one["will"] != "reuse")
    assert stage["stage"] == "compression" and any("cats <b>/tokenizer.json" in why for why in stage["why"])


def test_a_file_that_is_not_there_is_said_before_anything_runs(home: Path, command: Command) -> None:
    status, _, error = command("plan", "smoke", "--set", "tokenize.compare_with=/nowhere/gpt2", home=home)
    assert status == 2 and "tokenize.compare_with: /nowhere/gpt2: no such file" in error
