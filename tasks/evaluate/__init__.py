"""Stage evaluate: scores of the base and the fine-tuned model, with intervals and baselines.

Imports nothing: who draws intervals alone is not to depend on all that evaluation does.
"""
