"""What users of the model server have said, as pairs and preferences to learn from."""
