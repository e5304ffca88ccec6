"""A score, defined once: what evaluation writes, and the release, the gate, diff, the report and MLflow read.

`scores.json` of the part `scores` is a JSON list with one score a line.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from storage.errors import DataError
from storage.store.artifacts import Artifact
from tasks.evaluate.references import Reference
from tasks.statistics.outcome import Outcome

SCORES = "scores.json"
BASE, TUNED = MODELS = ("base", "tuned")  # the pretrained and the fine-tuned model
MODEL_NAMES = {BASE: "base", TUNED: "fine-tuned"}  # for people
CLEAN, DIRTY = "clean", "dirty"  # behind the name of a benchmark: its items that are not in the data, and that are
INITIAL = "initial"  # what a run started from, where known text is measured
LEARNED_FEEDBACK = "learned_feedback"  # users' corrections that a run learns
FORGETTING = "forgetting"  # metric of known text: by how much it has become harder since then

Kind = Literal["ratio", "exponential", "proportion"]


class Change(BaseModel):
    """The fine-tuned model's figure less the base's, on the same items, and the 95 % interval of that difference: null
    where all items are of one document (tasks/statistics/compare.py)."""

    model_config = ConfigDict(frozen=True)

    difference: float
    low: float | None
    high: float | None

    def direction(self, higher_is_better: bool | None) -> int:
        """1 where the fine-tuned model is better beyond doubt, -1 where the base is, else 0."""
        if self.low is None or self.high is None or higher_is_better is None:
            return 0
        sign = 1 if higher_is_better else -1
        return sign * ((self.low > 0) - (self.high < 0))


class Score(BaseModel):
    """One figure of one model. `value` is null where it could not be measured, and `note` says why.

    `low` and `high` are its 95 % interval. `higher_is_better` is None where neither way is: a finding, such as what is
    known by heart. `references` are figures of known models under the same protocol. `change` is the difference from
    the base, of the fine-tuned model alone.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    model: str
    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    items: int = 0
    baselines: Mapping[str, float] = Field(default_factory=dict)
    below_baseline: bool = False
    rule: str = ""
    note: str = ""
    kind: Kind = "ratio"  # and the next: as in `Measure`
    higher_is_better: bool | None = False
    references: tuple[Reference, ...] = ()
    change: Change | None = None

    @property
    def figure(self) -> str:
        """What both models' scores have in common: `NAME/METRIC`."""
        return f"{self.name}/{self.metric}"

    @property
    def is_share(self) -> bool:
        """Whether it is between 0 and 1 by its meaning, so that it is shown as per cent."""
        return self.higher_is_better is True and self.metric != "prompt_gap" and 0 <= (self.value or 0.0) <= 1

    @property
    def best_baseline(self) -> tuple[str, float] | None:
        """The baseline that is hardest to beat."""
        if not self.baselines:
            return None
        choose = max if self.higher_is_better else min
        name = choose(sorted(self.baselines), key=self.baselines.__getitem__)
        return name, self.baselines[name]

    @property
    def against_baselines(self) -> Outcome:
        """Beside the best baseline: `better` or `worse` only where the interval is clear of it."""
        best = self.best_baseline
        if self.value is None:
            return Outcome.MISSING
        if best is None or self.higher_is_better is None:
            return Outcome.ALONE
        sign = 1.0 if self.higher_is_better else -1.0
        ends = [sign * (end - best[1]) for end in (self.low, self.high, self.value) if end is not None]
        return Outcome.BETTER if min(ends) > 0 else Outcome.WORSE if max(ends) <= 0 else Outcome.UNCLEAR


_SCORES = TypeAdapter(tuple[Score, ...])


def read_scores(evaluation: Artifact) -> tuple[Score, ...]:
    """The scores of an artifact of the stage evaluate, in the order of the file; DataError where they are not whole."""
    return scores_in(evaluation["scores"] / SCORES)


def scores_in(path: Path) -> tuple[Score, ...]:
    """The scores of a file."""
    try:
        return _SCORES.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{path}: not the scores of an evaluation ({first}); run the stage evaluate again") from None
