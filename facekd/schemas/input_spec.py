"""What a model expects at its input: size, colour order, mean and standard deviation."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

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
        if len(set(self.mean)) == len(set(self.std)) == 1:  # numbers of the host: nothing is copied to a device
            return (images.float() - self.mean[0]) / self.std[0]
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        return (images.float() - mean) / std


def read_channels(given: Any) -> Any:
    """One number for all channels, or three, also as text such as "123.7,116.3,103.5" -> one a channel."""
    if isinstance(given, bool) or given is None:
        return given
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else [given]
    try:
        values = tuple(float(part) for part in parts)
    except (TypeError, ValueError, OverflowError):
        values = ()
    if len(values) not in (1, 3):
        raise ValueError("give one number or three, such as 127.5 or 123.7,116.3,103.5")
    return values * 3 if len(values) == 1 else values


def _no_zero(values: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
    if values is not None and 0 in values:
        raise ValueError("0 divides nothing: give numbers above 0, such as 127.5")
    return values


def _one_of(*valid: str) -> BeforeValidator:
    """Accepts the valid words in any case."""

    def check(given: Any) -> Any:
        if given is not None and (not isinstance(given, str) or given.upper() not in valid):
            raise ValueError(f"valid are {' and '.join(valid)}")
        return given if given is None else given.upper()

    return BeforeValidator(check)


_Channel = Annotated[float, Field(ge=-1e6, le=1e6)]
_Channels = Annotated[tuple[_Channel, _Channel, _Channel] | None, BeforeValidator(read_channels)]


class StatedInput(StrictSchema):
    """What somebody, or a file's own metadata, says of a model file's input and output; None for what is not said.

    The options --colour, --mean, --std, --layout and --output of the commands and the fields of a recipe's `teacher`
    are this.

    Attributes:
        colour: RGB or BGR, the channel order that the model takes.
        mean: subtracted from the pixel (0 to 255), one number or one a channel.
        std: the difference is divided by this, likewise.
        layout: NCHW or NHWC, where the shape of the input does not tell.
        output: the name of the output that is the embedding.
    """

    colour: Annotated[Literal["RGB", "BGR"] | None, _one_of("RGB", "BGR")] = None
    mean: _Channels = None
    std: Annotated[_Channels, AfterValidator(_no_zero)] = None
    layout: Annotated[Literal["NCHW", "NHWC"] | None, _one_of("NCHW", "NHWC")] = None
    output: str | None = None

    @property
    def spec(self) -> InputSpec | None:
        """Colour, mean and std, with the default for what is not said; None where nothing is."""
        given = {name: getattr(self, name) for name in ("colour", "mean", "std")}
        given = {name: value for name, value in given.items() if value is not None}
        return InputSpec.model_validate(given) if given else None

    @property
    def stated(self) -> dict[str, Any]:
        """The fields that are said, by name."""
        names = StatedInput.model_fields
        return {name: value for name in names if (value := getattr(self, name)) is not None}
