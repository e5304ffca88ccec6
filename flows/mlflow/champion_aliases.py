"""MLflow's aliases beside the store's names. The store decides; MLflow is asked only where it is in use."""

import os
from collections.abc import Sequence
from typing import Any

from flows.champion.champion import ALIASES
from flows.inspect.runs import headline
from flows.mlflow.place import VARIABLE, check_tracking_uri, own_client, own_models, prepare_database
from flows.mlflow.registry import Model, forget, held_below, model_text
from flows.mlflow.tracker import Tracker
from storage.addresses import redacted
from storage.runs import runs
from storage.store.artifacts import Artifact
from storage.store.garbage import Garbage, freed_with
from storage.store.local import Store
from storage.store.refs import Ref, read_refs
from tasks.engine.builder import describe

AGREES, SET = "its aliases say the same", "its aliases are set"


def wanted_aliases(store: Store) -> dict[str, tuple[str, str]]:
    """{alias: (registered model, digest of the release's files)}, as the store has it."""
    names = read_refs(store)
    found = {alias: (names[alias], store.artifact(names[alias].artifact)) for alias in ALIASES if alias in names}
    return {
        alias: (ref.note["model"], artifact["release"].digest)
        for alias, (ref, artifact) in found.items()
        if artifact is not None
    }


def compare_with_mlflow(store: Store, *, fix: bool) -> dict[str, Any]:
    """`{"disagreements": [...], "note": ...}`. With `fix` the aliases are set, and releases that MLflow does not
    know are registered.
    """
    if not os.environ.get(VARIABLE) and not (store.home / "mlflow" / "mlflow.db").exists():
        return {"disagreements": [], "note": None}
    silence = check_tracking_uri(store.home)
    if silence:
        return {"disagreements": [], "note": f"not asked: {silence}"}
    tracker = Tracker(store.home, "by hand", {})
    wanted = wanted_aliases(store)
    lines = tracker.disagreements(wanted, ALIASES)
    if lines and fix:
        for ref in read_refs(store).values():
            release = store.artifact(ref.artifact)
            if release is not None:
                tracker.register(_model(store, ref, release))
        tracker.mirror(wanted, ALIASES)
        lines = tracker.disagreements(wanted, ALIASES)
    if tracker.failures:
        return {"disagreements": lines, "note": f"not all was answered: {tracker.failures[0]}"}
    note = "`llmill champion --fix` sets its aliases" if lines else SET if fix else AGREES
    return {"disagreements": lines, "note": note}


def forget_releases(store: Store, found: Sequence[Garbage], *, dry_run: bool) -> tuple[list[Garbage], str | None]:
    """The versions under the home whose release is gone, or goes with `found`; and what went wrong, if anything.

    Unless `dry_run` they are deleted, with their files. Where no model was ever registered mlflow is not imported.
    """
    root = own_models(store.home)
    if root is None:
        return [], None
    going = [garbage.path for garbage in found if garbage.kind == "part"]
    releases = store.root / "parts" / "release" / "release"
    forgotten: list[Garbage] = []
    try:
        if not dry_run:
            prepare_database(store.home)
        client = own_client(store.home)
        for held in list(held_below(client, root)):
            if (releases / held.release).is_dir() and releases / held.release not in going:
                continue
            size = freed_with(held.folder, going)
            if not dry_run:
                forget(client, held)
            forgotten.append(Garbage("model version", "release", held.folder, size))
    except Exception as error:  # the store is clear; the next time finds what is left
        return forgotten, f"MLflow: not all of its versions were checked ({redacted(describe(error))[:200]})"
    return forgotten, None


def _model(store: Store, ref: Ref, release: Artifact) -> Model:
    """A release as the run that made it would register it, as far as its run file is still there."""
    known = [run for run in runs(store.home) if run["run"] == ref.note["run"]]
    run: dict[str, Any] = known[0] if known else {"stages": []}
    name, part = ref.note["model"], release["release"]
    made_from = model_text(part, ref.note["run"], run.get("recipe_name", ""), headline(run))
    return Model(name, part, run.get("recipe", {}).get("release", {}).get("description", ""), made_from)
