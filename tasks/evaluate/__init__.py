"""Stage evaluate: scores of the base and the fine-tuned model, with intervals and baselines."""
