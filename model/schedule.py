"""The learning rate over a run: warm-up, stable, decay (WSD), as a factor of the peak rate."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """Linear warm-up over `warmup_steps`, constant, then linear decay over the last `decay_steps`.

    WSD reaches cosine's loss (Hägele et al. 2024) and, unlike it, can be prolonged from its stable part.
    """

    steps: int
    warmup_steps: int
    decay_steps: int
    final_factor: float = 0.0

    def factor(self, step: int) -> float:
        """Factor of the peak rate for optimizer step `step`, counted from 0."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = (self.steps - step) / max(1, self.decay_steps)
        decay = self.final_factor + (1 - self.final_factor) * min(1.0, left)
        return min(warmup, decay)
