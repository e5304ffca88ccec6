"""Models ranked by the votes of people who saw two answers side by side: for the command and for reports."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flows.champion.champion import champion_ref
from flows.inspect.references import find_part
from flows.terminal.columns import table, wrapped
from storage.errors import ConfigError, DataError, StoreError
from storage.feedback import open_feedback
from storage.store.local import Store
from tasks.evaluate.statistics.votes import FEW, Ranking, Standing, rank
from tasks.wording import as_per_cent

if TYPE_CHECKING:
    from storage.feedback import FeedbackStore

SHOWN_CHARACTERS = 12  # of a digest
HEADS = ("model", "points", "95 % interval", "best in", "votes", "wins", "losses", "ties", "both bad")


def ranking(kept: "FeedbackStore", since: str = "") -> Ranking:
    """The ranking by all votes since a time."""
    return rank((vote.model_a, vote.model_b, vote.choice) for vote in kept.votes(since))


def champion_digest(store: Store) -> str | None:
    """The digest of the champion's release, as servers name it; None where there is none that can be read."""
    try:
        champion = champion_ref(store)
        return None if champion is None else find_part(store, champion.artifact, "release").digest
    except DataError:
        return None


def ranking_text(ranked: Ranking, champion: str | None) -> str:
    """A table of the models, and what it does not say by itself."""
    lines = [table(HEADS, [_cells(one, champion) for one in ranked.standings])]
    for remark in _remarks(ranked):
        lines += wrapped(remark)
    return "\n".join(lines)


def ranking_json(ranked: Ranking, champion: str | None) -> dict[str, Any]:
    """The same for programs."""
    rows = []
    for one in ranked.standings:
        rounded = {name: round(getattr(one, name), 1) for name in ("points", "low", "high")}
        rows.append({**asdict(one), **rounded, "votes": one.votes, "champion": one.model == champion})
    shown_first = {"decided": ranked.decided, "won": ranked.decided_for_a}
    return {"models": rows, "pairs": [asdict(one) for one in ranked.meetings], "shown_first": shown_first}


def votes_so_far(store: Store) -> list[dict[str, Any]]:
    """The ranked models for the report of a retraining; empty where nobody has voted, or the votes cannot be read."""
    try:
        ranked = ranking(open_feedback(store.home))
    except (ConfigError, StoreError):  # the verdict stands without them
        return []
    rows: list[dict[str, Any]] = ranking_json(ranked, champion_digest(store))["models"]
    return rows


def _cells(one: Standing, champion: str | None) -> tuple[str, ...]:
    name = _short(one.model) + (" *" if one.model == champion else "")
    counts = (one.votes, one.wins, one.losses, one.ties, one.both_bad)
    return name, f"{one.points:.0f}", f"{one.low:.0f} to {one.high:.0f}", as_per_cent(one.best), *map(str, counts)


def _remarks(ranked: Ranking) -> list[str]:
    said = []
    groups: dict[int, list[Standing]] = {}
    for one in ranked.standings:
        groups.setdefault(one.group, []).append(one)
    if len(groups) > 1:
        said.append(
            f"{len(groups)} groups of models were never compared, not even through others: points of one say nothing "
            f"of another. They are {'; '.join(_listed(group) for group in groups.values())}."
        )
    if few := [one for one in ranked.standings if one.votes < FEW]:
        said.append(f"Fewer than {FEW} votes, so that their points are a hint: {_listed(few)}.")
    if ranked.decided:
        share = as_per_cent(ranked.decided_for_a / ranked.decided)
        said.append(f"The answer that was shown first won {share} of the {ranked.decided} votes for one of two.")
    said.append("Best in: of 1000 draws of the votes. *: the champion.")
    return said


def _listed(standings: Sequence[Standing]) -> str:
    return ", ".join(_short(one.model) for one in standings)


def _short(digest: str) -> str:
    return digest[:SHOWN_CHARACTERS]
