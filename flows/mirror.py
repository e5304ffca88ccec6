"""MLflow's aliases beside the store's names. The store decides; MLflow is asked only where it is in use."""

import os
from typing import Any

from flows.champion import ALIASES
from flows.history import headline
from flows.tracking import model_text
from storage.artifacts import Artifact
from storage.refs import Ref, read_refs
from storage.registry import Model
from storage.runs import runs
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
                tracker.register(_model(store, ref, release))
        tracker.mirror(wanted, ALIASES)
        lines = tracker.disagreements(wanted, ALIASES)
    if tracker.failures:
        return {"disagreements": lines, "note": f"not all was answered: {tracker.failures[0]}"}
    note = "`llmill champion --mend` sets its aliases" if lines else MENDED if mend else AGREES
    return {"disagreements": lines, "note": note}


def _model(store: Store, ref: Ref, release: Artifact) -> Model:
    """A release as the run that made it would register it, as far as its run file is still there."""
    known = [run for run in runs(store.home) if run["run"] == ref.note["run"]]
    run: dict[str, Any] = known[0] if known else {"stages": []}
    name, part = ref.note["model"], release["release"]
    made_from = model_text(part, ref.note["run"], run.get("recipe_name", ""), headline(run))
    return Model(name, part, run.get("recipe", {}).get("release", {}).get("description", ""), made_from)
