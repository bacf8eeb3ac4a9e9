"""Core ML through coremltools: on a Mac only, since nothing else can run a Core ML program."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from facekd.benchmarks.runtimes.base import Runtime, Session, first_line
from facekd.common.errors import FacekdError, UsageError

UNITS = {"cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE", "all": "ALL"}

UNITS_VARIABLE = "FACEKD_COREML_UNITS"


class CoreMl(Runtime):
    """Opens .mlpackage folders with the compute units of FACEKD_COREML_UNITS: cpu, gpu, ane or all (the default)."""

    name = "coreml"
    extra = "coreml"
    modules = ("coremltools",)
    package = "coremltools"
    suffixes = (".mlpackage",)

    def require(self) -> None:
        """Refuses every system but macOS."""
        if sys.platform != "darwin":
            raise UsageError(
                f"runtime coreml runs on a Mac, this is {sys.platform}: valid here are onnxruntime, litert, "
                "executorch and torch"
            )
        super().require()

    def open(self, path: Path, *, threads: int) -> Session:
        """The compiled model. Core ML chooses its threads itself; one is recorded."""
        import coremltools

        del threads
        units = os.environ.get(UNITS_VARIABLE, "all")
        if units not in UNITS:
            raise UsageError(f"{UNITS_VARIABLE}={units}: valid are {', '.join(UNITS)}")
        try:
            model = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit[UNITS[units]])
        except Exception as error:  # coremltools raises Objective-C errors in several classes
            raise FacekdError(f"{path}: Core ML cannot open it: {first_line(error)}") from error
        return _CoreMlSession(model, units)


class _CoreMlSession(Session):
    def __init__(self, model: Any, units: str) -> None:
        self.provider = f"Core ML {units}"
        self._model = model
        description = model.get_spec().description
        self._input = description.input[0]
        self._output = description.output[0].name

    def run(self, x: np.ndarray) -> np.ndarray:
        """One input (pixels [1, 3, h, w] for a model that takes an image) -> embeddings [b, e]."""
        value: Any = x
        if self._input.type.WhichOneof("Type") == "imageType":
            from PIL import Image

            value = Image.fromarray(np.ascontiguousarray(x[0].transpose(1, 2, 0).astype(np.uint8)))
        return np.asarray(self._model.predict({self._input.name: value})[self._output])
