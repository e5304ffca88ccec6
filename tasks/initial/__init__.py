"""Stage initial: an open model, taken over as what a run starts from."""
