"""What the stage fetch says about itself."""

import shutil
from collections.abc import Iterator
from itertools import islice
from typing import Any

from storage.home import home
from storage.lookup import rows_called
from tasks.engine.about import About, MadeRun, Step, not_about_documents
from tasks.wording import clipped, rough_duration, size

MOST_LOST = 20  # addresses that have a piece of a name
# Of Parquet that is fetched (benchmarks/README.md, "Data sets of the hub"):
CORE_SECONDS_A_MEGABYTE = 4.5  # to collect, deduplicate, filter and tokenize it
ROOM = 5  # bytes of disk a byte: itself, the documents of three stages, and their tokens


def _compared(config: Any) -> dict[str, Any]:
    return {"sources": ", ".join(source.name for source in (*config.web, *config.huggingface, *config.files))}


def _notices(recipe: Any, will: str) -> list[str]:
    """What will be downloaded, what the stages up to tokenize make of it, and whether the disk of the home has the
    room, where the recipe states the bytes of its data sets."""
    stated = {source.dataset: source.total_bytes for source in recipe.fetching.huggingface if source.total_bytes}
    if will == "reuse" or not stated:
        return []
    total, place = sum(stated.values()), home()
    free = shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free
    sizes = " and ".join(f"{size(count)} of {dataset}" for dataset, count in stated.items())
    work, room = rough_duration(total / 1e6 * CORE_SECONDS_A_MEGABYTE), ROOM * total
    taken = f"at most about {work} of one CPU core and {size(room)} of disk"
    said = f"fetch: downloads {sizes}; the stages up to tokenize take {taken}"
    return [said if free >= room else f"{said}, and {size(free)} are free for {place} (LLMILL_HOME)"]


def _explain_lost(run: MadeRun, stage: str, wanted: str, whole: bool) -> list[Step]:
    """What became of an address: what was asked, and what was met and not asked."""
    return list(islice(_addresses(run, stage, wanted, whole), MOST_LOST))


def _addresses(run: MadeRun, stage: str, wanted: str, whole: bool) -> Iterator[Step]:
    visits, unasked = run.part(stage, "visits"), run.part(stage, "unasked")
    for row in rows_called(visits, wanted, ("url",), whole=whole) if visits else ():
        final = {"final": row["final"]} if row["final"] != row["url"] else {}
        about = {name: row[name] for name in ("source", "url", "reason")}
        yield {"verdict": row["outcome"], **about, **final}
    for row in rows_called(unasked, wanted, ("url",), whole=whole) if unasked else ():
        yield {"verdict": "not asked", **row}


def _words(step: Step) -> list[str]:
    led = [f"led to {clipped(step['final'], 47)}"] if "final" in step else []
    return [clipped(step["url"], 54), *led, *([clipped(step["reason"], 120)] if step["reason"] else [])]


FETCH = About(
    work=None,
    same_kinds=("web",),
    notices=_notices,
    compared=_compared,
    headline={"pages": "pages"},
    explain=not_about_documents,
    explain_lost=_explain_lost,
    words=_words,
)
