"""A Core ML package on disk: opened by coremltools, and the inputs and outputs that it declares."""

from pathlib import Path
from typing import Any

from facekd.runtimes.base import IMAGE, Tensor

UNITS = {"cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE", "all": "ALL"}

_TYPES = {"FLOAT32": "float32", "FLOAT16": "float16", "DOUBLE": "float64", "INT32": "int32"}


def load_package(package: Path, *, units: str | None = None) -> Any:
    """coremltools' MLModel of an .mlpackage folder.

    Args:
        package: the folder.
        units: of UNITS, ready to predict on a Mac; None only reads the package, on any machine.
    """
    import coremltools

    if units is None:
        return coremltools.models.MLModel(str(package), skip_model_load=True)
    return coremltools.models.MLModel(str(package), compute_units=coremltools.ComputeUnit[UNITS[units]])


def declared(description: Any) -> tuple[list[Tensor], list[Tensor]]:
    """(inputs, outputs) of a Core ML specification's description."""
    return [_tensor(value) for value in description.input], [_tensor(value) for value in description.output]


def _tensor(value: Any) -> Tensor:
    if value.type.WhichOneof("Type") == "imageType":
        image = value.type.imageType
        return Tensor(name=value.name, dtype=IMAGE, shape=(1, 3, image.height, image.width))
    array = value.type.multiArrayType
    kind = array.ArrayDataType.Name(array.dataType)
    return Tensor(name=value.name, dtype=_TYPES.get(kind, kind.lower()), shape=tuple(int(n) for n in array.shape))
