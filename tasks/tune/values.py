"""The values that a search tries in one field of the recipe."""

import math
from typing import Any, Self

from pydantic import Field, model_validator

from storage.canonical import canonical_json
from storage.listing import first_few
from tasks.engine.config import StageConfig
from tasks.wording import figure

MAX_VALUES = 100_000  # of a range with steps, to be listed
SHOWN_CHOICES = 8
DIGITS = 4  # that a drawn number is rounded to


class Values(StageConfig):
    """The values of one field: `choices`, or a range from `low` to `high`, both included."""

    low: int | float | None = Field(None, description="Least value.")
    high: int | float | None = Field(None, description="Greatest value.")
    log: bool = Field(False, description="Drawn evenly by orders of magnitude.")
    step: int | float | None = Field(None, gt=0, description="Distance of two values, counted from low.")
    choices: tuple[Any, ...] | None = Field(None, min_length=1, max_length=1000, description="All values there are.")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if self.choices is not None:
            if self.model_fields_set - {"choices"}:
                raise ValueError("give choices or a range, not both")
            if len({canonical_json(choice) for choice in self.choices}) < len(self.choices):
                raise ValueError("a choice is given twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give choices, or a range: low and high")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low ({self.low}) must be a number below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above zero (it is {self.low})")
        if self.log and self.step is not None:
            raise ValueError("give log or step, not both")
        return self

    @property
    def probes(self) -> tuple[Any, ...]:
        """The values that show whether all can be used: a range is within bounds if its ends are."""
        return self.choices if self.choices is not None else (self.low, self.high)

    @property
    def is_whole(self) -> bool:
        """Whether a range is one of whole numbers: as its ends and its step are written."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    @property
    def all(self) -> tuple[Any, ...] | None:
        """All values, as a grid has them; None for a range without steps."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None and self.high is not None
        step = self.step or (1 if self.is_whole and not self.log else None)
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        if count > MAX_VALUES:
            return None
        return tuple(rounded(self.low + number * step) for number in range(count))

    def holds(self, value: Any) -> bool:
        """Whether a value is one of these."""
        known = self.all
        if known is not None:
            return any(canonical_json(value) == canonical_json(one) for one in known)
        if self.low is None or self.high is None or isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (not self.is_whole or isinstance(value, int))

    def text(self) -> str:
        """In words: `0.003 to 0.03 by orders of magnitude`."""
        if self.choices is not None:
            return ", ".join(first_few([shown(choice) for choice in self.choices], SHOWN_CHOICES))
        how = " by orders of magnitude" if self.log else f" in steps of {shown(self.step)}" if self.step else ""
        return f"{shown(self.low)} to {shown(self.high)}{how}"


def rounded(value: float) -> int | float:
    """A number as a person would write it: a drawn rate of 17 digits says no more than one of four."""
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def shown(value: Any) -> str:
    """A setting in a table: `0.0042`, `none` for null."""
    if value is None:
        return "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return f"{value:g}" if isinstance(value, float) else figure(value)
