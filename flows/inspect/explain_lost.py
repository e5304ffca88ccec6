"""What `llmill explain` is asked for and never became a document: what each stage knows of it.

A page that was not fetched, one that a rule of collect dropped, a record that was set aside.
"""

from typing import Any

from flows.build import BUILD
from storage.errors import DataError
from tasks.engine.about import MadeRun, Step

SHOWN = 5  # records of a stage; a file may have millions


def lost_steps(run: MadeRun, wanted: str, *, whole: bool) -> list[dict[str, Any]]:
    """The steps of what is called so; `whole` asks for the whole name, else for a piece of it or its file.

    An address that led to another is followed to where it led.
    """
    found: list[dict[str, Any]] = []
    names = [wanted]
    for stage in BUILD.stages:
        rows = [step for name in names for step in stage.about.explain_lost(run, stage.name, name, whole)]
        names += sorted({final for row in rows if (final := row.get("final", "")) and final not in names})
        found += [{"stage": stage.name, **row} for row in rows[:SHOWN]]
    return found


def led_to(steps: list[Step]) -> str:
    """The one address that a lost one led to; empty where there is none."""
    finals = {step["final"] for step in steps if step.get("final")}
    return finals.pop() if len(finals) == 1 else ""


def nothing_known(run: MadeRun, name: str, wanted: str) -> DataError:
    """Nobody knows what is wanted, and how much is not listed."""
    unlisted = sum(count for figure, count in run.summary("collect").items() if figure.endswith(".unlisted"))
    more = f"; of what rules left out, {unlisted:,} records are counted and not listed" if unlisted else ""
    return DataError(
        f"no document of run {name} has the id, title or URL {wanted!r}, none of its stages has left out or set aside "
        f"one of that address, title or file, and no pair has these words in a question{more}"
    )
