"""A recipe with a mix: a stage of its own, whose change trains again and collects nothing again."""

from pathlib import Path

import pytest
from support import Command, outcomes

SETTINGS = (
    *("--set", "collect.files=[{path: texts}]", "--set", "collect.documents_per_shard=500"),
    *("--set", "collect.synthetic.documents=100", "--set", "pretrain.steps=6", "--set", "filter.preset=none"),
)
ARGUMENTS = ("smoke", "--plain", "--to", "pretrain", "--json", *SETTINGS)


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    for number in range(20):
        words = " ".join(f"word{1000 * number + place}" for place in range(60))
        (tmp_path / "texts" / f"{number}.txt").write_text(words)


@pytest.mark.usefixtures("texts")
def test_another_mix_draws_and_trains_again_and_nothing_else(home: Path, command: Command) -> None:
    first = command.json("run", *ARGUMENTS, "--set", "collect.mix.weights={files: 1, synthetic: 1}", home=home)
    assert outcomes(first)["mix"] == "built"
    other = command.json("run", *ARGUMENTS, "--set", "collect.mix.weights={files: 1, synthetic: 2}", home=home)
    built = {stage for stage, outcome in outcomes(other).items() if outcome == "built"}
    assert built == {"mix", "pretrain"}
    report = next(home.glob(f"runs/{other['run']}.html")).read_text()
    assert "<h3>Mix</h3>" in report and "33.3\u00a0%" in report and "66.7\u00a0%" in report
    explained = command("explain", "latest", "3.txt", home=home)[1]
    assert "mix" in explained and " times" in explained
    without = command.json("run", *ARGUMENTS, home=home)
    assert "mix" not in outcomes(without) and outcomes(without)["pretrain"] == "built"


@pytest.mark.usefixtures("texts")
def test_a_source_that_is_not_there_is_refused_with_the_recipe(home: Path, command: Command) -> None:
    status, _, error = command("plan", "smoke", *SETTINGS, "--set", "collect.mix.weights={file: 1}", home=home)
    assert status == 2 and "mix.file: there is no such source (did you mean 'files'?)" in error
    status, _, error = command("plan", "smoke", *SETTINGS, "--set", "collect.mix.weights={files: 1}", home=home)
    assert status == 2 and "nothing is said of synthetic" in error
