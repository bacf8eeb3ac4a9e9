"""Layers that more than one backbone is made of."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.common.validation import shown

ActivationName = Literal["prelu", "relu", "relu6", "hardswish"]

# Each takes the channel count: PReLU learns one slope a channel, the others ignore it.
_ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "prelu": nn.PReLU,
    "relu": lambda channels: nn.ReLU(),
    "relu6": lambda channels: nn.ReLU6(),
    "hardswish": lambda channels: nn.Hardswish(),
}


class StudentNetwork(nn.Module, ABC):
    """A CNN whose `head` makes the embedding from the feature map that distillation taps; see Backbone."""

    head: nn.Module

    @abstractmethod
    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> the last map [b, c, h, w]."""

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """[b, c, h, w] -> raw embeddings [b, e]."""
        output: torch.Tensor = self.head(features)
        return output

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> raw embeddings [b, e]."""
        return self.forward_head(self.forward_features(x))


def create_activation(name: str, channels: int) -> nn.Module:
    """The activation `name` for maps of `channels`; PReLU is the field's habit, the others quantise and deploy better.

    Raises:
        UsageError: the name is not one of prelu, relu, relu6, hardswish.
    """
    if name not in _ACTIVATIONS:
        raise UsageError(f"unknown activation {shown(name)}; valid: {', '.join(get_args(ActivationName))}")
    return _ACTIVATIONS[name](channels)


def conv_norm(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int | tuple[int, int] = 1,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    activation: str | None = None,
) -> nn.Sequential:
    """Convolution without bias, batch norm and, if named, an activation: [b, in, h, w] -> [b, out, h', w']."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding, groups=groups, bias=False),
        norm=nn.BatchNorm2d(out_channels),
    )
    if activation is not None:
        layers["activation"] = create_activation(activation, out_channels)
    return nn.Sequential(layers)


def global_depthwise_head(channels: int, grid: tuple[int, int], embedding_width: int) -> nn.Sequential:
    """MobileFaceNet's head (arXiv 1804.07573, section 3.2): one learned weight a position and channel, then linear.

    Maps [b, channels, *grid] to [b, embedding_width]. Flattening starts at dimension 1 instead of reading the batch
    size, so that an export does not bake the batch in.
    """
    return nn.Sequential(
        OrderedDict(
            depthwise=conv_norm(channels, channels, kernel=grid, groups=channels),
            flatten=nn.Flatten(1),
            linear=nn.Linear(channels, embedding_width, bias=False),
            norm=nn.BatchNorm1d(embedding_width),
        )
    )


def initialise_convolutions(model: nn.Module) -> None:
    """He initialisation over the fan-out for convolutions and linear layers, as InsightFace trains MobileFaceNet."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
