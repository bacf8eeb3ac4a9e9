"""An interpreter in torch for a saved Core ML program: what was written is executed, on any machine.

Core ML predicts on macOS only. The .mlpackage is read back from disk by coremltools' own MIL loader, and every
operation is then computed here in float32, rounded to float16 wherever the program says so. This checks the conversion
and the file, not the neural engine.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facekd.common.errors import FacekdError
from facekd.common.validation import shown
from facekd.runtimes.coreml_package import declared, load_package
from facekd.runtimes.mil.layout import OPERATORS

# Operations that carry data instead of computing.
_CONSTANTS = ("const",)


class MilProgram:
    """The `main` function of a saved mlprogram.

    Attributes:
        inputs: as the file declares them.
        outputs: likewise; the program computes the first.
        specification: Core ML specification version.
        image_colour: RGB or BGR if the input is an image, else None.
    """

    def __init__(self, package: Path) -> None:
        """
        Args:
            package: the .mlpackage folder.

        Raises:
            FacekdError: it cannot be read, or holds an operation the interpreter does not know.
        """
        from coremltools.converters.mil.frontend.milproto import load

        try:
            model = load_package(package)
            spec = model.get_spec()
            program = load.load(
                spec, specification_version=spec.specificationVersion, file_weights_dir=model.weights_dir
            )
        # coremltools raises a dozen types for a damaged package; the message is what a user can act on.
        except Exception as error:
            raise FacekdError(f"{package}: coremltools cannot read it back: {error}") from error
        description = spec.description.input[0]
        self.specification = int(spec.specificationVersion)
        self.image_colour = _image_colour(description)
        self.inputs, self.outputs = declared(spec.description)
        self._function = program.functions["main"]
        self._operations = [op for op in self._function.operations if op.op_type not in _CONSTANTS]
        # Constants, and what is computed from them alone (weights unpacked from int8 or a table), by name.
        self._fixed: dict[str, Any] = {}
        unknown = sorted({op.op_type for op in self._operations if op.op_type not in OPERATORS})
        if unknown:
            raise FacekdError(
                f"{package}: the MIL interpreter does not know the operation {', '.join(unknown)}, so this program "
                "cannot be verified here; add it to facekd.runtimes.mil.operators, or export on a Mac"
            )

    def operator_types(self) -> list[str]:
        """The type of every computing operation, in order."""
        return [op.op_type for op in self._operations]

    def trace(self, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Every operation's result for the input `x`, by name, in order; the last is the output.

        Args:
            x: float32, of the declared shape. For an image input RGB pixels [1, 3, h, w]: Core ML itself orders the
                channels as the model declares, so that is done here.
        """
        image = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        if self.image_colour == "BGR":
            image = image.flip(1)
        values: dict[str, Any] = dict.fromkeys(self._function.inputs, image)
        with torch.no_grad():
            for op in self._operations:
                self._compute(op, values)
                for var in op.outputs:
                    value = values[var.name] if var.name in values else self._fixed[var.name]
                    if isinstance(value, torch.Tensor):
                        yield var.name, value.numpy()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The program's output for `x`; see `trace`."""
        final = self._function.outputs[0].name
        for name, value in self.trace(x):
            if name == final:
                return value
        raise FacekdError(f"the program never computes its output {shown(final)}")

    def _compute(self, op: Any, values: dict[str, Any]) -> None:
        """Adds the results of `op` to `values`, or to the fixed ones if no input of it depends on the image."""
        if op.outputs[0].name in self._fixed:
            return
        arguments = {key: self._value(var, values) for key, var in op.inputs.items()}
        inputs = [part for var in op.inputs.values() for part in (var if isinstance(var, list | tuple) else [var])]
        kept = self._fixed if all(var.name in self._fixed for var in inputs) else values
        results = OPERATORS[op.op_type](**arguments)
        for var, result in zip(op.outputs, results if isinstance(results, tuple) else (results,), strict=True):
            kept[var.name] = _rounded(result, var)

    def _value(self, var: Any, values: dict[str, Any]) -> Any:
        """A computed tensor, a constant as torch tensor or Python value, or a list of them."""
        if isinstance(var, list | tuple):
            return [self._value(part, values) for part in var]
        if var.name in values:
            return values[var.name]
        if var.name not in self._fixed:
            self._fixed[var.name] = _constant(var)
        return self._fixed[var.name]


def _constant(var: Any) -> Any:
    constant = var.val
    if constant is None:
        raise FacekdError(f"operation input {shown(var.name)} is neither computed nor constant: the program is damaged")
    if isinstance(constant, np.ndarray):
        array = np.ascontiguousarray(constant)
        # float16 constants are used as they are stored, computed with in float32.
        return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array.copy())
    return constant.item() if hasattr(constant, "item") else constant


def _rounded(result: Any, var: Any) -> Any:
    """The result in float32, rounded through float16 if the program declares the variable so."""
    from coremltools.converters.mil.mil import types

    if not isinstance(result, torch.Tensor):
        return result
    expected = tuple(var.shape) if hasattr(var, "shape") else None
    if expected is not None and all(isinstance(size, int) for size in expected) and tuple(result.shape) != expected:
        raise FacekdError(f"MIL value {shown(var.name)}: computed {list(result.shape)}, declared {list(expected)}")
    if result.is_floating_point():
        result = result.half().float() if var.dtype == types.fp16 else result.float()
    return result


def _image_colour(description: Any) -> str | None:
    if description.type.WhichOneof("Type") != "imageType":
        return None
    image = description.type.imageType
    name = image.ColorSpace.Name(image.colorSpace)
    if name not in ("RGB", "BGR"):
        raise FacekdError(f"image input of colour space {name}: a face model takes RGB or BGR")
    return str(name)
