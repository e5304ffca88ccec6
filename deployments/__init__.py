"""Where llmill runs for others: schedules and containers as files, and the model server (`deployments.server`)."""
