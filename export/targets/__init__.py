"""Targets: one module a runtime, each a class that converts a network to a file."""
