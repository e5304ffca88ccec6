"""`llmill feedback`: what users have said of answers, and what it becomes as training data, by the stage's own code."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.build import Recipe
from flows.retrain import learning_from_users
from flows.terminal.columns import table
from storage.documents import HELDOUT, PAIRS, PREFERENCES, TRAIN
from storage.feedback import Vote
from tasks.collect.feedback.derive import (
    BENCHMARKS,
    HELDOUT_USERS,
    RECORDS,
    USERS,
    FeedbackJob,
    figure_of,
    learns_enough_preferences,
    read_feedback,
)
from tasks.collect.feedback.records import all_records, write_records
from tasks.collect.feedback.sentences import left_out
from tasks.evaluate.item_runs import FILE, write_runs

EMPTY = (
    "users have said nothing yet. On the page of `llmill serve` each answer has a thumb up, a thumb down and a field "
    "for what it should have said; programs send that to /v1/feedback. `llmill retrain` learns from it as soon as "
    "there is any"
)
SHOWN_DIGITS = 8


def feedback_state(recipe: Recipe) -> dict[str, Any]:
    """The `--json` object: what was said, and what a retraining by this recipe would make of it."""
    said, models = Counter(dict.fromkeys(("up", "down", "corrections", "votes"), 0)), Counter[str]()
    for record in all_records():
        if isinstance(record, Vote):
            said["votes"] += 1
            models.update({record.model_a, record.model_b})
        else:
            said.update({record.rating: 1} if record.rating else {})
            said["corrections"] += record.correction is not None
            models[record.model] += 1
    learning = learning_from_users(recipe)
    figures, source = _figures(learning), learning.collect.feedback
    return {
        "records": figures.get("read", 0),
        "users": figures.get(USERS, 0),
        "said": dict(said),
        "models": dict(models.most_common()),
        "recipe": recipe.name,
        "becomes": {
            part: {split: figures.get(figure_of(part, split), 0) for split in (TRAIN, HELDOUT)}
            for part in (PAIRS, PREFERENCES)
        },
        "users_heldout": figures.get(HELDOUT_USERS, 0),
        "left_out": dict(left_out(figures)),
        "unusable": [kind["reason"] for kind in figures.get("bad", ())],
        "settings": source.model_dump() if source else None,
        "preferences_learned": bool(recipe.align)
        or (source is not None and learns_enough_preferences(source, figures)),
    }


def _figures(recipe: Recipe) -> Mapping[str, Any]:
    """What the stage collect would count; empty where nothing was said or is to be learned."""
    source = recipe.collecting.feedback
    if source is None:
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = {RECORDS: folder / RECORDS}
        write_records(files[RECORDS])
        if recipe.unlearned:
            write_runs(recipe.unlearned, folder)
            files[BENCHMARKS] = folder / FILE
        shared = {name: getattr(recipe.collect, name) for name in ("documents_per_shard", "max_document_bytes")}
        return read_feedback(FeedbackJob(**source.model_dump(), **shared), files, folder)


def feedback_text(found: Mapping[str, Any]) -> str:
    """The same for a person."""
    if not sum(found["said"].values()):
        return EMPTY
    said = [(name, f"{count:,}") for name, count in found["said"].items()]
    models = [(digest[:SHOWN_DIGITS], f"{count:,}") for digest, count in found["models"].items()]
    lines = [table(("said", "records"), said), "", table(("of the model", "records"), models), ""]
    if found["settings"] is None:
        return "\n".join([*lines, "nothing is learned from it: the recipe has retrain.feedback=false"])
    becomes = [
        (part, f"{made[TRAIN]:,}", f"{made[HELDOUT]:,}", _where(part, found)) for part, made in found["becomes"].items()
    ]
    lines.append(table(("becomes", "learned", "held out", "where"), becomes))
    lines += [f"left out: {count:,} {name}" for name, count in found["left_out"].items()]
    lines += [f"cannot be used: {reason}" for reason in found["unusable"]]
    lines += ["", f"users: {found['users']:,}, of whom {found['users_heldout']:,} are held out for the verdict"]
    lines += [
        "",
        "`llmill retrain` learns from it; a recipe for `llmill run` does with",
        "  collect: {feedback: {}}              # liked: true learns liked answers too",
    ]
    if not found["preferences_learned"]:
        lines.append("  align: {}                            # learns preferences, however few")
    return "\n".join(lines)


def _where(part: str, found: Mapping[str, Any]) -> str:
    if part == PAIRS:
        return "finetune"
    least = found["settings"]["least_preferences"]
    return "align" if found["preferences_learned"] else f"align, from {least:,} on"
