"""Retraining: going on from the champion's weights, and the gate that a candidate must pass."""

from tasks.retrain.config import ContinueConfig, GateConfig, RetrainConfig
from tasks.retrain.continuing import continue_pretraining
from tasks.retrain.gate import judge, judge_first

__all__ = ["ContinueConfig", "GateConfig", "RetrainConfig", "continue_pretraining", "judge", "judge_first"]
