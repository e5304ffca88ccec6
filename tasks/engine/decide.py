"""The one decision about a stage, reuse or build, and why: `llmill plan` prints it and the engine carries it out.

A stage's key is the digest of its name and version, the fingerprint of the code that it can reach, its validated
config, the digests of the input parts that it reads, what it observes outside the store, and the versions of the
libraries that define its result. The build record keeps these parts, not only their digest: so the reason for a
build is a readable difference to the closest earlier one.
"""

import importlib.metadata
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal

from storage.canonical import canonical_json, differences, digest_of
from storage.code.walk import Definition, Reach
from storage.errors import ConfigError
from storage.fingerprint import fingerprint
from storage.listing import and_more
from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.engine.config import StageConfig
from tasks.engine.stage import UNICODE, Output, Pending, Stage
from tasks.engine.unfinished import Unfinished, finished_shards, unfinished_attempts, work_folder
from tasks.wording import clipped

SHOWN_DIGITS = 8

SHOWN_NAMES = 3
SHOWN_CHARACTERS = 60  # of a setting

OTHER_BY_RELEASE = (  # of other libraries the first two numbers decide
    "pyarrow",  # the end of a Parquet file names its writer: other bytes, another digest
    "phonenumbers",  # tables that change with every release
    "publicsuffixlist",
)


@dataclass(frozen=True, slots=True)
class Identity:
    """The parts of a stage's key. `inputs` lacks the parts that are still pending."""

    stage: str
    version: int
    code: Mapping[str, str]
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    observed: Mapping[str, str]
    libraries: Mapping[str, str]
    pending: tuple[str, ...] = ()
    reach: Reach = field(default_factory=lambda: Reach({}, {}, ()))  # where `code` comes from; no part of the key

    @property
    def key(self) -> str:
        return digest_of(self.record())

    def record(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "version": self.version,
            "code": dict(self.code),
            "config": dict(self.config),
            "inputs": dict(self.inputs),
            "observed": dict(self.observed),
            "libraries": dict(self.libraries),
        }


def identify(stage: Stage, config: StageConfig, inputs: Mapping[str, Output]) -> Identity:
    """Everything that decides what the stage would make."""
    digests: dict[str, str] = {}
    pending: list[str] = []
    for parameter, source in inputs.items():
        for name in stage.reads[parameter]:
            label = f"{source.stands_for or source.stage}/{name}"
            if label in digests or label in pending:  # a second input of the kind
                label = f"{parameter} {label}"
            if isinstance(source, Pending):
                pending.append(label)
            else:
                digests[label] = source[name].digest
    function, *also = roots_of(stage, config)
    reach = fingerprint(*function, stage.programs, also)
    return Identity(
        stage=stage.kind,
        version=stage.version,
        code=reach.code,
        config=config.identity(),
        inputs=digests,
        observed=stage.observe(config) if stage.observe else {},
        libraries={name: deciding_version(name) for name in stage.libraries},
        pending=tuple(pending),
        reach=reach,
    )


