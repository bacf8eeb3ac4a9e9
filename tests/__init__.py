"""The tests: a package, since an installed package may be called tests too (python -m tests.faults)."""
