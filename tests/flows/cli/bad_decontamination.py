"""Bad input of decontamination: files of items, and the settings of its section."""

from bad_input import BadInput

RECIPE = "collect:\n  synthetic: {documents: 40}\n"


def _recipe(name: str, settings: str, *holds: str, items: str | bytes | None = None) -> BadInput:
    files = {"recipe.yaml": f"{RECIPE}decontaminate: {{{settings}}}\n"}
    return BadInput(name, "plan recipe.yaml", holds, files if items is None else {**files, "exam.jsonl": items})


def _file(name: str, items: str | bytes | None, *holds: str, more: str = "") -> BadInput:
    return _recipe(name, f"files: [{{name: exam, path: exam.jsonl{more}}}]", *holds, items=items)


ROWS = (
    _file("items that are not there", None, "decontaminate.files[0].path", "exam.jsonl"),
    _file("items that are no JSON", '{"text": "one"}\n{"text": \n', "exam.jsonl", "line 2", "fix it or leave it out"),
    _file("items of bad bytes", b'{"text": "\xff\xfe\xfa"}\n', "exam.jsonl", "line 1"),
    _file("an item without the field", '{"text": "one"}\n{"q": "two"}\n', "line 2", "no field 'text' (it has: q)"),
    _file("an item that is an object", '{"text": {"a": 1}}\n', "line 1", "'text' is not text but dict"),
    _file(
        "an item of one of two fields", '{"text": "one"}\n', "no field 'answer'", more=", text_fields: [text, answer]"
    ),
    _file("items of nothing", '{"text": " "}\n', "exam.jsonl: holds no item"),
    _file("items in an empty file", "", "exam.jsonl", "empty file"),
    _recipe("items without a name", "files: [{path: exam.jsonl}]", "decontaminate.files.0.name"),
    _recipe("a mode that is none", "mode: off", "decontaminate.mode", "'remove', 'report' or 'none'"),
    _recipe("runs of no words", "run_words: 0", "decontaminate.run_words", "greater than or equal to 5"),
    _recipe("a share of more than all", "min_overlap: 2", "decontaminate.min_overlap"),
)
