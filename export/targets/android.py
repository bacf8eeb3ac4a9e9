"""The folder that the Android demo takes as it is: the ONNX model, its manifest, and the golden crop and embedding."""

from typing import ClassVar

from facekd.export.targets.base import register_target
from facekd.export.targets.onnx import OnnxTarget


@register_target
class AndroidTarget(OnnxTarget):
    """ONNX with the app's conventions: NCHW, batch 1 (mobile providers want fixed shapes), normalised by the app.

    The app reads from manifest.json: `model`, `input` (size, colour, mean, std), `output.width`, `calibration`,
    `thresholds`, `files` (the model's sha256 is the model id stored with each template) and `golden` (the crop, its
    embedding and the cosine below which a provider is refused).
    """

    name = "android"
    layouts = ("nchw",)
    default_batch: ClassVar[int | None] = 1
    dynamic_batch = False
