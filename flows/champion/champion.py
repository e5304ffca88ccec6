"""The champion: the released model that a retraining has to beat, and the one before it, `previous`.

Both are named references of the store (storage/store/refs.py), set in one step; what they keep is all that a later
retraining needs: release, both models, tokenizer, token shards (they say which text is old) and scores. MLflow's
aliases of the same names mirror them (flows/mlflow/aliases.py); the store decides.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flows.inspect.references import NoArtifactError, resolve
from storage.errors import DataError, StoreError
from storage.store.artifacts import Artifact
from storage.store.local import Store
from storage.store.refs import Ref, changing_refs, read_refs
from tasks.engine.provenance import timestamp

CHAMPION, PREVIOUS = "champion", "previous"
ALIASES = (CHAMPION, PREVIOUS)
NEEDED = ("pretrain", "finetune", "align", "tokenizer", "tokenize")  # kinds of artifacts that a retraining goes on from
INITIAL = "initial"  # stands for those of them that an open model brings: its tokenizer, its weights
ALIGNED = "align"  # its model is the one released, whether it was fine-tuned before or not
TEACHER = "teacher"  # stands for the tokenizer of a model that learned from it
KEPT = (INITIAL, TEACHER, *NEEDED, "evaluate", "release")


@dataclass(frozen=True, slots=True)
class Champion:
    """The artifacts that a retraining goes on from, and its reference."""

    digest: str  # of the release's artifact
    base: Artifact
    tuned: Artifact
    tokenizer: Artifact
    tokens: Artifact | None  # None: it was fine-tuned from an open model, without pretraining
    note: Mapping[str, Any]


def champion_ref(store: Store) -> Ref | None:
    """The name `champion`, or None where there is none yet."""
    ref = read_refs(store).get(CHAMPION)
    if ref is not None and _missing(ref.note.get("stages", {})):
        raise StoreError(f"the champion {ref.artifact[:8]} does not say what it was made from: `llmill promote RUN`")
    return ref


def champion_damage(store: Store, ref: Ref, kinds: Sequence[str] = (*NEEDED, "release")) -> list[str]:
    """What is missing or damaged of a champion, in words."""
    wrong, stages = [], ref.note.get("stages", {})
    for kind in _those_of(stages, kinds):
        artifact = store.artifact(stages[kind]) if kind in stages else None
        damage = store.artifact_damage(artifact) if artifact else ["artifact manifest missing or damaged"]
        wrong += [f"{kind}: {line}" for line in damage]
    return wrong


def load_champion(store: Store, ref: Ref) -> Champion:
    """The artifacts of an intact champion."""
    stages = ref.note["stages"]
    found = {kind: store.artifact(stages[kind]) for kind in _those_of(stages, NEEDED)}
    there = {kind: artifact for kind, artifact in found.items() if artifact is not None}
    base = there.get("pretrain") or there[INITIAL]
    tokenizer = there.get("tokenizer") or there.get(INITIAL) or there[TEACHER]
    tuned = there.get(ALIGNED) or there["finetune"]
    return Champion(ref.artifact, base, tuned, tokenizer, there.get("tokenize"), ref.note)


def _those_of(stages: Mapping[str, str], kinds: Sequence[str]) -> list[str]:
    """The kinds that a champion of these stages has or lacks, with the models of others that have brought some."""
    own = [kind for kind in kinds if kind in stages or kind not in _spared(stages)]
    return [*_brought(stages), *own] if set(kinds) & set(NEEDED) else own


def _brought(stages: Mapping[str, str]) -> list[str]:
    """The kind that has brought a tokenizer, and of an open model weights, where none was learned here."""
    if INITIAL in stages:
        return [INITIAL]
    return [TEACHER] if TEACHER in stages and "tokenizer" not in stages else []


def _missing(stages: Mapping[str, str]) -> list[str]:
    """The kinds that a champion must name and does not."""
    return [kind for kind in KEPT if kind not in stages and kind not in _spared(stages)]


def _spared(stages: Mapping[str, str]) -> set[str]:
    """The kinds that a champion of these stages can be without."""
    spared = {INITIAL, TEACHER, ALIGNED}
    spared.update(("pretrain", "tokenizer", "tokenize") if INITIAL in stages else ())
    spared.update(("tokenizer",) if TEACHER in stages else ())
    spared.update(("finetune",) if ALIGNED in stages else ())
    return spared


# Changing it ----------------------------------------------------------------------------------------------------


def promote(
    store: Store, release: Artifact, *, run: str, by: str, reasons: Sequence[str], instead_of: str | None = ""
) -> bool:
    """Make a release the champion and the champion `previous`, in one step; False where it is the champion already.

    A damaged champion is not worth going back to: `previous` stays as it is then.
    `instead_of` is the release that it was compared with (None: there was no champion): raises StoreError where that
    is not the champion any more. Empty: it replaces any champion.
    """
    ref = _ref(store, release, run, by, reasons)
    with changing_refs(store) as names:
        now = names.get(CHAMPION)
        if now is not None and now.artifact == release.digest:
            return False
        if instead_of != "" and instead_of != (now.artifact if now else None):
            raise StoreError("the champion was changed while this run compared with it: retrain again")
        if now is not None and not champion_damage(store, now):
            names[PREVIOUS] = now
        names[CHAMPION] = ref
    return True


def rollback(store: Store) -> tuple[Ref, Ref]:
    """Swap champion and previous; returns the new and the old champion."""
    with changing_refs(store) as names:
        if CHAMPION not in names:
            raise DataError("no champion yet: there is nothing to roll back. `llmill promote RUN` names one")
        if PREVIOUS not in names:
            raise DataError("no previous champion: this one is the first. `llmill promote RUN` names another")
        old, new = names[CHAMPION], names[PREVIOUS]
        new = replace(new, note={**new.note, "since": timestamp(), "by": "rollback"})
        names[CHAMPION], names[PREVIOUS] = new, old
    return new, old


def find_release(store: Store, reference: str) -> tuple[Artifact, str]:
    """The intact release of a run, or of a digest's start; and the run that made it. DataError where there is none."""
    try:
        found = resolve(store, f"{reference}/release").artifact
    except NoArtifactError:
        raise DataError(f"{reference}: this run has no release, so there is nothing to promote") from None
    except DataError:
        found = resolve(store, reference).artifact
    if found.stage != "release":
        raise DataError(f"{reference}: is of the stage {found.stage}. Name a run, or the digest of a release")
    damage = store.artifact_damage(found)
    if damage:
        raise DataError(f"{reference}: {damage[0]}; run its recipe again to rebuild it")
    return found, _record(store, found.digest, "release")["run"]


