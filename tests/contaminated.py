"""Texts that hold items of benchmarks, for the tests of decontamination: stages in the place of filter and items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from document_sets import rows_of
from pydantic import Field

from storage.documents import (
    PAIRS_SCHEMA,
    SUPERVISED,
    TRAIN,
    Document,
    Message,
    Pair,
    document_id,
    pair_row,
    write_documents,
    write_rows,
)
from storage.store.artifacts import Artifact
from tasks.decontaminate.config import DecontaminateConfig
from tasks.decontaminate.items import ITEMS_SCHEMA, item_row
from tasks.decontaminate.stage import decontaminate
from tasks.engine.builder import builder
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Execution, Summary
from tasks.engine.listener import StageResult
from tasks.engine.stage import engine_in_force, stage

Shards = Sequence[Sequence[str]]
Items = Mapping[str, Sequence[str]]  # by benchmark
Rows = Mapping[str, Sequence[tuple[str, str, str, str]]]  # by part: what stands before, prompt, answer, rejected


class CleanConfig(StageConfig):
    shards: tuple[tuple[str, ...], ...] = Field(description="Texts of each shard.")
    rows: tuple[tuple[str, tuple[tuple[str, str, str, str], ...]], ...] = Field((), description="Supervised data.")


class AskedConfig(StageConfig):
    items: tuple[tuple[str, tuple[str, ...]], ...] = Field(description="Items of each benchmark.")


@stage("clean", parts=("documents", "signals", *SUPERVISED))
def cleaned(config: CleanConfig, *, context: Context) -> Summary:
    for number, texts in enumerate(config.shards):
        made = [Document(name_of(text, place), text, "test", str(place), TRAIN) for place, text in enumerate(texts)]
        write_documents(context.part("documents") / f"{number:05d}.parquet", made)
    (context.part("signals") / "00000.txt").write_text("signals")
    given = dict(config.rows)
    for part in SUPERVISED:
        pairs = [
            Pair(f"{part}{number}", "g", TRAIN, prompt, answer, "test", (Message("system", said),), rejected)
            for number, (said, prompt, answer, rejected) in enumerate(given.get(part, ()))
        ]
        write_rows(context.part(part) / "00000.parquet", map(pair_row, pairs), PAIRS_SCHEMA)
    return {}


@stage("asked", parts=("items",))
def asked(config: AskedConfig, *, context: Context) -> Summary:
    rows = (
        item_row(name, f"{name}-{number}", text) for name, texts in config.items for number, text in enumerate(texts)
    )
    write_rows(context.part("items") / "items.parquet", rows, ITEMS_SCHEMA)
    return {}


def name_of(text: str, place: int) -> str:
    """The id of a document."""
    return document_id("test", str(place), text)


@dataclass(frozen=True)
class Done:
    """What decontamination has made, and how."""

    artifact: Artifact
    result: StageResult

    @property
    def texts(self) -> list[str]:
        return [row["text"] for row in rows_of(self.artifact, "documents")]

    @property
    def ledger(self) -> list[dict[str, Any]]:
        return rows_of(self.artifact, "ledger")

    @property
    def items(self) -> list[str]:
        """The items that were found, one for each text that holds it."""
        return [row["item"] for row in self.ledger]

    @property
    def states(self) -> dict[str, str]:
        return {row["item"]: row["state"] for row in rows_of(self.artifact, "found")}


def decontaminated(
    home: Path, shards: Shards, items: Items, *, rows: Rows | None = None, workers: int = 1, **settings: Any
) -> Done:
    """Decontaminate some texts and supervised data."""
    given = CleanConfig(
        shards=tuple(map(tuple, shards)), rows=tuple((part, tuple(some)) for part, some in (rows or {}).items())
    )
    wanted = AskedConfig(items=tuple((name, tuple(texts)) for name, texts in items.items()))
    with builder(home, Execution(workers=workers)) as engine, engine_in_force(engine):
        artifact = decontaminate(DecontaminateConfig(**settings), cleaned(given), asked(wanted))
    assert isinstance(artifact, Artifact)
    return Done(artifact, engine.results[-1])
