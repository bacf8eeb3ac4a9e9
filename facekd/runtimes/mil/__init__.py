"""The MIL interpreter: runs a saved Core ML program in torch, on any machine, to verify what was written."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facekd.runtimes.base import OpenOptions, Runtime, Session, register_runtime

if TYPE_CHECKING:
    from facekd.runtimes.mil.program import MilProgram


@register_runtime
class MilInterpreter(Runtime):
    """Opens .mlpackage folders; its milliseconds say nothing of Core ML's."""

    name = "mil"
    title = "MIL interpreter"
    extra = "coreml"
    modules = ("torch", "coremltools")
    package = "coremltools"
    suffixes = (".mlpackage",)
    timed = False

    def open(self, path: Path, options: OpenOptions) -> Session:
        """The saved program, read back. torch's own number of threads holds."""
        del options
        from facekd.runtimes.mil.program import MilProgram

        return _MilSession(self, path, MilProgram(path))


class _MilSession(Session):
    provider = ""

    def __init__(self, runtime: Runtime, path: Path, program: "MilProgram") -> None:
        super().__init__(runtime, path, inputs=program.inputs, outputs=program.outputs)
        self._program = program

    def run(self, x: np.ndarray) -> np.ndarray:
        """See Session."""
        return self._program(x)

    def intermediates(self, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Every MIL operation's result."""
        return self._program.trace(x)
