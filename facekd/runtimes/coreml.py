"""Core ML through coremltools: on a Mac only, since nothing else predicts with a Core ML program."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import UsageError
from facekd.runtimes.base import IMAGE, OpenOptions, Runtime, Session, register_runtime
from facekd.runtimes.coreml_package import UNITS, declared, load_package

UNITS_VARIABLE = "FACEKD_COREML_UNITS"


@register_runtime
class CoreMl(Runtime):
    """Opens .mlpackage folders with the compute units of FACEKD_COREML_UNITS: cpu, gpu, ane or all (the default)."""

    name = "coreml"
    title = "Core ML"
    extra = "coreml"
    modules = ("coremltools",)
    package = "coremltools"
    suffixes = (".mlpackage",)
    own_process = True

    def unusable(self) -> str | None:
        """Refuses every system but macOS."""
        return None if sys.platform == "darwin" else f"runs on a Mac, this is {sys.platform}"

    def open(self, path: Path, options: OpenOptions) -> Session:
        """The compiled model. Core ML chooses its threads itself."""
        del options
        units = os.environ.get(UNITS_VARIABLE, "all")
        if units not in UNITS:
            raise UsageError(f"{UNITS_VARIABLE}={units}: valid are {', '.join(UNITS)}")
        try:
            model = load_package(path, units=units)
        except Exception as error:  # coremltools raises Objective-C errors in several classes
            raise self.unreadable(path, "Core ML package", error) from error
        return _CoreMlSession(self, path, model, units)


class _CoreMlSession(Session):
    label = "Core ML"

    def __init__(self, runtime: Runtime, path: Path, model: Any, units: str) -> None:
        inputs, outputs = declared(model.get_spec().description)
        super().__init__(runtime, path, inputs=inputs, outputs=outputs)
        self.provider = f"Core ML {units}"
        self._model = model

    def run(self, x: np.ndarray) -> np.ndarray:
        """See Session."""
        value: Any = x
        if self.input.dtype == IMAGE:
            from PIL import Image

            value = Image.fromarray(np.ascontiguousarray(x[0].transpose(1, 2, 0).astype(np.uint8)), "RGB")
        try:
            return np.asarray(self._model.predict({self.input.name: value})[self.output.name])
        except RuntimeError as error:
            raise self.failure(x, error) from error

    def intermediates(self, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Core ML shows none: the interpreter's."""
        from facekd.runtimes.mil.program import MilProgram

        return MilProgram(self.path).trace(x)
