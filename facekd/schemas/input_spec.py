"""What a model expects at its input: size, colour order, mean and standard deviation."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ConfigDict, Field

from facekd.common.validation import StrictSchema

if TYPE_CHECKING:
    import torch


Side = Annotated[int, Field(ge=1, le=4096)]
"""Pixels of a model's input."""


class InputSpec(StrictSchema):
    """Input of a face model. The default is the field's convention: aligned 112x112 RGB, (pixel - 127.5) / 127.5.

    Attributes:
        size: (height, width) in pixels.
        colour: channel order the model was trained with; facekd's own images are always RGB.
        mean: subtracted from the pixel (0 to 255), one value a channel, in the model's channel order.
        std: the difference is divided by this, one value a channel.
    """

    model_config = ConfigDict(frozen=True)

    size: tuple[Side, Side] = (112, 112)
    colour: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = Field(default=(127.5, 127.5, 127.5))

    def normalise(self, images: "torch.Tensor") -> "torch.Tensor":
        """uint8 RGB images [b, 3, h, w] -> float32 [b, 3, h, w] as the model expects them."""
        import torch  # here alone, so that reading a card needs no torch

        if self.colour == "BGR":
            images = images.flip(1)
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        return (images.float() - mean) / std
