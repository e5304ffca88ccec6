"""What the stage collect says about itself."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from storage.documents import FEEDBACK
from storage.lookup import place_of, rows_called
from tasks.collect.discover import unread_files, where_in
from tasks.collect.foreseen import form_sentences
from tasks.collect.records import excerpt
from tasks.collect.report import report
from tasks.engine.about import DOCUMENTS, About, MadeRun, Step
from tasks.wording import clipped

MOST_LOST = 20  # records of a name or file


def _of_files(recipe: Any, will: str) -> list[str]:
    """What of the files is not read and, unless that is known of a build, as which form the others are."""
    forms = form_sentences(recipe.collecting) if will != "reuse" else []
    feedback = recipe.collecting.feedback
    if feedback and recipe.aligning is None:
        forms.append(
            f"source {FEEDBACK}: preferences of users are measured, not learned, before there are "
            f"{feedback.least_preferences:,} (collect.feedback.least_preferences), or `align: {{}}` is in the recipe"
        )
    return [*forms, *unread_files(recipe.collect)]


def _compared(config: Any) -> dict[str, Any]:
    return {"sources": ", ".join(_sources(config)), "heldout_fraction": config.heldout_fraction}


def _sources(config: Any) -> Iterator[str]:
    for source in (*config.files, *config.wikipedia, *config.conversations):
        yield f"{source.name} ({source.path})"
    for archive in config.warc:
        yield f"{archive.name} ({archive.where})"
    for site in config.web:
        yield f"{site.name} ({', '.join(site.urls or site.sitemaps)})"
    for hub in config.huggingface:
        yield f"{hub.name} ({hub.dataset})"
    if config.docstrings:
        yield f"docstrings ({len(config.docstrings.packages)} packages)"
    if config.synthetic:
        yield f"synthetic ({config.synthetic.documents} documents)"
    if config.feedback:
        yield FEEDBACK


def _explain(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    documents = run.part(stage, DOCUMENTS)
    place = place_of(documents, document["id"]) if documents else None
    return {"verdict": "collected", "shard": place.shard, "row": place.row} if place else None


def _explain_pair(run: MadeRun, stage: str, pair: Mapping[str, Any]) -> Step | None:
    rows = run.part(stage, pair["part"])
    place = place_of(rows, pair["id"]) if rows else None
    return {"verdict": "collected", "part": pair["part"], "shard": place.shard, "row": place.row} if place else None


def _explain_lost(run: MadeRun, stage: str, wanted: str, whole: bool) -> list[Step]:
    """Records that a rule dropped and those that were set aside: by their address or title, or by their file."""
    steps: list[Step] = []
    for name, verdict, known_by in (("dropped", "dropped", "name"), ("quarantine", "quarantined", "excerpt")):
        part = run.part(stage, name)
        columns = (known_by,) if whole else (known_by, "file")
        called = excerpt(wanted) if known_by == "excerpt" else wanted
        rows = rows_called(part, called, columns, whole=whole) if part else iter(())
        steps += [{"verdict": verdict, **row} for row in islice(rows, MOST_LOST)]
    return steps


def _words(step: Step) -> list[str]:
    if step["verdict"] == "quarantined":
        return [f"{where_in(step['file'], step['line'])}: {step['reason']}", clipped(step["excerpt"], 54)]
    if step["verdict"] == "dropped":
        where = where_in(step["file"], step["line"])
        return [f"as {step['rule'].replace('_', ' ')}: {where}", *([clipped(step["name"], 54)] if step["name"] else [])]
    part = f"{step['part']}, " if "part" in step else ""
    return [f"{part}shard {step['shard']}, row {step['row']}"]


COLLECT = About(
    work=None,
    same_kinds=("files", "docstrings", "synthetic"),
    notices=_of_files,
    data=(DOCUMENTS,),
    reads_sources=True,
    compared=_compared,
    report=report,
    explain=_explain,
    explain_pair=_explain_pair,
    explain_lost=_explain_lost,
    words=_words,
)
