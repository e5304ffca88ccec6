"""What a run does where training goes wrong: leave a step out, go back, stop.

A step is bad where its loss or its gradient is not finite, where nothing of its batch is scored, or where its loss is a
spike: more than `spike_factor` times the median of the last losses. The update of a bad step is left out. After
MOST_BAD_IN_A_ROW of them the run goes back to its newest checkpoint, to the one before if it comes from there, and on
at half the rates; after MOST_RETURNS returns it stops and says where it was. All of it follows from the losses and from
where the checkpoints are: a run that is killed does it again.
"""

import math
import statistics
from collections.abc import MutableMapping
from typing import Any

import torch

from model.batches import Batch
from storage.errors import DataError

MOST_BAD_IN_A_ROW = 3
MOST_RETURNS = 2
RATE_AFTER_RETURN = 0.5
LEFT_OUT = "update left out"
NOTHING = "no token of the batch is scored"
WINDOW, FEWEST = 32, 8  # losses that the median is of, and from how many on it is one


def first_state() -> dict[str, Any]:
    """What a run remembers of its steps, for its checkpoints; `rate` is the share of the rates that are left."""
    return {"skipped": 0, "bad_in_a_row": 0, "returns": 0, "returned_to": None, "rate": 1.0, "losses": [], "best": None}


def fault_of(loss: float, norm: float, state: MutableMapping[str, Any], spike_factor: float | None) -> str | None:
    """Why the update of a step is to be left out; None where it is a good one, whose loss is then remembered."""
    losses: list[float] = state["losses"]
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return f"loss {loss:.4g} and gradient norm {norm:.4g} are not both finite"
    if spike_factor and len(losses) >= FEWEST and loss > spike_factor * (median := statistics.median(losses)):
        return f"loss {loss:.4g} is a spike: the median of the last {len(losses)} is {median:.4g}"
    state["losses"] = [*losses, loss][-WINDOW:]
    state["bad_in_a_row"] = 0
    return None


def leave_out(state: MutableMapping[str, Any]) -> bool:
    """Count a bad step; returns whether there were too many in a row."""
    state["skipped"] += 1
    state["bad_in_a_row"] += 1
    return bool(state["bad_in_a_row"] >= MOST_BAD_IN_A_ROW)


def after_return(now: MutableMapping[str, Any], then: MutableMapping[str, Any], step: int) -> dict[str, Any]:
    """The state of a run that went back to a step: that of its checkpoint, at a lower rate, without losing count.

    What has happened since stays known, but for updates left out of steps that are made again.
    """
    counts = {"skipped": now["skipped"], "returns": now["returns"] + 1, "bad_in_a_row": 0, "returned_to": step}
    stays = {name: now[name] for name in ("processes", "micro_batch_tokens")}
    events = [event for event in now["events"] if event in then["events"] or LEFT_OUT not in event["what"]]
    return {**then, **counts, **stays, "events": events, "rate": now["rate"] * RATE_AFTER_RETURN}


def history(state: MutableMapping[str, Any], saved: bool) -> str:
    """What was tried before a run gives up."""
    if not saved:
        return "There is no checkpoint yet to go back to"
    return f"It went back {state['returns']} times already, and has {state['rate']:g} of its rates"


def is_best(value: float | None, step: int, state: MutableMapping[str, Any]) -> bool:
    """Whether the figure of a validation is the best so far, less being better; it is then remembered."""
    best = state["best"]
    if value is None or (best is not None and value >= best["value"]):
        return False
    state["best"] = {"step": step, "value": value}
    return True


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory was refused, on a GPU or on a CPU, where torch has no error of its own for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def smaller_parts(tokens: int, batch: Batch) -> int:
    """Half as many tokens at once, of those that were; DataError where that is less than the least part."""
    rows, length = batch.inputs.shape
    least = batch.together * length
    if min(tokens, rows * length) <= least:
        raise DataError(
            f"out of memory with the least that can be computed at once ({least:,} tokens): lower the context length "
            "or take a smaller model"
        )
    return max(least, min(tokens, rows * length) // 2)
