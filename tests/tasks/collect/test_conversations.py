"""Instruction data as they are handed out: each form is known by its fields and read whole, or refused by its place."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collecting import rows_of, run_collect
from support import shared_data

from storage.errors import DataError
from tasks.engine.context import Summary

Messages = list[tuple[str, str]]  # role, content

HELLO = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi!"},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "Well."},
]
FIRST = [("user", "Hello"), ("assistant", "Hi!")]
CALL = {"function": {"name": "weather", "arguments": '{"town": "Bonn"}'}}
DIALOGUE = "\n\nHuman: What is a pen?\n\nAssistant: A tool.\n\nIt writes.\n\nHuman: Ah.\n\nAssistant: Yes."


def read(home: Path, path: Path, **source: Any) -> tuple[dict[str, list[dict[str, Any]]], Summary]:
    """The rows of each part, and the stage's summary."""
    artifact, summary = run_collect(home, conversations=[{"name": "own", "path": str(path), **source}])
    return {part: rows_of(artifact, part) for part in ("pairs", "preferences", "labels")}, summary


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "own.json"
    path.write_text(json.dumps(rows))
    return path


def said(row: dict[str, Any]) -> tuple[Messages, str, str]:
    """What stands before the last question, the question, the answer."""
    return [(one["role"], one["content"]) for one in row["earlier"]], row["prompt"], row["answer"]


PLAIN = [
    ({"prompt": "Why?", "answer": "So."}, "Why?", "So."),
    ({"question": "Why?", "answer": "So."}, "Why?", "So."),
    ({"prompt": "Why?", "completion": "So."}, "Why?", "So."),
    ({"prompt": [{"role": "user", "content": "Why?"}], "completion": [HELLO[1]]}, "Why?", "Hi!"),
    ({"prompt": "\n\nHuman: Why?\n\nAssistant:", "completion": " So."}, "Why?", " So."),
    ({"instruction": "Say it.", "input": "cat", "output": "chat"}, "Say it.\n\ncat", "chat"),
    ({"instruction": "Say it.", "input": None, "output": "chat"}, "Say it.", "chat"),
    ({"instruction": "Say cat.", "input": "cat", "output": "chat"}, "Say cat.", "chat"),  # not twice
    ({"instruction": "Who?", "context": "It is Bob.", "response": "Bob"}, "Who?\n\nIt is Bob.", "Bob"),
    ({"conversations": [{"from": "human", "value": "A?"}, {"from": "gpt", "value": "B."}]}, "A?", "B."),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}, HELLO[1]]}, "Hello", "Hi!"),
    ({"messages": HELLO[:2], "label": True}, "Hello", "Hi!"),
]


@pytest.mark.parametrize(("row", "prompt", "answer"), PLAIN)
def test_a_question_and_its_answer_is_read_in_every_form(
    home: Path, tmp_path: Path, row: Any, prompt: str, answer: str
) -> None:
    rows, _ = read(home, written(tmp_path, row))
    assert [said(one) for one in rows["pairs"]] == [([], prompt, answer)]


SEVERAL = [
    ({"messages": HELLO}, FIRST, "And?", "Well."),
    ({"messages": json.dumps(HELLO)}, FIRST, "And?", "Well."),
    (
        {"messages": [{"role": "system", "content": "Be kind."}, *HELLO]},
        [("system", "Be kind."), *FIRST],
        "And?",
        "Well.",
    ),
    ({"messages": [{"role": "system", "content": ""}, *HELLO[:2]]}, [], "Hello", "Hi!"),
    ({"system": "Be brief.", "instruction": "Who?", "output": "Bob"}, [("system", "Be brief.")], "Who?", "Bob"),
    (
        {"instruction": "And?", "output": "C.", "history": [["A?", "B."]]},
        [("user", "A?"), ("assistant", "B.")],
        "And?",
        "C.",
    ),
    (
        {
            "messages": [
                HELLO[0],
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "content": "4"},
                {"role": "tool", "content": {"wind": 1}},
                HELLO[3],
            ]
        },
        [
            ("user", "Hello"),
            ("assistant", '{"name": "weather", "arguments": {"town": "Bonn"}}'),
            ("tool", '4\n{"wind": 1}'),
        ],
        "",
        "Well.",
    ),
    (
        {"conversations": [{"from": "human", "value": "A?"}, {"from": "function_call", "value": "{}"}], "tools": "[1]"},
        [("system", "[1]")],
        "A?",
        "{}",
    ),
    (
        {"messages": [HELLO[0], {"role": "assistant", "content": "Hi!", "reasoning_content": "A greeting."}]},
        [],
        "Hello",
        "<think>\nA greeting.\n</think>\n\nHi!",
    ),
]


