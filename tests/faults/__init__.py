"""Faults on purpose: kills, a full disk, cut and forged files; `python -m tests.faults`."""
