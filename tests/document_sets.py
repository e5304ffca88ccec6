"""Documents for the tests of the data stages: a stage in the place of collect, and a way to run one stage."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from storage.documents import (
    PAIRS_SCHEMA,
    TRAIN,
    Document,
    Pair,
    document_id,
    pair_row,
    read_rows,
    write_documents,
    write_rows,
)
from storage.store.artifacts import Artifact, StoredFile
from tasks.engine.builder import builder
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Execution, JobResult, Summary
from tasks.engine.stage import Stage, engine_in_force, stage

Rows = Sequence[
    tuple[str, ...]
]  # (text, split), and perhaps the source's name, the language that it states, metadata, url


class GivenConfig(StageConfig):
    shards: tuple[tuple[tuple[str, ...], ...], ...] = Field(description="Rows of each shard.")
    pairs: tuple[tuple[str, str], ...] = Field((), description="Prompt and answer of each training pair.")


@stage("given", parts=("documents", "pairs", "preferences", "labels"))
def given(config: GivenConfig, *, context: Context) -> Summary:
    for number, rows in enumerate(config.shards):
        documents = [_document(str(row), *values) for row, values in enumerate(rows)]
        write_documents(context.part("documents") / f"{number:05d}.parquet", documents)
    pairs = [
        pair_row(Pair(str(number), "g", TRAIN, prompt, answer, "test"))
        for number, (prompt, answer) in enumerate(config.pairs)
    ]
    write_rows(context.part("pairs") / "00000.parquet", pairs, PAIRS_SCHEMA)
    for part in ("preferences", "labels"):
        write_rows(context.part(part) / "00000.parquet", [], PAIRS_SCHEMA)
    return {"documents": sum(map(len, config.shards))}


def _document(
    group: str, text: str, split: str, source: str = "test", lang: str = "", metadata: str = "{}", url: str = ""
) -> Document:
    identity = document_id(source, group, text)
    return Document(identity, text, source, group, split, url=url, lang=lang, metadata=json.loads(metadata))


def job_result(name: str, out: Path, summary: Summary) -> JobResult:
    """What the files in a folder are as the result of a job."""
    return JobResult(name, {one.name: StoredFile(one.name, "", 0, one) for one in out.iterdir()}, summary)


def training(*texts: str) -> Rows:
    return [(text, TRAIN) for text in texts]


def source(home: Path, *shards: Rows, pairs: Sequence[tuple[str, str]] = ()) -> Artifact:
    """The shards as an artifact."""
    with builder(home) as engine, engine_in_force(engine):
        artifact = given(GivenConfig(shards=tuple(tuple(rows) for rows in shards), pairs=tuple(pairs)))
    assert isinstance(artifact, Artifact)
    return artifact


def run(
    home: Path,
    of: Stage,
    config: StageConfig,
    *shards: Rows,
    pairs: Sequence[tuple[str, str]] = (),
    workers: int = 1,
) -> tuple[Artifact, Summary]:
    """Build one stage over the given shards, in the place of each of its inputs; its artifact and summary."""
    given = source(home, *shards, pairs=pairs)
    with builder(home, Execution(workers=workers)) as engine, engine_in_force(engine):
        artifact = of(config, *[given] * len(of.reads))
        assert isinstance(artifact, Artifact)
        return artifact, engine.results[-1].summary


def rows_of(artifact: Artifact, part: str) -> list[dict[str, Any]]:
    return list(_rows(artifact[part].path))


def texts_of(artifact: Artifact) -> list[str]:
    return [row["text"] for row in rows_of(artifact, "documents")]


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.parquet")):
        yield from read_rows(path)
