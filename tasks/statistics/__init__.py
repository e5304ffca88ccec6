"""How sure a figure is, and a difference of two on the same items: intervals for all stages that measure."""
