"""Models in files, run: one protocol (`base`), one module a runtime, and one way to open any of them (`opening`)."""

from facekd.runtimes.base import (
    OpenOptions,
    Runtime,
    Session,
    get_runtime,
    list_runtimes,
    register_runtime,
    runtime_for,
)

__all__ = ["OpenOptions", "Runtime", "Session", "get_runtime", "list_runtimes", "register_runtime", "runtime_for"]
