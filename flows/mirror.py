"""MLflow's aliases beside the store's names. The store decides; MLflow is asked only where it is in use."""

import os
from typing import Any

from flows.champion import ALIASES
from storage.refs import read_refs
from storage.store import Store
from storage.tracking import VARIABLE, Tracker, check_tracking_uri

AGREES, MENDED = "its aliases say the same", "its aliases are set"


def wanted_aliases(store: Store) -> dict[str, tuple[str, str]]:
    """{alias: (registered model, digest of the release's files)}, as the store has it."""
    names = read_refs(store)
    found = {alias: (names[alias], store.artifact(names[alias].artifact)) for alias in ALIASES if alias in names}
    return {
        alias: (ref.note["model"], artifact["release"].digest)
        for alias, (ref, artifact) in found.items()
        if artifact is not None
    }


def compare_with_mlflow(store: Store, *, mend: bool) -> dict[str, Any]:
    """`{"disagreements": [...], "note": ...}`. Mending registers releases that MLflow does not know."""
    if not os.environ.get(VARIABLE) and not (store.home / "mlflow" / "mlflow.db").exists():
        return {"disagreements": [], "note": None}
    silence = check_tracking_uri(store.home)
    if silence:
        return {"disagreements": [], "note": f"not asked: {silence}"}
    tracker = Tracker(store.home, "by hand", {})
    wanted = wanted_aliases(store)
    lines = tracker.disagreements(wanted, ALIASES)
    if lines and mend:
        for ref in read_refs(store).values():
            release = store.artifact(ref.artifact)
            if release is not None:
                tracker.register(ref.note["model"], release["release"], {})
        tracker.mirror(wanted, ALIASES)
        lines = tracker.disagreements(wanted, ALIASES)
    if tracker.failures:
        return {"disagreements": lines, "note": f"not all was answered: {tracker.failures[0]}"}
    note = "`llmill champion --mend` sets its aliases" if lines else MENDED if mend else AGREES
    return {"disagreements": lines, "note": note}
