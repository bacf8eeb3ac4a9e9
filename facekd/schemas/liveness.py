"""Passive liveness networks, as a manifest describes them: the crop each takes, and which of its classes is real."""

from typing import Annotated

from pydantic import Field, model_validator

from facekd.common.validation import StrictSchema
from facekd.schemas.input_spec import InputSpec

CropScale = Annotated[float, Field(ge=0.5, le=16)]


class LivenessModel(StrictSchema):
    """One network that tells a live face from a picture of one.

    Attributes:
        file: .onnx, relative to the artefact; input [1, 3, h, w].
        crop_scale: side of the crop in sides of the face box, see facekd.runtimes.liveness.crop_region.
        input: size, colour order, mean and std of its input.
        output: name of the output [1, classes].
        classes: number of them.
        real_class: which one means a live face.
        probabilities: the file's output is a distribution already; otherwise a softmax makes it one.
    """

    file: str
    crop_scale: CropScale
    input: InputSpec
    output: str
    classes: int = Field(ge=2, le=16)
    real_class: int = Field(ge=0)
    probabilities: bool

    @model_validator(mode="after")
    def _real_is_a_class(self) -> "LivenessModel":
        if self.real_class >= self.classes:
            raise ValueError(f"real_class = {self.real_class}: the output has {self.classes} classes, 0 the first")
        return self


class Liveness(StrictSchema):
    """The networks of an artefact; a face's score is the mean of their probabilities of real.

    Attributes:
        models: at least one.
        threshold: live if the score is greater.
    """

    models: list[LivenessModel] = Field(min_length=1, max_length=8)
    threshold: float = Field(ge=0, lt=1)
