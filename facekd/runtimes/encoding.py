"""From images to the array that a model takes: the one place that knows how."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from facekd.common.errors import UsageError
from facekd.common.validation import shown
from facekd.runtimes.base import IMAGE, Tensor
from facekd.runtimes.input_range import fitted_spec
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.manifest import ArtefactInput

if TYPE_CHECKING:
    import torch

Layout = Literal["NCHW", "NHWC"]
Values = Literal["normalised", "ordered", "rgb"]

_FLOATS = ("float32", "float16")


@dataclass(frozen=True, kw_only=True)
class InputEncoding:
    """How uint8 RGB images [b, 3, h, w] become a model's input.

    Attributes:
        spec: size, colour order, mean and standard deviation.
        layout: of the model.
        batch: the only one it takes, or None for any.
        values: "normalised" by `spec`; "ordered": pixels in the colour order of `spec`, for a file that normalises
            itself; "rgb": pixels as they are, for one that orders the channels too.
        dtype: NumPy's name.
        quantisation: (scale, zero point) of a quantised input: stored = round(real / scale) + zero point.
        notes: what to say of it to the person who gave the file: whatever is not as they may expect.
    """

    spec: InputSpec
    layout: Layout = "NCHW"
    batch: int | None = None
    values: Values = "normalised"
    dtype: str = "float32"
    quantisation: tuple[float, int] | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of_artefact(cls, stated: ArtefactInput) -> "InputEncoding":
        """As a manifest states it, and nothing else: a manifest that lies is then caught by the parity gate."""
        return cls(
            spec=stated.spec,
            layout=cast(Layout, stated.layout.upper()),
            batch=stated.batch,
            values="rgb" if stated.preprocess == "in" else "normalised",
            dtype="uint8" if stated.dtype == "uint8" else "float32",
        )

    @classmethod
    def of_file(
        cls, path: Path, tensor: Tensor, *, spec: InputSpec | None = None, layout: Layout | None = None
    ) -> "InputEncoding":
        """As a file shows it that has no manifest.

        Floats are fed normalised; integers through their quantisation; uint8 without one the pixels as they are.

        Args:
            path: for messages.
            tensor: the file's input.
            spec: default RGB, (pixel - 127.5) / 127.5; its size is taken where the file leaves its own free.
            layout: needed only where the shape does not tell.

        Raises:
            UsageError: the input takes no images, cannot hold pixels normalised by `spec`, or its layout does not show.
        """
        quantised = tensor.quantisation is not None and tensor.dtype in ("int8", "uint8", "int16")
        if tensor.dtype not in (*_FLOATS, "uint8", IMAGE) and not quantised:
            raise UsageError(
                f"{path} takes {tensor.dtype} at {shown(tensor.name)}: valid are {', '.join(_FLOATS)}, uint8, and "
                "integers with a quantisation"
            )
        spec, note = fitted_spec(path, tensor, spec or InputSpec()) if quantised else (spec or InputSpec(), None)
        notes = [note] if note else []
        found = find_layout(path, tensor.shape, layout)
        rows, columns = (2, 3) if found == "NCHW" else (1, 2)
        size = (tensor.shape[rows] or spec.size[0], tensor.shape[columns] or spec.size[1])
        values: Values = "normalised"
        if tensor.dtype == IMAGE:
            values = "rgb"
        elif tensor.dtype == "uint8" and not quantised:
            values = "ordered"
            unused = " (mean and std are not used)" if spec.model_fields_set & {"mean", "std"} else ""
            notes.append(f"{path} takes uint8 at {shown(tensor.name)}: fed the pixels 0 to 255 as they are{unused}")
        return cls(
            spec=spec.model_copy(update={"size": size}),
            layout=found,
            batch=tensor.shape[0],
            values=values,
            dtype="float32" if tensor.dtype == IMAGE else tensor.dtype,
            quantisation=tensor.quantisation,
            notes=tuple(notes),
        )

    @property
    def fed(self) -> InputSpec:
        """What `arrange` takes: `spec`, or pixels 0 to 255 where the file normalises them itself."""
        if self.values == "normalised":
            return self.spec
        colour = self.spec.colour if self.values == "ordered" else "RGB"
        return InputSpec(size=self.spec.size, colour=colour, mean=(0.0,) * 3, std=(1.0,) * 3)

    def encode(self, images: "np.ndarray | torch.Tensor") -> np.ndarray:
        """uint8 RGB images [b, 3, h, w] -> the model's input, contiguous."""
        import torch

        pixels = torch.as_tensor(np.asarray(images))
        if self.values == "normalised":
            array = self.spec.normalise(pixels).numpy()
        else:
            array = (pixels.flip(1) if self.fed.colour == "BGR" else pixels).numpy()
        return self.arrange(array)

    def arrange(self, array: np.ndarray) -> np.ndarray:
        """Values [b, 3, h, w] that are normalised and ordered already -> the model's layout and type, contiguous."""
        if self.layout == "NHWC":
            array = array.transpose(0, 2, 3, 1)
        if self.quantisation is not None:
            scale, zero = self.quantisation
            limits = np.iinfo(self.dtype)
            array = np.clip(np.rint(array / scale + zero), limits.min, limits.max)
        return np.ascontiguousarray(array.astype(self.dtype, copy=False))


def find_layout(path: Path, shape: Sequence[Any], stated: Layout | None) -> Layout:
    """NCHW or NHWC: where the 3 of an input shape stands, or as stated where it does not show.

    Raises:
        UsageError: the shape is no image's, is not as stated, or does not show its layout.
    """
    if len(shape) != 4:
        raise UsageError(f"{path} takes an input of shape {list(shape)}: a face model takes images, [b, 3, h, w]")
    if stated is not None:
        channels = shape[1 if stated == "NCHW" else 3]
        if isinstance(channels, int) and channels != 3:
            raise UsageError(f"{path} takes an input of shape {list(shape)}, which is not {stated}: leave --layout out")
        return stated
    shown: list[Layout] = [layout for layout, axis in (("NCHW", 1), ("NHWC", 3)) if shape[axis] == 3]  # type: ignore[misc]
    if len(shown) != 1:
        raise UsageError(f"{path} takes an input of shape {list(shape)}: say --layout NCHW or --layout NHWC")
    return shown[0]