@pytest.mark.parametrize(("row", "earlier", "prompt", "answer"), SEVERAL)
def test_all_that_stands_before_the_last_question_is_kept_as_text(
    home: Path, tmp_path: Path, row: Any, earlier: Messages, prompt: str, answer: str
) -> None:
    rows, _ = read(home, written(tmp_path, row))
    assert [said(one) for one in rows["pairs"]] == [(earlier, prompt, answer)]


WHAT = [("user", "What is a pen?"), ("assistant", "A tool.\n\nIt writes.")]
PREFERENCES = [
    ({"prompt": "Why?", "chosen": "So.", "rejected": "No."}, [], "Why?", "So.", "No."),
    (
        {"instruction": "Say it.", "input": "cat", "output": "chat", "chosen": "chat", "rejected": "chien"},
        [],
        "Say it.\n\ncat",
        "chat",
        "chien",
    ),
    ({"chosen": DIALOGUE, "rejected": DIALOGUE.replace("Yes", "No")}, WHAT, "Ah.", "Yes.", "No."),
    ({"prompt": "Hello", "chosen": HELLO[:2], "rejected": [HELLO[0], HELLO[3]]}, [], "Hello", "Hi!", "Well."),
    ({"chosen": HELLO, "rejected": [*HELLO[:3], HELLO[1]]}, FIRST, "And?", "Well.", "Hi!"),
    (
        {
            "conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "A?"}],
            "chosen": {"from": "gpt", "value": "B."},
            "rejected": {"from": "gpt", "value": "C."},
        },
        [("system", "S")],
        "A?",
        "B.",
        "C.",
    ),
]


@pytest.mark.parametrize(("row", "earlier", "prompt", "chosen", "rejected"), PREFERENCES)
def test_of_preferences_the_common_beginning_is_the_prompt(
    home: Path, tmp_path: Path, row: Any, earlier: Messages, prompt: str, chosen: str, rejected: str
) -> None:
    rows, summary = read(home, written(tmp_path, row))
    assert [(*said(one), one["rejected"]) for one in rows["preferences"]] == [(earlier, prompt, chosen, rejected)]
    assert rows["pairs"] == [] and summary["preferences_read"] == 1


def test_an_answer_that_was_not_liked_is_rejected_where_another_was(home: Path, tmp_path: Path) -> None:
    rows, summary = read(
        home,
        written(
            tmp_path,
            {"prompt": "A?", "completion": "bad", "label": False},
            {"prompt": "A?", "completion": "good", "label": "True"},
            {"prompt": "B?", "completion": "also bad", "label": 0},
            {"prompt": "C?", "completion": "fine", "label": 1},
        ),
    )
    assert [said(one)[1:] for one in rows["pairs"]] == [("A?", "good"), ("C?", "fine")]
    (preference,) = rows["preferences"]
    assert (*said(preference), preference["rejected"]) == ([], "A?", "good", "bad")
    assert preference["split"] == rows["pairs"][0]["split"]
    assert summary["preferences_alone"] == 1
    assert any(notice.startswith("source own: 1 answers were not liked") for notice in summary["notices"])


@pytest.mark.parametrize(
    ("name", "text", "stated"),
    [
        ("a.tsv", "label\tmsg\nham\tOk lar\nspam\tWin it\n", {}),
        ("a.csv", "n,class,tweet\n1,ham,Ok lar\n2,spam,Win it\n", {}),
        ("a.csv", "kind,body\nham,Ok lar\nspam,Win it\n", {"text_field": "body", "label_field": "kind"}),
        ("ham/1.txt", "Ok lar", {"label_folders": True}),
    ],
)
def test_a_text_and_its_label_is_read_from_tables_and_folders(
    home: Path, tmp_path: Path, name: str, text: str, stated: Any
) -> None:
    folder = tmp_path / "in"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text(text)
    if stated.get("label_folders"):
        (folder / "spam").mkdir()
        (folder / "spam" / "2.txt").write_text("Win it")
    rows, _ = read(home, folder, **stated)
    assert [said(one) for one in rows["labels"]] == [([], "Ok lar", "ham"), ([], "Win it", "spam")]


