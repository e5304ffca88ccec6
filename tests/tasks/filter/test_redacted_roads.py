"""What is learned from is redacted, on every road: documents, pairs, continuations."""

import json
from pathlib import Path
from typing import Any

import pytest

from storage.documents import SUPERVISED, read_rows
from storage.store.artifacts import Artifact
from storage.store.local import Store
from storage.tokens import TokenSet
from tasks.collect.config import CollectConfig
from tasks.collect.stage import collect
from tasks.deduplicate import DeduplicateConfig, deduplicate
from tasks.engine.builder import Builder
from tasks.engine.context import Execution
from tasks.engine.stage import engine_in_force
from tasks.evaluate.documents import heldout_pairs
from tasks.filter import FilterConfig, filter_documents
from tasks.tokenize.stage import TokenizeConfig, tokenize
from tasks.tokenize.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer
from tasks.train.pairs import pairs_of

PLANTED = "@firma.test-mail.de"  # of an address; what stands before it differs from record to record
ROWS = 60


def planted(number: int) -> str:
    return f"person{number}.real{PLANTED}"


@pytest.fixture(scope="module")
def roads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The stages from collect to tokenize over planted documents and pairs, with and without redaction."""
    folder = tmp_path_factory.mktemp("roads")
    documents = [
        f"Report {number} says what the bridge of town {number} has cost, and who was asked about it at length. "
        f"Write to {planted(number)} for the rest of report {number}. It is worth the time of everyone in town."
        for number in range(ROWS)
    ]
    pairs = [
        {"prompt": f"Who is {planted(number)}?", "answer": f"Person {number}, phone +49 171 23456{number:02d}."}
        if number % 2
        else {"prompt": f"What is the address of person {number}?", "answer": f"It is {planted(number)}."}
        for number in range(ROWS)
    ]
    talks = [
        {
            "messages": [
                {"role": "system", "content": f"You write for {planted(number)}."},
                {"role": "user", "content": f"Call {number}: write to {planted(number)}."},
                {"role": "assistant", "content": f"I wrote to {planted(number)}."},
                {"role": "user", "content": "And?"},
                {"role": "assistant", "content": "Nothing."},
            ]
        }
        for number in range(3)
    ]
    judged = [{"prompt": f"Who {n}?", "chosen": "I cannot say.", "rejected": f"It is {planted(n)}."} for n in range(3)]
    labels = [{"text": f"Write to {planted(number)}", "label": "request"} for number in range(3)]
    rows_by_name: dict[str, list[Any]] = {"documents": [{"text": text} for text in documents], "pairs": pairs}
    for name, rows in {**rows_by_name, "talks": talks, "judged": judged, "labels": labels}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        name: build(folder, FilterConfig(preset="none", redact=kinds))
        for name, kinds in (("redacted", ("email", "phone")), ("as found", ()))
    }


def build(folder: Path, config: FilterConfig) -> dict[str, Artifact]:
    collected = CollectConfig(
        files=({"path": str(folder / "documents.jsonl")},),
        conversations=tuple(
            {"name": name, "path": str(folder / f"{name}.jsonl")} for name in ("pairs", "talks", "judged", "labels")
        ),
        heldout_fraction=0.3,
    )
    with Builder(Store(folder / "home"), Execution(workers=1)) as builder, engine_in_force(builder):
        found: Any = collect(collected)
        clean: Any = filter_documents(config, deduplicate(DeduplicateConfig(), found), found)
        tokenizer: Any = train_tokenizer(TokenizerConfig(vocabulary_size=340), clean)
        tokens: Any = tokenize(TokenizeConfig(canaries=0), clean, tokenizer)
    return {"clean": clean, "tokenizer": tokenizer, "tokens": tokens}


def learned(built: dict[str, Artifact], road: str) -> str:
    """All text that reaches a model by one road."""
    clean = built["clean"]
    if road == "tokens":
        encoder = load_tokenizer(built["tokenizer"]["tokenizer"].path)
        shards = [
            shard for split in ("train", "heldout") for shard in TokenSet(built["tokens"]["tokens"].path, split).shards
        ]
        return "\n".join(encoder.decode(shard.tokens.tolist()) for shard in shards)
    if road in SUPERVISED:
        return json.dumps([row for file in clean[road].files for row in read_rows(file.path)])
    if road == "evaluate":
        return "\n".join(f"{pair.prompt} {pair.answer}" for pair in heldout_pairs(clean["pairs"].path, ROWS, 0))
    pairs = pairs_of(road, clean["pairs"], clean["documents"])  # type: ignore[arg-type]
    return "\n".join(f"{pair.prompt} {pair.answer}" for pair in pairs)


@pytest.mark.parametrize("road", ["tokens", "collected", "continuations", "evaluate", *SUPERVISED])
def test_no_planted_address_reaches_a_model(roads: dict[str, Any], road: str) -> None:
    assert PLANTED in learned(roads["as found"], road), "else this test could not fail"
    text = learned(roads["redacted"], road)
    assert PLANTED not in text
    assert "email@example.com" in text


def test_numbers_in_answers_go_too_and_are_counted(roads: dict[str, Any]) -> None:
    assert "+49 171" in learned(roads["as found"], "collected")
    text = learned(roads["redacted"], "collected")
    assert "+49 171" not in text
    assert text.count("555-0100") == ROWS // 2
