"""What the stage mix says about itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from storage.documents import TRAIN
from storage.lookup import place_of
from storage.token_order import read_order
from storage.tokens import TokenSet
from tasks.engine.about import DOCUMENTS, About, MadeRun, Step
from tasks.mix.report import report


def _explain(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    """How often the mix has the document."""
    order, tokens, documents = run.part(stage, "order"), run.read(stage, "tokens"), run.read(stage, DOCUMENTS)
    place = place_of(documents, document["id"]) if documents else None
    if order is None or tokens is None or place is None:
        return None
    if document["split"] != TRAIN:
        return {"verdict": "held out"}
    token_set = TokenSet(tokens.path, TRAIN)
    number = token_set.number_of(place.shard, place.number)
    times = [int(np.count_nonzero(phase.pieces()[0] == number)) for _, phase in read_order(order.path, token_set)]
    return {"verdict": "drawn" if any(times) else "left out", "times": times}


def _words(step: Step) -> list[str]:
    if not step.get("times"):
        return [""]
    if len(step["times"]) == 1:
        return [f"{step['times'][0]} times"]
    return [", ".join(f"{times} times in phase {number}" for number, times in enumerate(step["times"], 1))]


MIX = About(
    work=None,
    headline={"mix_tokens": "tokens"},
    report=report,
    explain=_explain,
    words=_words,
)
