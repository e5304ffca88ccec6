"""The stage mix: how much of each source, language or group pretraining reads, and when."""
