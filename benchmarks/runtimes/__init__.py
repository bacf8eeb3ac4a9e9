"""The runtimes a model can be measured in, by name."""

import importlib

from facekd.benchmarks.runtimes.base import Runtime, Session
from facekd.common.errors import UsageError

__all__ = ["RUNTIMES", "Runtime", "Session", "get_runtime"]

RUNTIMES: dict[str, str] = {
    "onnxruntime": "facekd.benchmarks.runtimes.onnxruntime:OnnxRuntime",
    "litert": "facekd.benchmarks.runtimes.litert:LiteRt",
    "executorch": "facekd.benchmarks.runtimes.executorch:ExecuTorch",
    "torch": "facekd.benchmarks.runtimes.torch:Torch",
    "coreml": "facekd.benchmarks.runtimes.coreml:CoreMl",
}
"""Name -> module:class, imported when asked for: the measuring process holds one runtime and no other."""


def get_runtime(name: str) -> Runtime:
    """The runtime `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in RUNTIMES:
        raise UsageError(f"unknown runtime {name!r}; valid: {', '.join(RUNTIMES)}")
    module, _, attribute = RUNTIMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)()
