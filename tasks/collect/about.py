"""What the stage collect says about itself."""

from collections.abc import Mapping
from typing import Any

from storage.lookup import place_of
from tasks.collect.discover import unread_files
from tasks.engine.about import DOCUMENTS, About, MadeRun, Step
from tasks.wording import clipped


def _unread_files(recipe: Any, will: str) -> list[str]:
    return unread_files(recipe.collect)


def _explain(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    documents = run.part(stage, DOCUMENTS)
    place = place_of(documents, document["id"]) if documents else None
    return {"verdict": "collected", "shard": place.shard, "row": place.row} if place else None


def _words(step: Step) -> list[str]:
    if step["verdict"] == "quarantined":
        return [f"{step['file']}, line {step['line']}: {step['reason']}", clipped(step["excerpt"], 54)]
    return [f"shard {step['shard']}, row {step['row']}"]


COLLECT = About(
    work=None,
    told_apart_by=("files", "docstrings", "synthetic"),
    look=_unread_files,
    data=(DOCUMENTS,),
    reads_sources=True,
    explain=_explain,
    words=_words,
)