def test_a_record_with_several_examples_becomes_as_many_pairs(home: Path, tmp_path: Path) -> None:
    instances = [{"input": "cat", "output": "chat"}, {"input": "", "output": "?"}]
    rows, summary = read(home, written(tmp_path, {"instruction": "Say it.", "instances": instances}))
    assert [said(one)[1:] for one in rows["pairs"]] == [("Say it.\n\ncat", "chat"), ("Say it.", "?")]
    assert (summary["own.kept"], summary["pairs_read"]) == (1, 2)


def test_fields_of_any_name_can_be_stated(home: Path, tmp_path: Path) -> None:
    path = written(tmp_path, {"task": {"text": "Say it."}, "word": "cat", "out": "chat"})
    fields = {"prompt_field": "task.text", "answer_field": "out"}
    rows, _ = read(home, path, **fields, input_field="word")
    assert said(rows["pairs"][0])[1:] == ("Say it.\n\ncat", "chat")
    rows, summary = read(home, path, **fields)
    assert said(rows["pairs"][0])[1:] == ("Say it.", "chat")
    assert any("are not learned: word (1)" in notice for notice in summary["notices"])
    rows, _ = read(home, written(tmp_path, {"talk": HELLO}), conversation_field="talk")
    assert said(rows["pairs"][0]) == (FIRST, "And?", "Well.")


def test_the_prompt_of_a_preference_can_be_stated(home: Path, tmp_path: Path) -> None:
    path = written(tmp_path, {"asked": "Why?", "prompt": "a number", "chosen": "So.", "rejected": "No."})
    rows, _ = read(home, path, prompt_field="asked")
    assert said(rows["preferences"][0]) == ([], "Why?", "So.")


def test_the_tools_stand_behind_the_system_line(home: Path, tmp_path: Path) -> None:
    rows, _ = read(
        home, written(tmp_path, {"messages": [{"role": "system", "content": "S."}, *HELLO[:2]], "tools": [1]})
    )
    assert said(rows["pairs"][0]) == ([("system", "S.\n\n[1]")], "Hello", "Hi!")


def test_a_last_question_that_nothing_answers_is_left_out_and_said(home: Path, tmp_path: Path) -> None:
    rows, summary = read(home, written(tmp_path, {"messages": HELLO[:3]}))
    assert [said(one) for one in rows["pairs"]] == [([], "Hello", "Hi!")]
    assert any("1 conversations end with a question" in notice for notice in summary["notices"])


def test_nested_conversations_in_parquet_are_read(home: Path, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"messages": HELLO}, {"messages": HELLO[2:]}]), tmp_path / "a.parquet")
    rows, _ = read(home, tmp_path / "a.parquet")
    assert [said(one) for one in rows["pairs"]] == [(FIRST, "And?", "Well."), ([], "And?", "Well.")]


def test_conversations_that_begin_alike_are_in_one_split_whatever_their_form(home: Path, tmp_path: Path) -> None:
    questions = [f"Question {number}?" for number in range(60)]
    (tmp_path / "in").mkdir()
    files = {
        "alpaca": [{"instruction": question, "output": "A."} for question in questions],
        "talk": [{"messages": [{"role": "user", "content": f" {q.upper()}"}, *HELLO[1:]]} for q in questions],
        "preferences": [{"prompt": question, "chosen": "A.", "rejected": "B."} for question in questions],
    }
    for name, made in files.items():
        (tmp_path / "in" / f"{name}.json").write_text(json.dumps(made))
    rows, summary = read(home, tmp_path / "in")
    splits = {(row["group"], row["split"]) for part in rows.values() for row in part}
    assert len(splits) == len(questions) and {split for _, split in splits} == {"train", "heldout"}
    assert [len(rows[part]) for part in ("pairs", "preferences")] == [120, 60]
    (forms,) = [notice for notice in summary["notices"] if " read as " in notice]
    shown = [f"{form} (60 records of 1 file)" for form in ("alpaca", "messages", "preference")]
    assert forms == f"source own: read as {', '.join(shown)}"


