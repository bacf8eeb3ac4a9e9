"""LiteRT with XNNPACK, and what XNNPACK takes of a file."""

from pathlib import Path
from typing import Any

import numpy as np

from facekd.benchmarks.runtimes.base import Runtime, Session, first_line
from facekd.common.errors import FacekdError, UsageError


class LiteRt(Runtime):
    """Opens .tflite files."""

    name = "litert"
    extra = "tflite"
    modules = ("ai_edge_litert.interpreter",)
    package = "ai-edge-litert"
    suffixes = (".tflite",)

    def open(self, path: Path, *, threads: int) -> Session:
        """An interpreter with its tensors allocated."""
        return _LiteSession(path, _open(path, threads))

    def profile(self, path: Path, x: np.ndarray, *, threads: int, runs: int) -> dict[str, Any] | None:
        """Placement from the interpreter; times by facekd.benchmarks.lite_profile, since LiteRT's Python has none."""
        from facekd.benchmarks.lite_profile import profile_lite

        del x
        return profile_lite(path, threads=threads, runs=runs)


class _LiteSession(Session):
    provider = "XNNPACK"

    def __init__(self, path: Path, interpreter: Any) -> None:
        self._path = path
        self._interpreter = interpreter
        inputs = interpreter.get_input_details()
        if len(inputs) != 1:
            raise UsageError(f"{path} has inputs {[i['name'] for i in inputs]}: a face model with one image is needed")
        self._input = inputs[0]["index"]
        self._output = interpreter.get_output_details()[0]["index"]

    def run(self, x: np.ndarray) -> np.ndarray:
        """One input -> the first output, as the file has it."""
        try:
            self._interpreter.set_tensor(self._input, x)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise FacekdError(
                f"{self._path} failed on an input of shape {list(x.shape)}: {first_line(error)}"
            ) from error
        return np.asarray(self._interpreter.get_tensor(self._output))


def _open(path: Path, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise FacekdError(f"{path}: LiteRT cannot open it: {first_line(error)}") from error
    return interpreter
