"""Source code read as data: what a definition can reach, and what of it can change a result."""
