"""Targets: one module a runtime, each a class that converts a network to a file and opens the file again."""

from facekd.export.targets.base import (
    Conversion,
    ExportOptions,
    Runner,
    Target,
    get_target,
    list_targets,
    register_target,
)

__all__ = ["Conversion", "ExportOptions", "Runner", "Target", "get_target", "list_targets", "register_target"]
