"""What an export may be asked for; the targets, quantisation and the command line share it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from facekd.schemas.manifest import Layout, Precision

CalibrationMethod = Literal["entropy", "percentile", "minmax"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What the user asked for.

    Attributes:
        precision: of the file; see each target's `precisions`.
        batch: fixed batch size, or None for any.
        layout: of the input.
        preprocess: "in" puts normalisation and colour order into the file, "out" leaves them to the caller.
        opset: ONNX operator set.
        min_ios: smallest iOS version a Core ML model must run on.
        image_input: Core ML takes an image (with preprocess "in") instead of a tensor.
        calibration: uint8 RGB faces [n, 3, h, w] for static quantisation; None where the precision needs none.
        calibration_source: where they come from.
        calibration_method: how activation ranges are chosen from them.
        percentile: of the percentile method.
        keep_float: layers kept in float: "auto" or names.
        layer_report: quantise each layer alone and note its loss; without it keep_float must be empty.
        palette_bits: bits of the look-up table of precision palette.
        prelu_form: a form of facekd.export.rewrite, or None for the target's own choice.
    """

    precision: Precision
    batch: int | None = 1
    layout: Layout = "nchw"
    preprocess: Literal["in", "out"] = "out"
    opset: int = 20
    min_ios: int = 15
    image_input: bool = True
    calibration: np.ndarray | None = None
    calibration_source: str = ""
    calibration_method: CalibrationMethod = "minmax"
    percentile: float = 99.99
    keep_float: Literal["auto"] | tuple[str, ...] = "auto"
    layer_report: bool = True
    palette_bits: int = 6
    prelu_form: str | None = None
