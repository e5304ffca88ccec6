"""Instruction data as they are handed out: each form is read, or refused by name; nothing is lost unseen."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collecting import rows_of, run_collect
from support import shared_data

from storage.errors import DataError
from tasks.engine.context import Summary

SYNTHETIC = {"documents": 20}
TOOL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "weather"}}]}
HELLO = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi!"},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "Well."},
]
DIALOGUE = "\n\nHuman: What is a pen?\n\nAssistant: A tool.\n\nIt writes.\n\nHuman: Ah.\n\nAssistant: Yes."


def read(home: Path, path: Path, **source: Any) -> tuple[list[tuple[str, str]], Summary]:
    """The pairs of a file in order of their text, and the stage's summary."""
    artifact, summary = run_collect(home, pairs=[{"name": "own", "path": str(path), **source}], synthetic=SYNTHETIC)
    rows = [row for row in rows_of(artifact, "pairs") if row["source"] == "own"]
    return sorted((row["prompt"], row["answer"]) for row in rows), summary


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "pairs.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Why?", "answer": "So."}, ("Why?", "So.")),
        ({"question": "Why?", "answer": "So."}, ("Why?", "So.")),
        ({"prompt": "Why?", "completion": "So."}, ("Why?", "So.")),
        ({"instruction": "Say it.", "input": "cat", "output": "chat"}, ("Say it.\n\ncat", "chat")),
        ({"instruction": "Say it.", "input": "", "output": "chat"}, ("Say it.", "chat")),
        ({"instruction": "Say cat.", "input": "cat", "output": "chat"}, ("Say cat.", "chat")),  # not twice
        ({"instruction": "Who?", "context": "It is Bob.", "response": "Bob"}, ("Who?\n\nIt is Bob.", "Bob")),
        ({"system": "Be brief.", "instruction": "Who?", "output": "Bob"}, ("Be brief.\n\nWho?", "Bob")),
        ({"instruction": "And?", "output": "C.", "history": [["A?", "B."]]}, ("A?", "B.")),
        ({"prompt": "Why?", "chosen": "So.", "rejected": "No."}, ("Why?", "So.")),
        ({"messages": HELLO}, ("Hello", "Hi!")),
        ({"messages": json.dumps(HELLO)}, ("Hello", "Hi!")),
        ({"messages": [{"role": "system", "content": "Be kind."}, *HELLO]}, ("Be kind.\n\nHello", "Hi!")),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}, HELLO[1]]}, ("Hello", "Hi!")),
        ({"conversations": [{"from": "human", "value": "A?"}, {"from": "gpt", "value": "B."}]}, ("A?", "B.")),
        (
            {"conversations": [{"from": "human", "value": "A?"}], "chosen": {"from": "gpt", "value": "B."}},
            ("A?", "B."),
        ),
        ({"chosen": DIALOGUE, "rejected": DIALOGUE}, ("What is a pen?", "A tool.\n\nIt writes.")),
    ],
)
def test_usual_forms_are_read_without_a_setting(home: Path, tmp_path: Path, row: Any, expected: Any) -> None:
    assert read(home, written(tmp_path, row))[0] == [expected]


def test_what_a_field_is_about_is_put_behind_it_whatever_it_is_called(home: Path, tmp_path: Path) -> None:
    path = written(tmp_path, {"task": {"text": "Say it."}, "word": "cat", "out": "chat"})
    fields = {"prompt_field": "task.text", "answer_field": "out"}
    assert read(home, path, **fields, input_field="word")[0] == [("Say it.\n\ncat", "chat")]
    pairs, summary = read(home, path, **fields)
    assert pairs == [("Say it.", "chat")]
    assert any("are not learned: word (1)" in notice for notice in summary["notices"])
    alpaca = written(tmp_path, {"instruction": "Say it.", "input": "cat", "output": "chat"})
    assert read(home, alpaca, input_field="none")[0] == [("Say it.", "chat")]