def roots_of(stage: Stage, config: StageConfig) -> list[Definition]:
    """The definitions from which a stage's code is reached: its function, and the class of its config."""
    return [(one.__module__, one.__qualname__) for one in (stage.function, type(config))]


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done with a stage, and why. `artifact` is set for a reuse and is verified."""

    will: Literal["reuse", "build", "maybe"]
    why: tuple[str, ...]
    identity: Identity
    artifact: Artifact | None = None
    record: Mapping[str, Any] | None = None  # the build record reused, or the closest earlier one
    repairs: bool = False  # built only because what was stored is damaged: the result will be as it was


def decide(
    store: Store,
    stage: Stage,
    config: StageConfig,
    inputs: Mapping[str, Output],
    *,
    force: bool = False,
    keep: bool = False,
) -> Decision:
    """Reuse or build, and why. Reading only: nothing is written but corrected modification times.

    With pending inputs the answer is `maybe` (they may come out as before) unless something else decides already.
    `keep` accepts a result whose code alone has changed; ConfigError where that lacks a part that is asked for now.
    A build says what it does with the checkpoints that an unfinished attempt has left.
    """
    identity = identify(stage, config, inputs)
    closest, differences = _closest(store, identity, f"{stage.function.__module__}.{stage.function.__qualname__}", keep)
    left = _left_over(store, identity, force, keep)
    if closest is None:
        return Decision("build", (*left, "forced" if force else "never built"), identity)
    may_change = [f"input {label} may change" for label in identity.pending]
    if force:
        return Decision("build", (*left, "forced", *may_change), identity, record=closest)
    kept = keep and bool(differences) and _code_alone(differences)
    if differences and not kept:
        return Decision("build", (*left, *differences, *may_change), identity, record=closest)
    artifact, damage = _stored(store, closest)
    lacking = [name for name in stage.parts if artifact is not None and name not in artifact.parts]
    if lacking and kept:
        raise ConfigError(
            f"--keep {stage.name}: the result that would be kept has no part {', '.join(lacking)}, which is asked for "
            f"now. Leave out --keep {stage.name}"
        )
    damage += [f"part {name}: not made by the build that is there" for name in lacking]
    if identity.pending:
        if damage and all(_stored(store, record)[1] for record in _equal_but_for_pending(store, identity)):
            why = (*left, *_shortened(damage), *may_change)  # for any inputs
            return Decision("build", why, identity, record=closest, repairs=True)
        why = ("kept if its inputs come out as before: " + "; ".join(differences),) if kept else ()
        return Decision("maybe", (*left, *why, *may_change), identity, record=closest)
    if damage:
        return Decision("build", (*left, *_shortened(damage)), identity, record=closest, repairs=True)
    why = ("kept: " + "; ".join(differences),) if differences else ("up to date",)
    return Decision("reuse", why, identity, artifact, closest)


def _code_alone(differences: Sequence[str]) -> bool:
    return all(line.startswith("code ") for line in differences)


def kept_attempt(store: Store, identity: Identity) -> Unfinished | None:
    """The unfinished attempt that a build under `--keep` goes on from: nothing but code differs."""
    for attempt in unfinished_attempts(store.work, identity.stage):
        if _code_alone(differences_between(attempt.identity, identity)):
            return attempt
    return None


def _left_over(store: Store, identity: Identity, force: bool, keep: bool) -> tuple[str, ...]:
    """What a build would do with what an unfinished attempt has left, as a line for a person."""
    attempts = unfinished_attempts(store.work, identity.stage)
    if not identity.pending:
        own = work_folder(store.work, identity.stage, identity.key)
        for attempt in attempts:
            if attempt.folder == own and (attempt.forced or not force):
                return (f"goes on from {attempt}",)
        if not force and (shards := finished_shards(own)):
            return (f"goes on from {shards}",)
    if force:
        return tuple(f"abandons {attempt}: forced" for attempt in attempts[:1])
    if keep and (kept := kept_attempt(store, identity)) is not None:
        may = "may go on" if identity.pending else "goes on"
        return (
            f"{may} from {kept}, kept: {'; '.join(differences_between(kept.identity, identity)) or 'the same code'}",
        )
    for attempt in attempts[:1]:
        differences = differences_between(attempt.identity, identity)
        if differences:
            return (f"abandons {attempt}: {'; '.join(differences)}",)
        return (f"may go on from {attempt}",)
    return ()


def _stored(store: Store, record: Mapping[str, Any]) -> tuple[Artifact | None, list[str]]:
    """The artifact that a build record names, and what of it is missing or damaged, one line each."""
    artifact = store.artifact(record["artifact"])
    return artifact, store.artifact_damage(artifact) if artifact else ["artifact manifest missing or damaged"]


def _equal_but_for_pending(store: Store, identity: Identity) -> list[dict[str, Any]]:
    """The build records that could be reused, depending on what the pending inputs come out as."""
    records = store.builds_of(identity.stage)
    return [record for record in records if not differences_between(record["identity"], identity)]


def _closest(
    store: Store, identity: Identity, function: str, keep: bool
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The record under the very key, or the one that differs in the fewest parts, the newest of equals.

    What another function has made, such as a base model trained from scratch, shows how long it takes but no reason.
    `keep` prefers one that differs in code alone, wherever its function was then.
    """
    if not identity.pending:
        exact = store.build(identity.stage, identity.key)
        if exact:
            return exact, tuple(exact.get("doubtful", ()))
    best: tuple[dict[str, Any] | None, tuple[str, ...]] = (None, ())
    records = store.builds_of(identity.stage)
    for record in reversed(records) if keep else ():
        differences = differences_between(record["identity"], identity)
        if _code_alone((*differences, *record.get("doubtful", ()))):
            return record, differences
    alike = [record for record in records if function in record["identity"]["code"]]
    if records and not alike:
        return records[-1], ("never built in this way",)
    for record in reversed(alike):
        differences = differences_between(record["identity"], identity)
        if best[0] is None or _weight(differences) < _weight(best[1]):
            best = record, differences
    return best


