"""Bad input in the user's instruction data: the rows of the table about one file each."""

import json
from typing import Any

from bad_input import BadInput, Contents

COLLECT = "run recipe.yaml --plain --to collect"
USER, ANSWER = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
GOOD: dict[str, Any] = {"messages": [USER, ANSWER]}


def _lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def _file(name: str, data: Contents, *holds: str, path: str = "talk.jsonl") -> BadInput:
    recipe = f"collect: {{synthetic: {{}}, conversations: [{{path: '{path}'}}], max_bad_fraction: 0}}\n"
    return BadInput(name, COLLECT, (path, *holds), {"recipe.yaml": recipe, path: data})


def _talk(name: str, messages: Any, *holds: str) -> BadInput:
    """A row about one conversation among good ones."""
    return _file(name, _lines(GOOD, {"messages": messages}), "line 2: ", *holds)


TALKS = (
    _talk("turn without a role", [{"content": "Why?"}, ANSWER], "messages.0: the turn has no role"),
    _talk("turn of an unknown role", [USER, {"role": "oracle", "content": "So."}], "messages.1: the role 'oracle'"),
    _talk("conversation without an answer", [USER], "messages: no turn is answered"),
    _talk("empty turn", [USER, {"role": "assistant", "content": " "}], "messages.1: the turn is empty"),
    _talk("conversation of no turn", [], "field 'messages' is not a conversation"),
    _talk("first turn by the assistant", [ANSWER, USER, ANSWER], "messages.0: the first turn is the assistant's"),
    _talk("two turns of the user in a row", [USER, USER, ANSWER], "messages.1: two turns of the user in a row"),
    _talk("image in a turn", [{"role": "user", "content": [{"type": "image"}]}, ANSWER], "messages.0", "not text"),
    _talk("call of a tool without a name", [USER, {"role": "assistant", "tool_calls": [{}, {"a": 1}]}], "no name"),
    _talk("turn of 8 MiB", [USER, {"role": "assistant", "content": "x " * (4 * 2**20 + 1)}], "max_document_bytes"),
)

FORMS = (
    _file("nested too deep", f'{_lines(GOOD)}{{"messages": {"[" * 100_000}{"]" * 100_000}}}\n', "line 2", "malformed"),
    _file("instruction without an answer", _lines({"instruction": "Why?"}), "'instruction' without an answer"),
    _file("chosen without rejected", _lines({"prompt": "Why?", "chosen": "So."}), "field 'chosen' without 'rejected'"),
    _file(
        "chosen and rejected alike",
        _lines({"prompt": "Why?", "chosen": "So.", "rejected": "So."}),
        "chosen and rejected are the same",
    ),
    _file(
        "label neither true nor false",
        _lines({**GOOD, "label": True}, {**GOOD, "label": "maybe"}),
        "line 2: field 'label' is 'maybe', neither true nor false",
    ),
    _file("text with a list of labels", _lines({"text": "Fine.", "label": ["a"]}), "the label, field 'label', is list"),
    _file(
        "mixed forms in a file",
        _lines(GOOD, {"instruction": "Why?", "output": "So."}),
        "line 2: the record is of the form alpaca, those before it in the file of the form messages",
    ),
    _file(
        "conversations without any known field",
        '{"q": "Why?", "a": "Because."}\n',
        "no field 'prompt'",
        "a, q",
        "prompt_field",
        path="qa.jsonl",
    ),
    BadInput(
        "fields of two forms stated",
        COLLECT,
        ("collect.conversations", "fields of pairs and of labels are named"),
        {"recipe.yaml": "collect: {conversations: [{path: a.jsonl, prompt_field: a, label_field: b}]}\n"},
    ),
)

ROWS: tuple[BadInput, ...] = (*TALKS, *FORMS)
