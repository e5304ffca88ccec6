"""Stage evaluate: scores of the base and the fine-tuned model, with intervals and baselines."""

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.stage import evaluate

__all__ = ["EvaluateConfig", "evaluate"]
