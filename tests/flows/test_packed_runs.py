"""A recipe whose documents are put whole into rows: what it says, what it trains again, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import Command, outcomes

TEXTS = (
    "the cat sat on the mat",
    "Der Hund läuft über den Hof",
    "猫在垫子上睡觉",
    "แมวนอนบนเสื่อ",
    "बिल्ली चटाई पर सोती है",
)
SETTINGS = ("--set", "collect.files=[{path: texts}]", "--set", "collect.synthetic.documents=100")
ARGUMENTS = (
    "smoke",
    "--plain",
    "--to",
    "pretrain",
    *SETTINGS,
    "--set",
    "pretrain.steps=6",
    "--set",
    "filter.preset=none",
)
ODD = ("--set", "pretrain.context_length=62")
BEST_FIT = ("--set", "pretrain.packing=best_fit")


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    for number in range(20):
        text = " ".join(f"{TEXTS[(number + place) % len(TEXTS)]} {place}." for place in range(1 + number * 3))
        (tmp_path / "texts" / f"{number}.txt").write_text(text, encoding="utf-8")


@pytest.mark.usefixtures("texts")
def test_whole_documents_in_rows_train_again_and_say_what_they_leave_out(home: Path, command: Command) -> None:
    stream = command.json("run", *ARGUMENTS, home=home)
    named = command.json("run", *ARGUMENTS, "--set", "pretrain.packing=stream", home=home)
    assert set(outcomes(named).values()) == {"reused"}, "the default by its name is the default"
    whole = command.json("run", *ARGUMENTS, *BEST_FIT, "--set", "pretrain.document_masks=true", home=home)
    built = {stage for stage, outcome in outcomes(whole).items() if outcome == "built"}
    assert built == {"pretrain"}
    cut, fitted = (figures(report) for report in (stream, whole))
    assert cut["cut_documents"] > fitted["cut_documents"]
    assert cut["padding_tokens"] == fitted["lost_tokens"] == 0 < fitted["padding_tokens"]
    page = next(home.glob(f"runs/{whole['run']}.html")).read_text()
    assert f"places of padding {fitted['padding_tokens']:,}" in page
    mixed = command.json("run", *ARGUMENTS, *BEST_FIT, "--set", "collect.mix={}", home=home)
    assert figures(mixed)["rows"] > 0, "in the order of a mix too"


@pytest.mark.usefixtures("texts")
def test_short_rows_first_train_again_on_the_same_rows_and_the_weights_say_so(home: Path, command: Command) -> None:
    whole = command.json("run", *ARGUMENTS, home=home)
    short = command.json("run", *ARGUMENTS, "--set", "pretrain.short_rows_share=0.5", home=home)
    assert {stage for stage, outcome in outcomes(short).items() if outcome == "built"} == {"pretrain"}
    names = ("rows", "cut_documents", "tokens", "steps")
    assert [figures(short)[name] for name in names] == [figures(whole)[name] for name in names]
    records = [json.loads(path.read_bytes())[0] for path in home.glob("store/parts/pretrain/model/*/training.json")]
    assert sorted(record.get("short_steps", 0) for record in records) == [0, 3]
    status, _, error = command("plan", "smoke", "--set", "pretrain.short_rows_share=0.5", *ODD, home=home)
    assert status == 2 and "rows of context_length 62 cannot be cut in 4: give 0" in error


def test_it_is_refused_where_words_are_hidden(home: Path, command: Command) -> None:
    for setting in ("packing=best_fit", "document_masks=true", "short_rows_share=0.3"):
        changes = ("--set", "pretrain.objective=masked_words", "--set", f"pretrain.{setting}")
        status, _, error = command("plan", "smoke", *changes, home=home)
        assert status == 2 and "masked_words reads a stream" in error


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """The summary of pretraining."""
    (found,) = (stage["artifact"]["summary"] for stage in report["stages"] if stage["stage"] == "pretrain")
    return dict(found)
