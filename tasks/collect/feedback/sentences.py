"""What is said of what users have said: for a plan, a run and `llmill feedback`."""

from collections.abc import Iterator, Mapping

from storage.documents import FEEDBACK, HELDOUT, PAIRS, PREFERENCES, TRAIN
from tasks.collect.feedback.derive import HELDOUT_USERS, USERS, figure_of
from tasks.collect.feedback.rules import RULES
from tasks.collect.output import DROPPED

NOTHING = "collect.feedback: users have said nothing yet (`llmill serve`): there is nothing to learn from"


def feedback_sentences(figures: Mapping[str, int]) -> Iterator[str]:
    """What became of the records, by the figures of the work on them."""
    read = figures.get("read", 0)
    if not read:
        yield NOTHING
        return
    made = [
        f"{figures.get(figure_of(part, TRAIN), 0):,} {part} for training"
        + (f" and {count:,} held out" if (count := figures.get(figure_of(part, HELDOUT), 0)) else "")
        for part in (PAIRS, PREFERENCES)
    ]
    users = figures.get(USERS, 0)
    yield f"source {FEEDBACK}: {read:,} records of {users:,} user{'s' * (users != 1)} become {', '.join(made)}"
    if lost := dict(left_out(figures)):
        yield f"source {FEEDBACK}: left out: {', '.join(f'{count:,} {name}' for name, count in lost.items())}"
    if not figures.get(HELDOUT_USERS):
        yield (
            f"source {FEEDBACK}: no user is held out, so the verdict has no figure of it "
            "(collect.feedback.heldout_users)"
        )


def left_out(figures: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Why records were left out, in words, with their number; those that cannot be used last."""
    for rule in RULES:
        if count := figures.get(f"{DROPPED}{rule}", 0):
            yield rule.replace("_", " "), count
    if count := figures.get("quarantined", 0):
        yield "that cannot be used", count
