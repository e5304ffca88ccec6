"""Rows of real benchmarks that are known to stand in real texts are found, and nothing else is."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from contaminated import decontaminated
from document_sets import rows_of
from support import shared_data
from tiny_model import LocalContext

from storage.documents import read_rows
from tasks.evaluate.item_texts import ItemsConfig, read_asked

TASKS = ("lambada_openai", "boolq", "arc_easy", "arc_challenge", "piqa", "winogrande")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corpus", "benchmark", "found", "texts"), [("books_en", "lambada_openai", 4, 28), ("wiki_en", "boolq", 3, 196)]
)
def test_known_rows_are_found_and_nothing_else(
    corpus: str, benchmark: str, found: int, texts: int, home: Path, tmp_path: Path
) -> None:
    tasks = tuple({"name": name, "data": str(shared_data("bench", f"{name}.jsonl"))} for name in TASKS)
    with pa.input_stream(shared_data("corpus", f"{corpus}.jsonl.zst"), compression="zstd") as file:
        documents = [json.loads(line)["text"] for line in file.read().split(b"\n") if line]
    assert len(documents) == texts
    context = LocalContext(tmp_path)
    read_asked.function(ItemsConfig(tasks=tasks, seed=1), context=context)
    items: dict[str, list[str]] = {}
    for row in read_rows(context.part("items") / "items.parquet"):
        items.setdefault(row["benchmark"], []).append(row["text"])
    done = decontaminated(home, [documents], items, workers=2)
    assert [row["benchmark"] for row in done.ledger] == [benchmark] * found
    assert {row["action"] for row in done.ledger} == {"cut"}, "no book goes for a sentence"
    dirty = {row["benchmark"] for row in rows_of(done.artifact, "found") if row["state"] == "dirty"}
    assert dirty == {benchmark} and len(done.texts) == texts
    assert sum(map(len, documents)) - sum(map(len, done.texts)) < 1000 * found
