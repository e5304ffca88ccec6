"""How long a stage will take: from its build records, scaled by the work there is to do.

Each stage says what its time grows with (`About.work`): documents, tokens times parameters, held-out text. What goes
on after a kill has the rest to do: of a training the steps after its checkpoint, of shards what the finished ones have
not taken. Where the input is not there yet, its size is taken from the closest earlier build. Records of the same
device and processor are preferred; builds that were resumed, or that found some of their shards done, tell only the
time of the rest and are left out. Where nothing like it was ever built, or only what is tiny beside it, figures of
other machines are asked for (`About.seconds`).
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.store.local import Store
from tasks.engine.about import About, Summaries, Upcoming
from tasks.engine.decide import Decision, kept_attempt
from tasks.engine.provenance import host_facts
from tasks.engine.stage import Stage
from tasks.engine.unfinished import finished_shards, unfinished_attempts, work_folder

LAST_BUILDS = 5  # code and machine change: older ones say little
LEAST_SPREAD = 0.2  # of one build nobody knows how much its time varies
MOST_SPREAD = 1.0  # beyond it the expectation says nothing: only the end of the range does
FOREIGN_SPREAD = 1.0  # seconds of another machine: from half to twice as long
FAR = 100  # times the work of a build: of so small a one most time may be fixed, and other machines tell more
_MACHINE = ("processor", "cores")

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds that are expected, and the range that they should be in."""

    seconds: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Half the range as a share of the expectation."""
        return (self.high - self.low) / 2 / self.seconds if self.seconds else 0.0


NOTHING = Estimate(0.0, 0.0, 0.0)


def total(parts: Sequence[Estimate]) -> Estimate:
    """What all of them take together."""
    seconds, low, high = (sum(getattr(part, name) for part in parts) for name in ("seconds", "low", "high"))
    return Estimate(seconds, low, high)


def estimates(store: Store, planned: Sequence[tuple[Stage, Decision]]) -> list[Estimate | None]:
    """One for each decision, in order of the flow; None where nothing like it was ever built."""
    summaries: dict[str, dict[str, Any]] = {}  # of the stages before, by kind: known, or as of their closest build
    found: list[Estimate | None] = []
    for stage, decision in planned:
        found.append(NOTHING if decision.will == "reuse" else _estimate(store, stage.about, decision, summaries))
        known = decision.record["summary"] if found[-1] is not None and decision.record else {}
        summaries[stage.kind] = {**known, **stage.about.follows(decision.identity.config, summaries)}
    return found


def _estimate(store: Store, about: About, decision: Decision, summaries: Summaries) -> Estimate | None:
    identity, host = decision.identity, host_facts()
    records = [record for record in store.builds_of(identity.stage) if _tells(record, about, decision)]
    here = [record for record in records if _is_alike(record, decision, host)]
    known = (here or records)[-LAST_BUILDS:]
    ratios = [_times_the_work(about, decision, summaries, record) for record in known]
    if None in ratios:
        return None
    if all((ratio or 1.0) > FAR for ratio in ratios):
        elsewhere = _measured_elsewhere(store, about, decision, summaries)
        if elsewhere is not None or not known:
            return elsewhere
    took = [float(record["seconds"]) for record in known]
    seconds = [ratio * one for ratio, one in zip(ratios, took, strict=True) if ratio is not None]
    middle = statistics.median(seconds)
    spread = LEAST_SPREAD if here else FOREIGN_SPREAD
    far = [one for ratio, one in zip(ratios, took, strict=True) if not 0.5 <= (ratio or 1.0) <= 2]  # a part is fixed
    bounds = (*seconds, *far, middle / (1 + spread), middle * (1 + spread))
    left = _share_left(store, decision, middle)
    return Estimate(*(round(left * one, 1) for one in (middle, min(bounds), max(bounds))))


def _measured_elsewhere(store: Store, about: About, decision: Decision, summaries: Summaries) -> Estimate | None:
    """By figures of other machines, where the stage has any."""
    identity = decision.identity
    build = Upcoming(identity.config, (*identity.inputs, *identity.pending), summaries, {})
    seconds = about.seconds(build, identity.observed)
    if seconds is None:
        return None
    left = seconds * _share_left(store, decision, seconds)
    return Estimate(*(round(one, 1) for one in (left, left / (1 + FOREIGN_SPREAD), left * (1 + FOREIGN_SPREAD))))


def _times_the_work(about: About, decision: Decision, summaries: Summaries, record: Record) -> float | None:
    """How many times the work of an earlier build there is to do; None where that is not known yet."""
    if about.work is None:
        return 1.0
    identity = decision.identity
    ahead = about.work.ahead(Upcoming(identity.config, (*identity.inputs, *identity.pending), summaries, record))
    if ahead is None:
        return None
    done = about.work.done(record)
    return ahead / done if ahead and done else 1.0


def _share_left(store: Store, decision: Decision, seconds: float) -> float:
    """How much is left of a stage that takes so long and goes on from an attempt; 1 for one that starts over.

    Of a training the steps after its checkpoint, of shards the time beyond what the finished ones have taken.
    """
    if not any(line.startswith("goes on from ") for line in decision.why):
        return 1.0
    identity = decision.identity
    own = work_folder(store.work, identity.stage, identity.key)
    attempts = unfinished_attempts(store.work, identity.stage)
    attempt = next((one for one in attempts if one.folder == own), None) or kept_attempt(store, identity)
    if attempt is not None and attempt.steps:
        return max(0.0, 1 - attempt.step / attempt.steps)
    shards = finished_shards(own)
    return max(0.0, 1 - shards.seconds / seconds) if shards and seconds else 1.0


def _tells(record: Record, about: About, decision: Decision) -> bool:
    """Whether a record's seconds are those of a whole build, and of the same kinds of work."""
    if "adopted_from" in record or record.get("resumed") or record.get("shards_reused"):
        return False
    config = record["identity"]["config"]
    return all(bool(config.get(name)) == bool(decision.identity.config.get(name)) for name in about.same_kinds)


def _is_alike(record: Record, decision: Decision, host: Record) -> bool:
    """Whether a build was made on a machine and device as these."""
    devices = record["identity"]["observed"].get("device"), decision.identity.observed.get("device")
    return devices[0] == devices[1] and all(record.get("host", {}).get(name) == host[name] for name in _MACHINE)
