"""Augmentation in a recipe: each kind with its probability and strength; `facekd.data.augmentation` carries them out.

The kinds and their strengths are facekd's choice; cropping, low resolution and colour at probability 0.2 are AdaFace's
(Kim et al. 2022).
"""

from pydantic import ConfigDict, Field, model_validator

from facekd.common.validation import StrictSchema

Probability = Field(default=0.0, ge=0.0, le=1.0)


class _Kind(StrictSchema):
    model_config = ConfigDict(frozen=True)

    probability: float = Probability


class Affine(_Kind):
    """Rotation, scale and translation about the image centre, border value 0 as in alignment.

    Attributes:
        rotation_degrees: uniform in +- this.
        scale: the face grows or shrinks by a factor uniform in [1 / (1 + scale), 1 + scale], in its logarithm.
        translation: uniform in +- this fraction of the image, each axis.
    """

    rotation_degrees: float = Field(default=10.0, ge=0.0, le=180.0)
    scale: float = Field(default=0.1, ge=0.0, le=1.0)
    translation: float = Field(default=0.05, ge=0.0, le=0.5)


class Crop(_Kind):
    """A window of the image, its side at least `smallest` of the image's, stays where it is; the rest becomes 0."""

    smallest: float = Field(default=0.5, gt=0.0, le=1.0)


class Colour(_Kind):
    """Brightness, contrast and saturation, each by a factor uniform in 1 +- its strength."""

    brightness: float = Field(default=0.4, ge=0.0, le=1.0)
    contrast: float = Field(default=0.4, ge=0.0, le=1.0)
    saturation: float = Field(default=0.4, ge=0.0, le=1.0)


class Grey(_Kind):
    """Luminance (ITU-R BT.601) in all three channels."""


class LowResolution(_Kind):
    """Down to a side uniform in [smallest, 1] of the image's and up again, both interpolations at random."""

    smallest: float = Field(default=0.2, gt=0.0, le=1.0)


class Jpeg(_Kind):
    """JPEG compression at a quality uniform in [lowest, highest]."""

    lowest: int = Field(default=30, ge=1, le=100)
    highest: int = Field(default=95, ge=1, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> "Jpeg":
        if self.lowest > self.highest:
            raise ValueError(f"jpeg.lowest {self.lowest} must not be above jpeg.highest {self.highest}")
        return self


class Occlusion(_Kind):
    """A rectangle of one random colour, each side uniform in [0.1, largest] of the image's."""

    largest: float = Field(default=0.4, ge=0.1, le=1.0)


class AugmentationConfig(StrictSchema):
    """Everything is off but the flip; a recipe turns on what it wants.

    Attributes:
        flip: probability of mirroring left and right.
    """

    model_config = ConfigDict(frozen=True)

    flip: float = Field(default=0.5, ge=0.0, le=1.0)
    affine: Affine = Affine()
    crop: Crop = Crop()
    colour: Colour = Colour()
    grey: Grey = Grey()
    occlusion: Occlusion = Occlusion()
    low_resolution: LowResolution = LowResolution()
    jpeg: Jpeg = Jpeg()
