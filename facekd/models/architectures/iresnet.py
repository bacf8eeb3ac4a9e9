"""IResNet, the residual network of ArcFace (arXiv 1801.07698, section 3.1) at 112x112: 18 to 200 layers."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.common.validation import shown
from facekd.models.architectures.layers import StudentNetwork, create_activation
from facekd.models.registry import register_model

_EPS = 1e-5


class IResNet(StudentNetwork):
    """Improved ResNet: stem without pooling, four stages that each halve the grid, one linear layer to the embedding.

    Args:
        depths: blocks in each of the four stages.
        widths: channels of each stage.
        embedding_width: e.
        activation: prelu, relu, relu6 or hardswish.
        dropout: probability, before the last linear layer.
        form: "arcface", as arcface_torch has it; "adaface", whose first shortcut picks every second pixel, without
            weights, and whose last batch norm has no scale and shift.
        unit: the embedding is brought to length 1.

    Raises:
        UsageError: an argument out of range.
    """

    feature_grid = (7, 7)

    def __init__(
        self,
        *,
        depths: Sequence[int],
        widths: Sequence[int] = (64, 128, 256, 512),
        embedding_width: int = 512,
        activation: str = "prelu",
        dropout: float = 0.0,
        form: Literal["arcface", "adaface"] = "arcface",
        unit: bool = False,
    ) -> None:
        super().__init__()
        if form not in ("arcface", "adaface"):
            raise UsageError(f"iresnet: unknown form {shown(form)}; valid: arcface, adaface")
        if len(depths) != 4 or len(widths) != 4 or any(value < 1 for value in (*depths, *widths)):
            raise UsageError(
                f"iresnet: depths {tuple(depths)} and widths {tuple(widths)} must be four numbers of 1 or more each"
            )
        self.embedding_width = embedding_width
        self.feature_channels = widths[3]
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, widths[0], 3, padding=1, bias=False),
                norm=nn.BatchNorm2d(widths[0], eps=_EPS),
                activation=create_activation(activation, widths[0]),
            )
        )
        stages = []
        channels = widths[0]
        for depth, width in zip(depths, widths, strict=True):
            blocks = [ImprovedBlock(channels, width, stride=2, activation=activation, pick=form == "adaface")]
            blocks += [ImprovedBlock(width, width, stride=1, activation=activation) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = width
        self.stages = nn.Sequential(*stages)
        height, width = self.feature_grid
        norm_out = nn.BatchNorm1d(embedding_width, eps=_EPS, affine=form == "arcface")
        if form == "arcface":
            # The margin softmax normalises the embedding, so this scale would only be a redundant degree of freedom.
            norm_out.weight.requires_grad_(False)
        self.head = nn.Sequential(
            OrderedDict(
                norm_in=nn.BatchNorm2d(channels, eps=_EPS),
                dropout=nn.Dropout(dropout),
                flatten=nn.Flatten(1),
                linear=nn.Linear(channels * height * width, embedding_width),
                norm_out=norm_out,
            )
        )
        if unit:
            self.head.add_module("unit", UnitLength())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.1)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, 112, 112] -> the last stage's map [b, 512, 7, 7]."""
        output: torch.Tensor = self.stages(self.stem(x))
        return output


class UnitLength(nn.Module):
    """[b, e] -> [b, e] of length 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return functional.normalize(x)


class ImprovedBlock(nn.Module):
    """BN, conv 3x3, BN, activation, conv 3x3 with the stride, BN; plus the input, through a 1x1 where shapes differ.

    With `pick`, an input whose channels fit is not convolved: every `stride`-th pixel is added.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, activation: str, pick: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            OrderedDict(
                norm1=nn.BatchNorm2d(in_channels, eps=_EPS),
                conv1=nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
                norm2=nn.BatchNorm2d(out_channels, eps=_EPS),
                activation=create_activation(activation, out_channels),
                conv2=nn.Conv2d(out_channels, out_channels, 3, stride=stride, padding=1, bias=False),
                norm3=nn.BatchNorm2d(out_channels, eps=_EPS),
            )
        )
        self.shortcut: nn.Module = nn.Identity()
        if pick and stride != 1 and in_channels == out_channels:
            self.shortcut = nn.MaxPool2d(1, stride)
        elif stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                    norm=nn.BatchNorm2d(out_channels, eps=_EPS),
                )
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[b, in, h, w] -> [b, out, h / stride, w / stride]."""
        output: torch.Tensor = self.layers(x) + self.shortcut(x)
        return output


@register_model(role="student")
def iresnet18(*, embedding_width: int = 512, activation: str = "prelu", dropout: float = 0.0) -> IResNet:
    """IResNet of 18 layers."""
    return IResNet(depths=(2, 2, 2, 2), embedding_width=embedding_width, activation=activation, dropout=dropout)


@register_model(role="student")
def iresnet34(*, embedding_width: int = 512, activation: str = "prelu", dropout: float = 0.0) -> IResNet:
    """IResNet of 34 layers."""
    return IResNet(depths=(3, 4, 6, 3), embedding_width=embedding_width, activation=activation, dropout=dropout)


@register_model(role="student")
def iresnet50(*, embedding_width: int = 512, activation: str = "prelu", dropout: float = 0.0) -> IResNet:
    """IResNet of 50 layers."""
    return IResNet(depths=(3, 4, 14, 3), embedding_width=embedding_width, activation=activation, dropout=dropout)


@register_model(role="student")
def iresnet100(*, embedding_width: int = 512, activation: str = "prelu", dropout: float = 0.0) -> IResNet:
    """IResNet of 100 layers."""
    return IResNet(depths=(3, 13, 30, 3), embedding_width=embedding_width, activation=activation, dropout=dropout)


@register_model(role="student")
def iresnet200(*, embedding_width: int = 512, activation: str = "prelu", dropout: float = 0.0) -> IResNet:
    """IResNet of 200 layers."""
    return IResNet(depths=(6, 26, 60, 6), embedding_width=embedding_width, activation=activation, dropout=dropout)


@register_model(role="teacher")
def adaface_ir(
    *,
    depths: Sequence[int] = (3, 4, 14, 3),
    widths: Sequence[int] = (64, 128, 256, 512),
    embedding_width: int = 512,
    unit: bool = True,
) -> IResNet:
    """AdaFace's IR network (CVPR 2022), 50 layers by default; CVLface's is the same without `unit`."""
    return IResNet(depths=depths, widths=widths, embedding_width=embedding_width, form="adaface", unit=unit)