def _ref(store: Store, release: Artifact, run: str, by: str, reasons: Sequence[str]) -> Ref:
    stages = _lineage(store, release)
    record = _record(store, release.digest, "release")
    note = {
        "run": run,
        "model": record["summary"].get("name", ""),
        "since": timestamp(),
        "by": by,
        "reasons": list(reasons),
        "stages": stages,
    }
    return Ref(release.digest, tuple(stages[kind] for kind in sorted(stages)), note)


def _lineage(store: Store, release: Artifact) -> dict[str, str]:
    """The digests of what the release was made from, by kind, from the build records."""
    stages = {release.stage: release.digest}
    waiting = deque([release])
    while waiting and not stages.keys() >= set(KEPT):
        made = waiting.popleft()
        records = store.builds_that_made(made.stage, made.digest)
        for parent in records[-1].get("parents", ()) if records else ():
            artifact = store.artifact(parent)
            if artifact is not None and stages.setdefault(artifact.stage, parent) == parent:  # the nearest of a kind
                waiting.append(artifact)
    if missing := _missing(stages):
        raise DataError(
            f"release {release.digest[:8]}: its {', '.join(missing)} are gone from the store, and a retraining could "
            "not go on from it; run its recipe again to rebuild them"
        )
    return {kind: stages[kind] for kind in KEPT if kind in stages}


def _record(store: Store, digest: str, kind: str) -> dict[str, Any]:
    """The newest build record of an artifact."""
    records = store.builds_that_made(kind, digest)
    if records:
        return records[-1]
    raise DataError(f"{kind} {digest[:8]}: the record of its build is gone; run its recipe again to rebuild it")
