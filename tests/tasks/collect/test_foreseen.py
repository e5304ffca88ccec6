"""What a plan says of instruction data before they are read, and what new ones touch."""

import json
import tarfile
from pathlib import Path
from typing import Any

from collecting import run_collect

from tasks.collect.config import CollectConfig
from tasks.collect.foreseen import foreseen_parts, form_sentences


def test_a_plan_names_the_form_of_each_file_without_reading_long_ones(tmp_path: Path) -> None:
    made: dict[str, list[dict[str, Any]]] = {
        "a.json": [{"instruction": "A?", "output": "B."}] * 3,
        "b.jsonl": [{"messages": [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B."}]}],
        "c.json": [{"prompt": "A?", "chosen": "B.", "rejected": "C."}],
        "d.json": [{"nothing": "known"}],
    }
    for name, rows in made.items():
        text = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name).write_text(text)
    (tmp_path / "long.jsonl").write_text(json.dumps({"question": "A?", "answer": "B" * 1000}) + "\n")
    with (tmp_path / "long.jsonl").open("a") as file:
        file.writelines(json.dumps({"question": f"{n}?", "answer": "B" * 1000}) + "\n" for n in range(9_000))
    config = CollectConfig(conversations=({"name": "own", "path": str(tmp_path)},))
    (sentence,) = form_sentences(config)
    assert sentence == (
        "source own: read as alpaca (a.json: 3 records), messages (b.jsonl: 1 records), "
        "preference (c.json: 1 records), prompt and completion (long.jsonl)"
    )
    assert foreseen_parts(config) == {"pairs", "preferences"}


def test_folders_named_after_labels_are_foreseen_in_archives_too(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "texts.tar", "w"):
        pass
    source = {"name": "own", "path": str(tmp_path / "texts.tar"), "label_folders": True}
    assert foreseen_parts(CollectConfig(conversations=(source,))) == {"labels"}


def test_what_an_archive_holds_may_be_pairs(tmp_path: Path) -> None:
    (tmp_path / "liked.jsonl").write_text(json.dumps({"prompt": "A?", "chosen": "B.", "rejected": "C."}) + "\n")
    config = CollectConfig(conversations=({"name": "own", "path": str(tmp_path)},))
    assert foreseen_parts(config) == {"preferences"}
    with tarfile.open(tmp_path / "more.tar", "w"):
        pass
    assert foreseen_parts(config) == {"pairs", "preferences"}
    assert form_sentences(config) == ["source own: read as preference (liked.jsonl: 1 records)"]


def test_new_preferences_leave_the_pairs_as_they_are(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps([{"instruction": f"{n}?", "output": "B."} for n in range(30)]))
    digests = []
    for answer in ("B.", "D."):
        (folder / "b.json").write_text(json.dumps([{"prompt": "A?", "chosen": answer, "rejected": "C."}]))
        artifact, _ = run_collect(home, conversations=[{"name": "own", "path": str(folder)}])
        digests.append({name: artifact[name].digest for name in ("pairs", "preferences", "labels")})
    same = {name: digests[0][name] == digests[1][name] for name in digests[0]}
    assert same == {"pairs": True, "preferences": False, "labels": True}
