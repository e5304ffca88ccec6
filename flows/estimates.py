"""How long a stage will take: from its build records, scaled by the work there is to do.

The work of a stage is what its time grows with: documents read by the data stages, tokens times parameters by the
trainer, held-out text and items by evaluation. What goes on after a kill has the rest to do: of a training the steps
after its checkpoint, of shards what the finished ones have not taken. Where the input is not there yet, its size is
taken from the closest earlier build. Records of the same device and processor are preferred; builds that were resumed,
or that found some of their shards done, tell only the time of the rest and are left out.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.store.local import Store
from tasks.engine.decide import Decision, kept_attempt
from tasks.engine.provenance import host_facts
from tasks.engine.unfinished import finished_shards, unfinished_attempts, work_folder

LAST_BUILDS = 5  # code and machine change: older ones tell little
LEAST_SPREAD = 0.2  # of one build nobody knows how much its time varies
MOST_SPREAD = 1.0  # beyond it the expectation says nothing: only the end of the range does
FOREIGN_SPREAD = 1.0  # seconds of another machine: from half to twice as long
SCALED = ("deduplicate", "filter", "tokenizer", "tokenize", "pretrain", "finetune", "evaluate")
SOURCES = ("files", "docstrings", "synthetic")  # of collect: the time of one tells nothing of another
ITEM_BYTES = 500  # an item asked for costs evaluation about as much as so much held-out text
_MACHINE = ("processor", "cores")

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds that are expected, and between which they should lie."""

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


def estimates(store: Store, decisions: Sequence[Decision]) -> list[Estimate | None]:
    """One for each decision, in order of the flow; None where nothing like it was ever built."""
    expected: dict[str, dict[str, Any]] = {}  # summaries of the stages before, known or as of their closest build
    found: list[Estimate | None] = []
    for decision in decisions:
        stage, config = decision.identity.stage, decision.identity.config
        found.append(NOTHING if decision.will == "reuse" else _estimate(store, decision, expected))
        known = found[-1] is not None and decision.record
        expected[stage] = dict(decision.record["summary"]) if known and decision.record else {}
        if stage == "tokenizer":
            expected[stage]["vocabulary_size"] = config["vocabulary_size"]
        if stage == "pretrain":
            expected[stage]["parameters"] = _parameters(config, expected)
    return found


def _estimate(store: Store, decision: Decision, expected: Mapping[str, Record]) -> Estimate | None:
    identity, host = decision.identity, host_facts()
    records = [record for record in store.builds_of(identity.stage) if _tells(record, decision)]
    here = [record for record in records if _is_alike(record, decision, host)]
    known = (here or records)[-LAST_BUILDS:]
    works = [_work_to_do(identity.stage, identity.config, expected, record) for record in known]
    if not known or (None in works and identity.stage in SCALED):
        return None
    ratios = [
        work / done if work and (done := _work_done(store, record)) else 1.0
        for work, record in zip(works, known, strict=True)
    ]
    took = [float(record["seconds"]) for record in known]
    seconds = [ratio * one for ratio, one in zip(ratios, took, strict=True)]
    middle = statistics.median(seconds)
    spread = LEAST_SPREAD if here else FOREIGN_SPREAD
    far = [one for ratio, one in zip(ratios, took, strict=True) if not 0.5 <= ratio <= 2]  # a part of it is fixed
    bounds = (*seconds, *far, middle / (1 + spread), middle * (1 + spread))
    left = _share_left(store, decision, middle)
    return Estimate(*(round(left * one, 1) for one in (middle, min(bounds), max(bounds))))


def _share_left(store: Store, decision: Decision, seconds: float) -> float:
    """How much is left of a stage that takes so long and goes on from an attempt; 1 for whatever begins anew.

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


def _tells(record: Record, decision: Decision) -> bool:
    """Whether a record's seconds are those of a whole build, of the same kinds of sources."""
    if "adopted_from" in record or record.get("resumed") or record.get("shards_reused"):
        return False
    config = record["identity"]["config"]
    return all(bool(config.get(name)) == bool(decision.identity.config.get(name)) for name in SOURCES)


def _is_alike(record: Record, decision: Decision, host: Record) -> bool:
    """Whether a build was made on a machine and device as these."""
    devices = record["identity"]["observed"].get("device"), decision.identity.observed.get("device")
    return devices[0] == devices[1] and all(record.get("host", {}).get(name) == host[name] for name in _MACHINE)


def _work_to_do(stage: str, config: Mapping[str, Any], expected: Mapping[str, Record], record: Record) -> float | None:
    """In the unit of `_work_done` of a build; None where the time does not follow from what is known."""
    before = {"deduplicate": "collect", "filter": "deduplicate", "tokenizer": "filter", "tokenize": "filter"}
    if stage in before:
        return expected.get(before[stage], {}).get("kept")
    if stage == "pretrain":
        return _training_tokens(config) * _parameters(config, expected)
    if stage == "finetune":
        pairs = (config["steps"] or 0) * config["pairs_per_step"]
        collected = expected.get("collect", {}).get("pairs_train", 0)
        pairs = pairs or config["epochs"] * collected * _trained_share(config, record)
        return pairs * expected.get("pretrain", {}).get("parameters", 0) or None
    return _evaluated_bytes(config) if stage == "evaluate" else None


def _trained_share(config: Mapping[str, Any], record: Record) -> float:
    """How much of the collected pairs fine-tuning trains on: as in a build that chose them alike; else all."""
    before, summary = record["identity"]["config"], record["summary"]
    collected = summary["pairs"] - summary["heldout_pairs"]
    alike = all(before[name] == config[name] for name in ("pairs", "shared_words"))
    return summary["training_pairs"] / collected if alike and collected else 1.0


def _work_done(store: Store, record: Record) -> float | None:
    """Documents read, or tokens (pairs) times parameters, of a build."""
    stage, summary, config = record["stage"], record["summary"], record["identity"]["config"]
    if stage == "pretrain":
        return summary["tokens"] * summary["parameters"]
    if stage == "finetune":
        base = record["identity"]["inputs"].get("pretrain/model")
        sizes = [
            build["summary"]["parameters"]
            for build in store.builds_of("pretrain")
            if build.get("parts", {}).get("model") == base
        ]
        return summary["steps"] * config["pairs_per_step"] * sizes[-1] if sizes else None
    return _evaluated_bytes(config) if stage == "evaluate" else summary.get("read")


def _evaluated_bytes(config: Mapping[str, Any]) -> int:
    return config["heldout_bytes"] + ITEM_BYTES * config["items"]


def _training_tokens(config: Mapping[str, Any]) -> int:
    from model.shape import SIZES

    size = SIZES[config["size"]]
    context = config["context_length"] or size.context_length
    rows = max(1, (config["batch_tokens"] or size.batch_tokens) // context)
    return config["steps"] * rows * context if config["steps"] else config["tokens"] or size.tokens


def _parameters(config: Mapping[str, Any], expected: Mapping[str, Record]) -> int:
    """Numbers of a model's matrices; norms are left out."""
    from model.shape import SIZES

    size = SIZES[config["size"]]

    def chosen(name: str) -> int:
        return getattr(size, name) if config[name] is None else config[name]

    width, head = chosen("width"), chosen("head_dim")
    vocabulary = expected.get("tokenizer", {}).get("vocabulary_size", 0)
    attention = 2 * width * head * (chosen("heads") + chosen("key_value_heads"))
    layer = attention + 3 * width * chosen("feed_forward")
    return chosen("layers") * layer + vocabulary * width * (1 if chosen("tied_embeddings") else 2)
