"""`llmill champion`: who is the champion, who was it before, and why."""

from collections.abc import Mapping
from typing import Any

from flows.champion.champion import ALIASES, CHAMPION, PREVIOUS, champion_damage, champion_ref
from flows.champion.verdict import indented
from storage.store.local import Store
from storage.store.refs import Ref, read_refs
from tasks.wording import when


def champion_state(store: Store) -> dict[str, Any]:
    """The `--json` object without its part `mlflow`."""
    champion, names = champion_ref(store), read_refs(store)
    found: dict[str, Any] = {name: _described(names[name]) if name in names else None for name in ALIASES}
    return found | {"damage": champion_damage(store, champion) if champion else []}


def _described(ref: Ref) -> dict[str, Any]:
    names = ("model", "run", "since", "by", "reasons")
    return {"release": ref.artifact, **{name: ref.note[name] for name in names}, "artifacts": dict(ref.note["stages"])}


def champion_text(found: Mapping[str, Any]) -> str:
    """Both models, damage, and what MLflow says."""
    if found[CHAMPION] is None:
        lines = ["no champion yet: `llmill retrain` trains the first one, `llmill promote RUN` names one"]
    else:
        lines = [*_lines(CHAMPION, found[CHAMPION])]
        lines += _lines(PREVIOUS, found[PREVIOUS]) if found[PREVIOUS] else [f"{PREVIOUS:<12}none"]
    lines += [f"{'damaged':<12}{line}; a retraining rebuilds it if it can" for line in found["damage"]]
    mlflow = found["mlflow"]
    lines += [f"{'MLflow':<12}{line}" for line in mlflow["disagreements"]]
    if mlflow["note"]:
        lines.append(f"{'MLflow':<12}{mlflow['note']}")
    return "\n".join(lines)


def _lines(name: str, row: Mapping[str, Any]) -> list[str]:
    head = f"{name:<12}{row['model']} {row['release'][:8]}, since {when(row['since'])} UTC"
    by = {"retrain": "a retraining", "hand": "hand", "rollback": "rollback"}[row["by"]]
    return [
        head,
        f"{'':<12}of run {row['run']}, by {by}",
        *(line for reason in row["reasons"] for line in indented(reason)),
    ]
