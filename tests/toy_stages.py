"""Three toy stages on words, their flow and its plan, for tests of the engine: `from toy_stages import run`."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.engine.builder import Builder
from tasks.engine.config import LOCATION, StageConfig
from tasks.engine.context import Context, Execution, Summary
from tasks.engine.listener import StageResult
from tasks.engine.planner import Options, Planner
from tasks.engine.stage import Output, engine_in_force, stage

CALLS: Counter[str] = Counter()  # of each stage's function


class WordsConfig(StageConfig):
    text: str = Field("to be or not to be", description="Words, separated by spaces.")
    where: str = Field("", description="A place.", json_schema_extra=LOCATION)


class UniqueConfig(StageConfig):
    min_letters: int = Field(0, ge=0, description="Shortest word kept.")


class CountConfig(StageConfig):
    base: int = Field(10, ge=2, description="Added to the count.")


@stage("words", parts=("words", "log"), observe=lambda config: {"clock": os.environ.get("TOY_SOURCE", "1")})
def words(config: WordsConfig, *, context: Context) -> Summary:
    CALLS["words"] += 1
    lines = config.text.split()
    (context.part("words") / "words.txt").write_text("\n".join(lines))
    (context.part("log") / "log.txt").write_text(os.environ.get("TOY_SOURCE", "1"))
    return {"words": len(lines)}


def shout(config: Any, inputs: dict[str, Path], out: Path) -> Summary:
    """One shard: its words in capitals."""
    (out / "shard.txt").write_text(inputs["words"].read_text().upper())
    return {"worker": os.getpid()}


@stage("unique", parts=("words", "ledger"), reads={"source": ("words",)})
def unique(config: UniqueConfig, source: Artifact, *, context: Context) -> Summary:
    CALLS["unique"] += 1
    every = (source["words"] / "words.txt").read_text().split()
    kept = [word for word in dict.fromkeys(every) if len(word) >= config.min_letters]
    (context.part("words") / "words.txt").write_text("\n".join(kept))
    (context.part("ledger") / "ledger.txt").write_text(f"min_letters {config.min_letters}")
    return {"read": len(every), "kept": len(kept), "dropped": len(every) - len(kept), "quarantined": 0}


@stage("count", parts=("count",), reads={"source": ("words",)})
def count(config: CountConfig, source: Artifact, *, context: Context) -> Summary:
    CALLS["count"] += 1
    assert "ledger" not in source.parts, "a stage sees only the parts that it declares"
    number = len((source["words"] / "words.txt").read_text().split()) + config.base
    (context.part("count") / "count.txt").write_text(str(number))
    return {"count": number}


def flow(words_config: WordsConfig, unique_config: UniqueConfig, count_config: CountConfig) -> Output:
    return count(count_config, unique(unique_config, words(words_config)))


def run(
    home: Path,
    words_config: WordsConfig | None = None,
    unique_config: UniqueConfig | None = None,
    count_config: CountConfig | None = None,
    options: Options | None = None,
) -> dict[str, StageResult]:
    with Builder(Store(home), Execution(workers=1), options) as builder, engine_in_force(builder):
        flow(words_config or WordsConfig(), unique_config or UniqueConfig(), count_config or CountConfig())
    return {result.stage: result for result in builder.results}


def plan(
    home: Path, unique_config: UniqueConfig | None = None, options: Options | None = None
) -> dict[str, tuple[str, tuple[str, ...]]]:
    planner = Planner(Store(home), options or Options())
    with engine_in_force(planner):
        flow(WordsConfig(), unique_config or UniqueConfig(), CountConfig())
    return {made.name: (decision.will, decision.why) for made, decision in planner.decisions}


def outcomes(results: dict[str, StageResult]) -> dict[str, str]:
    return {name: result.outcome for name, result in results.items()}
