"""What the stage deduplicate says about itself."""

from collections.abc import Mapping
from typing import Any

from storage.documents import label
from storage.lookup import document_at, place_of, rows_where
from tasks.deduplicate.report import AGAINST, LINES, PASSAGES, report
from tasks.engine.about import DOCUMENTS, LEDGER, About, MadeRun, Step, settings
from tasks.wording import clipped, figure

SHOWN = 5  # duplicates in whose place a document was kept
_SIMILARITY = ("jaccard", "estimated_jaccard")


def _explain(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    """Which document it was dropped for, or which ones it was kept instead of."""
    documents, ledger = run.part(stage, DOCUMENTS), run.part(stage, LEDGER)
    if documents is None or ledger is None:
        return None
    if place_of(documents, document["id"]) is not None:
        twins = rows_where(ledger, "twin", document["id"])
        names = ("id", "reason", *_SIMILARITY)
        return {"verdict": "kept", "kept_instead_of": [{name: row[name] for name in names} for row in twins]}
    row = rows_where(ledger, "id", document["id"])[0]
    step: Step = {"verdict": "dropped", "reason": row["reason"], "twin": row["twin"]}
    twin = _document(run, stage, row["twin"])
    step |= {f"twin_{name}": twin.get(name, "") for name in ("title", "url", "split")}
    return step | {"twin_label": label(twin) if twin else "", **{name: row[name] for name in _SIMILARITY}}


def _document(run: MadeRun, stage: str, identity: str) -> dict[str, Any]:
    """A document that the stage has read; empty where its documents are gone."""
    given = run.read(stage, DOCUMENTS)
    place = place_of(given, identity) if given else None
    return document_at(given, place, identity) if given and place else {}


def _words(step: Step) -> list[str]:
    if step["verdict"] == "dropped":
        similar = f"similarity {figure(step['jaccard'])} (estimated {figure(step['estimated_jaccard'])})"
        twin = f"{step['twin'][:12]} {clipped(step['twin_label'], 36)}".rstrip()
        if step["reason"] == LINES:
            return ["nothing but lines that many documents have", "see deduplicate.repeated_lines"]
        if step["reason"] == PASSAGES:
            return ["nothing but passages that occurred before", "see deduplicate.repeated_passages"]
        if step["reason"].startswith(AGAINST):
            corpus = step["reason"].removeprefix(AGAINST)
            return [f"like a document of the corpus {corpus}: {similar}", f"that is {clipped(step['twin'], 60)}"]
        return [f"{step['reason']} duplicate: {similar}", f"of {twin}, which stays"]
    others = step["kept_instead_of"]
    lines = [f"kept instead of {len(others)} other{'s' * (len(others) != 1)}" if others else "no duplicate"]
    for other in others[:SHOWN]:
        lines.append(
            f"{other['id'][:12]} {other['reason']}, similarity {figure(other['jaccard'])} "
            f"(estimated {figure(other['estimated_jaccard'])})"
        )
    return lines


DEDUPLICATE = About(compared=settings("threshold"), report=report, explain=_explain, words=_words)