def _weight(differences: tuple[str, ...]) -> tuple[int, int]:
    return len({line.partition(" ")[0] for line in differences}), len(differences)


def differences_between(old: Mapping[str, Any], new: Identity) -> tuple[str, ...]:
    """The differences between the identity in a build record and a new one, as lines for a person."""
    lines = tuple(_differences(old, new))
    same = new.pending or canonical_json(old) == canonical_json(new.record())
    return lines if lines or same else (f"config {new.stage}: changed in form",)


def observed_changes(stage: Stage, config: StageConfig, identity: Identity) -> tuple[str, ...]:
    """What a stage observes now and did not when its identity was made, as lines for a person."""
    now = stage.observe(config) if stage.observe else {}
    return tuple(_changed_names("source", identity.observed, now))


def _differences(old: Mapping[str, Any], new: Identity) -> Iterator[str]:
    if old["version"] != new.version:
        yield f"version {new.stage}: {old['version']} -> {new.version}"
    for name, was, now in sorted(differences(old["config"], new.config), key=itemgetter(0)):
        yield f"config {new.stage}.{name}: {clipped(was, SHOWN_CHARACTERS)} -> {clipped(now, SHOWN_CHARACTERS)}"
    yield from _changed_names("code", old["code"], new.code)
    for label in sorted(set(old["inputs"]) | set(new.inputs)):
        was, now = old["inputs"].get(label), new.inputs.get(label)
        if was != now and label not in new.pending:
            yield f"input {label}: {_digits(was)} -> {_digits(now)}"
    yield from _changed_names("source", old["observed"], new.observed)
    for name in sorted(set(old["libraries"]) | set(new.libraries)):
        if old["libraries"].get(name) != new.libraries.get(name):
            yield f"library {name}: {old['libraries'].get(name)} -> {new.libraries.get(name)}"


def _changed_names(kind: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    changes = []
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            verb = "new" if name not in old else "gone" if name not in new else "changed"
            changes.append(f"{kind} {name} {verb}")
    yield from _shortened(changes)


def _shortened(lines: list[str]) -> list[str]:
    """The first few lines, and how many more of their kind there are."""
    if len(lines) <= SHOWN_NAMES:
        return lines
    kind = lines[0].partition(" ")[0]
    return [*lines[:SHOWN_NAMES], f"{kind} ... {and_more(len(lines) - SHOWN_NAMES)}"]


def _digits(digest: str | None) -> str:
    return digest[:SHOWN_DIGITS] if digest else "none"


def deciding_version(library: str) -> str:
    """The version that decides what a library makes."""
    if library == UNICODE:
        return unicodedata.unidata_version
    version = importlib.metadata.version(library)
    return version if library in OTHER_BY_RELEASE else _major_minor(version)


def _major_minor(version: str) -> str:
    return ".".join(version.split("+")[0].split(".")[:2])
