"""Targets: one module a runtime, each a class that converts a network to a file."""

from facekd.export.targets.base import (
    Conversion,
    Target,
    get_target,
    list_targets,
    register_target,
)

__all__ = ["Conversion", "Target", "get_target", "list_targets", "register_target"]