def test_equal_conversations_are_kept_once_and_those_with_another_beginning_are_not_equal(
    home: Path, tmp_path: Path
) -> None:
    other = [{"role": "user", "content": "Good day"}, *HELLO[1:]]
    path = written(tmp_path, {"messages": HELLO}, {"messages": HELLO}, {"messages": other})
    rows, summary = read(home, path)
    assert len(rows["pairs"]) == 2 and summary["pairs_repeated"] == 1
    assert len({row["id"] for row in rows["pairs"]}) == 2
    assert not any("several answers" in notice for notice in summary["notices"])


def test_several_answers_to_one_prompt_are_said(home: Path, tmp_path: Path) -> None:
    made = [{"instruction": "Translate.", "word": word, "output": word[::-1]} for word in ("cat", "dog", "house")]
    path = written(tmp_path, *made, {"instruction": "Once.", "output": "One."})
    (notice,) = [notice for notice in read(home, path)[1]["notices"] if "several answers" in notice]
    assert "1 prompt has several answers" in notice and "'Translate.'" in notice and "input_field" in notice
    rows, summary = read(home, path, input_field="word")
    assert len(rows["pairs"]) == 4
    assert not any("several answers" in notice for notice in summary["notices"])


@pytest.mark.parametrize(
    ("row", "stated", "message"),
    [
        ({"messages": [{"content": "x"}]}, {}, "messages.0: the turn has no role"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, {}, "messages.0: the role 'wizard' is not known"),
        ({"messages": [HELLO[0]]}, {}, "messages: no turn is answered"),
        ({"messages": HELLO[1:]}, {}, "messages.0: the first turn is the assistant's"),
        ({"messages": [HELLO[0], HELLO[2], HELLO[3]]}, {}, "messages.1: two turns of the user in a row"),
        ({"messages": [*HELLO[:2], HELLO[1]]}, {}, "messages.2: two turns of the assistant in a row"),
        ({"messages": [*HELLO[:2], {"role": "system", "content": "x"}]}, {}, "a system line stands behind"),
        ({"messages": [*HELLO[:3], {"role": "assistant", "content": " "}]}, {}, "messages.3: the turn is empty"),
        (
            {"messages": [HELLO[0], {"role": "assistant", "content": [{"type": "image_url", "image_url": {}}]}]},
            {},
            "not text",
        ),
        ({"messages": "Hello"}, {}, "field 'messages' is not a conversation"),
        ({"instruction": "x", "output": ["y"]}, {}, "field 'output' is not text but list"),
        ({"instruction": "x", "output": None}, {}, "field 'instruction' without an answer"),
        ({"chosen": "x"}, {}, "field 'chosen' without 'rejected'"),
        ({"prompt": "x", "chosen": "y", "rejected": "y "}, {}, "chosen and rejected are the same"),
        ({"chosen": "x", "rejected": "y"}, {}, "there is no prompt"),
        ({"chosen": DIALOGUE, "rejected": DIALOGUE.replace("pen", "pin")}, {}, "do not differ by their last answer"),
        ({"prompt": "x", "completion": "y", "label": "spam"}, {}, "field 'label' is 'spam', neither true nor false"),
        ({"text": "x", "label": [1]}, {}, "the label, field 'label', is list"),
        ({"chosen": DIALOGUE, "rejected": "x"}, {"prompt_field": "chosen", "answer_field": "rejected"}, "dialogue"),
        ({"a": "x"}, {}, "no field 'prompt' or"),
    ],
)
def test_what_fits_no_form_is_refused_by_its_place(
    home: Path, tmp_path: Path, row: Any, stated: Any, message: str
) -> None:
    with pytest.raises(DataError) as refused:
        read(home, written(tmp_path, row), **stated)
    assert "own.json, line 1" in str(refused.value) and message in str(refused.value)


def test_a_record_of_another_form_than_the_file_s_is_set_aside(home: Path, tmp_path: Path) -> None:
    path = written(tmp_path, {"instruction": "A?", "output": "B."}, {"prompt": "A?", "chosen": "B.", "rejected": "C."})
    with pytest.raises(DataError, match=r"line 1: the record is of the form preference, those before it .* alpaca"):
        read(home, path)


