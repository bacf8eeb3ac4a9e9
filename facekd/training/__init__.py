"""The loop, written once for training and distillation: optimisation, precision, checkpoints, log, the run's end."""