def test_several_turns_are_cut_to_the_first_or_left_out_and_said(home: Path, tmp_path: Path) -> None:
    path = written(tmp_path, {"messages": HELLO}, {"messages": HELLO[2:]})
    pairs, summary = read(home, path)
    assert pairs == [("And?", "Well."), ("Hello", "Hi!")]
    assert any(notice.startswith("source own: 1 conversations have several turns") for notice in summary["notices"])
    pairs, summary = read(home, path, leave_out=["several_turns"])
    assert pairs == [("And?", "Well.")]
    assert (summary["own.read"], summary["own.kept"], summary["own.dropped"]) == (2, 1, 1)
    assert any("1 records left out" in notice and "several_turns" in notice for notice in summary["notices"])


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("tool_calls", {"messages": [HELLO[0], TOOL, {"role": "tool", "content": "4"}, HELLO[1]]}),
        ("tool_calls", {"conversations": [{"from": "human", "value": "A?"}, {"from": "function_call", "value": "{}"}]}),
        ("other_content", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, HELLO[1]]}),
        ("rejected_answers", {"messages": HELLO[:2], "label": False}),
    ],
)
def test_what_no_pair_can_hold_is_refused_by_name_or_left_out(home: Path, tmp_path: Path, kind: str, row: Any) -> None:
    path = written(tmp_path, row, {"messages": HELLO[2:]})
    with pytest.raises(DataError, match=rf"pairs\.json, line 1: .*leave_out: \[{kind}\]"):
        read(home, path)
    pairs, summary = read(home, path, leave_out=[kind])
    assert pairs == [("And?", "Well.")] and summary["own.dropped"] == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": DIALOGUE, "rejected": DIALOGUE}, "field 'chosen' is a whole dialogue.*conversation_field"),
        ({"chosen": "x", "rejected": ["y"]}, "field 'rejected' is not text but list"),
        ({"chosen": "x"}, "no field 'rejected'"),
    ],
)
def test_fields_that_hold_no_prompt_or_answer_are_refused(home: Path, tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(home, written(tmp_path, row), prompt_field="chosen", answer_field="rejected")


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        (HELLO[1:2], "does not begin with a question"),
        ([{"role": "wizard", "content": "x"}], "no role that is known"),
        ("Hello", "field 'messages' is not a conversation"),
    ],
)
def test_conversations_without_an_exchange_are_refused(home: Path, tmp_path: Path, turns: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(home, written(tmp_path, {"messages": turns}), conversation_field="messages")


def test_nested_conversations_in_parquet_are_read(home: Path, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"messages": HELLO}, {"messages": HELLO[2:]}]), tmp_path / "a.parquet")
    assert read(home, tmp_path / "a.parquet")[0] == [("And?", "Well."), ("Hello", "Hi!")]


def test_several_answers_to_one_prompt_are_said(home: Path, tmp_path: Path) -> None:
    rows = [{"instruction": "Translate.", "word": word, "output": word[::-1]} for word in ("cat", "dog", "house")]
    path = written(tmp_path, *rows, {"instruction": "Once.", "output": "One."})
    (notice,) = [notice for notice in read(home, path)[1]["notices"] if "several answers" in notice]
    assert "1 prompt has several answers" in notice and "'Translate.'" in notice and "input_field" in notice
    pairs, summary = read(home, path, input_field="word")
    assert len(pairs) == 4
    assert not any("several answers" in notice for notice in summary.get("notices", ()))


@pytest.mark.parametrize(
    ("name", "source", "kept", "said"),
    [
        ("rasbt_instruction-data.json", {}, 1100, ()),
        ("rasbt_instruction-data-with-preference.json", {}, 1100, ("rejected (1,100)",)),
        ("llamafactory_identity.json", {}, 91, ()),
        ("gsm8k_train.jsonl", {}, 7473, ()),
        ("llamafactory_v1_sft_demo.jsonl", {}, 500, ()),
        ("llamafactory_dpo_zh_demo.json", {}, 300, ("rejected (",)),
        ("llamafactory_kto_en_demo.json", {"leave_out": ["rejected_answers"]}, None, ("rejected_answers",)),
        ("llamafactory_glaive_toolcall_en_demo.json", {"leave_out": ["tool_calls"]}, None, ("tool_calls", "several")),
        ("hh-rlhf_harmless-base_test.jsonl.gz", {}, 2312, ("rejected (2,", "several turns")),
    ],
)
def test_real_instruction_data_are_read_whole(home: Path, name: str, source: Any, kept: int | None, said: Any) -> None:
    _, summary = read(home, shared_data("instruct", name), **source)
    assert summary["own.quarantined"] <= 0.01 * summary["own.read"]
    assert summary["own.kept"] >= (kept * 0.99 if kept else 100)
    for words in said:
        assert any(words in notice for notice in summary["notices"]), (words, summary["notices"])
