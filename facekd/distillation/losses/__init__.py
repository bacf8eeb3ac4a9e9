"""The distillation losses: one file each, named after its paper's method, found by its registered name."""
