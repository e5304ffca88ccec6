"""Figures of GPT-2, GPT-3 and others, shown beside a figure that was measured by the same protocol.

They are in references.yaml with their sources, by task, metric and number of examples. A task's own name is what
counts: a benchmark of yours with the name of lm-eval's must be that benchmark.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("references.yaml")


@dataclass(frozen=True, slots=True)
class Reference:
    """What another model reached: the value, its protocol, and the source of both."""

    model: str
    value: float
    protocol: str
    source: str


def references(task: str, metric: str, shots: int) -> tuple[Reference, ...]:
    """The figures known for a task, metric and number of examples; none for most."""
    found = _table().get(f"{task} {metric} {shots}-shot")
    if found is None:
        return ()
    return tuple(Reference(protocol=found["protocol"], **entry) for entry in found["models"])


@functools.cache
def _table() -> dict[str, dict]:
    """It comes with the code and writes figures once, by aliases, which the careful reader of recipes refuses."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))["figures"]
