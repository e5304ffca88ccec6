"""The model server: one release behind an API that OpenAI's clients speak."""