def test_a_record_that_holds_nothing_is_dropped_as_empty(home: Path, tmp_path: Path) -> None:
    rows, summary = read(
        home, written(tmp_path, {"instruction": "A?", "output": "B."}, {"instruction": None, "output": ""})
    )
    assert len(rows["pairs"]) == 1
    assert (summary["own.read"], summary["own.dropped"], summary["own.quarantined"]) == (2, 1, 0)


def test_what_is_set_aside_is_said_with_its_reason_and_place(home: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"Ask {number}?", "chosen": "y", "rejected": "n"} for number in range(99)]
    equal = {"prompt": "And?", "chosen": "y", "rejected": "y"}
    _, summary = read(home, written(tmp_path, *rows, equal))
    assert summary["preferences_read"] == 99 and summary["own.quarantined"] == 1
    notice = next(notice for notice in summary["notices"] if "set aside" in notice)
    assert "source own: 1 of 100 records" in notice and "own.json, line 1: chosen and rejected are the same" in notice


REAL = {
    "gsm8k_train.jsonl": ("prompt and completion", {"pairs": 7473}),
    "hh-rlhf_harmless-base_test.jsonl.gz": ("preference", {"preferences": 2299}),
    "llamafactory_dpo_en_demo.json": ("preference", {"preferences": 295}),
    "llamafactory_dpo_zh_demo.json": ("preference", {"preferences": 289}),
    "llamafactory_glaive_toolcall_en_demo.json": ("sharegpt", {"pairs": 265}),
    "llamafactory_glaive_toolcall_zh_demo.json": ("sharegpt", {"pairs": 257}),
    "llamafactory_identity.json": ("alpaca", {"pairs": 91}),
    "llamafactory_kto_en_demo.json": ("kto", {"pairs": 150, "preferences": 1}),
    "llamafactory_reason_tool_use_demo_50.jsonl": ("messages", {"pairs": 50}),
    "llamafactory_v1_sft_demo.jsonl": ("messages", {"pairs": 499}),
    "rasbt_instruction-data-llama3-7b.json": ("alpaca", {"pairs": 4}),
    "rasbt_instruction-data-with-preference.json": ("preference", {"preferences": 1094}),
    "rasbt_instruction-data-with-response.json": ("alpaca", {"pairs": 110}),
    "rasbt_instruction-data.json": ("alpaca", {"pairs": 1100}),
    "rasbt_instruction-examples-modified.json": ("alpaca", {"pairs": 199}),
    "rasbt_instruction-examples.json": ("alpaca", {"pairs": 199}),
    "self-instruct_seed_tasks.jsonl": ("alpaca", {"pairs": 175}),
}


def test_real_instruction_data_load_by_their_path_alone(home: Path) -> None:
    folder = shared_data("instruct")
    sources = [{"name": f"s{number}", "path": str(folder / name)} for number, name in enumerate(REAL)]
    artifact, summary = run_collect(home, conversations=sources)
    kept = {part: Counter(row["source"] for row in rows_of(artifact, part)) for part in ("pairs", "preferences")}
    repeated = summary["pairs_repeated"] + summary["pairs_leaking"]
    for number, (form, counts) in enumerate(REAL.values()):
        assert any(n.startswith(f"source s{number}: read as {form} (") for n in summary["notices"])
        for part, count in counts.items():
            lost = count - kept[part][f"s{number}"]
            assert 0 <= lost <= repeated and summary[f"s{number}.quarantined"] <= 13
    alone = {name: value for name, value in REAL.items() if name.startswith("llamafactory_glaive")}
    assert len(alone) == 2 and any("工具" in str(row) or "发票" in str(row) for row in rows_of(artifact, "pairs"))


def test_a_folder_of_all_forms_is_one_source(home: Path) -> None:
    folder = shared_data("instruct")
    rows, summary = read(home, folder)
    assert [len(rows["pairs"]), len(rows["preferences"])] == [
        summary["pairs_train"] + summary["pairs_heldout"],
        summary["preferences_train"] + summary["preferences_heldout"],
    ]
    assert len(rows["pairs"]) > 9_000 and len(rows["preferences"]) > 3_900
    train, heldout = (
        {row["group"] for part in rows.values() for row in part if row["split"] == s} for s in ("train", "heldout")
    )
    assert not train & heldout
