"""How long a pretraining takes and what it costs, before any like it was built: by its operations and the devices that
were measured (model/cost.py). Start, validation, saving and compiling come on top, so nothing is said of short ones."""

import os
from collections.abc import Mapping
from pathlib import Path

from model.cost import CPU_CORE, devices_filled_by, training_flop
from model.shape import Shape
from tasks.engine.about import Summaries, Upcoming
from tasks.train.device import training_compiles
from tasks.train.pretrain import PretrainConfig
from tasks.wording import amount, figure, rough_duration

LEAST_FLOP = 2e14  # about an hour of a CPU core: of a shorter training, what comes on top is too large a part
INITIAL = "initial"  # the kind of stage that brings an open model
TEACHER = "teacher"  # and the one that brings the model to learn from, with its tokenizer
_CARDS = Path("/proc/driver/nvidia/gpus")


def seconds_here(build: Upcoming, observed: Mapping[str, str]) -> float | None:
    """Seconds of a training from nothing on this machine; None for a short one, and where the device was not measured
    or the model does not fill it."""
    vocabulary = vocabulary_of(build.summaries)
    if not vocabulary or INITIAL in build.summaries or build.config.get("any_shape"):
        return None  # another model decides the shape
    given = {name: build.config[name] for name in PretrainConfig.model_fields if name in build.config}  # see `identity`
    config = PretrainConfig.model_validate(given)
    shape, tokens = config.shape(vocabulary), config.own_tokens
    flop = training_flop(shape) * tokens
    if flop < LEAST_FLOP:
        return None
    kind, dtype = observed["device"], observed["dtype"]
    processor = CPU_CORE if kind == "cpu" else card_name()
    # Of a core what is compiled was measured in single steps alone: it counts as if it were not.
    compiled = kind != "cpu" and training_compiles("off" if config.compile == "off" else "auto", kind, dtype, flop)
    for device in devices_filled_by(shape):
        if (device.processor, device.dtype, device.compiled) == (processor, dtype, compiled):
            cores = min(config.processes * config.threads, os.cpu_count() or 1)
            return device.seconds(shape, tokens) / (cores if kind == "cpu" else config.processes)
    return None


def vocabulary_of(summaries: Summaries) -> int:
    """Tokens of the vocabulary that the model will have; 0 where that is not known yet."""
    known = summaries.get("tokenizer") or summaries.get(TEACHER) or {}
    size: int = known.get("vocabulary_size", 0)
    return size


def card_name(cards: Path = _CARDS) -> str | None:
    """The name of the first NVIDIA card, as its driver has it, without importing torch."""
    for file in sorted(cards.glob("*/information")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == "Model":
                return value.strip()
    return None


def time_notice(shape: Shape, tokens: int, price: float) -> list[str]:
    """A sentence with the time of a long training at the fastest on each kind of device that was measured and that the
    model fills, and its cost on a card where an hour has a price."""
    flop = training_flop(shape) * tokens
    if flop < LEAST_FLOP:
        return []
    fastest: dict[str, str] = {}
    for device in devices_filled_by(shape):
        card = device.processor != CPU_CORE
        name = f"{device.processor if card else 'one CPU core'} in {device.dtype}"
        seconds = device.seconds(shape, tokens)
        cost = f" ({seconds / 3600 * price:,.2f} at a price of {figure(price)} an hour)" if price and card else ""
        fastest.setdefault(name, f"{rough_duration(seconds)} on {name}{cost}")
    work = f"{flop:.2g}".replace("e+", "e")
    what = f"{amount(tokens)} tokens with {amount(shape.parameters)} parameters, {work} operations"
    return [f"pretrain: {what}: {', '.join(fastest.values())}; computed from what these were measured to do"]
