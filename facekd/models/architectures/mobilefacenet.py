"""MobileFaceNet (arXiv 1804.07573) in the structure InsightFace trains ("mbf"), at any width, depth and activation."""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.models.architectures.layers import StudentNetwork, conv_norm, global_depthwise_head, initialise_convolutions
from facekd.models.registry import register_model


class MobileFaceNet(StudentNetwork):
    """A 112x112 face CNN of inverted bottlenecks that ends in a global depthwise convolution.

    All convolutions are bias-free with batch norm; each block ends in a linear projection. At `scale` S the block
    widths are 64 S, 128 S, 128 S; the widths inside the blocks (128, 256, 512 and 256) do not follow S but
    `mid_multiplier`.

    Args:
        scale: S. 1 is the paper's width, 2 InsightFace's "0.45G", 4 its mbf_large. Fractions make smaller students.
        blocks: blocks at 56x56, 28x28, 14x14 and 7x7. A single first block is one grouped 3x3 convolution instead.
        embedding_width: e.
        activation: prelu, relu, relu6 or hardswish.
        mid_multiplier: multiplies the widths inside the blocks (rounded to multiples of 8).
        feature_channels: width of the last map, which distillation taps.

    Raises:
        UsageError: an argument out of range.
    """

    feature_grid = (7, 7)

    def __init__(
        self,
        *,
        scale: float = 1,
        blocks: Sequence[int] = (1, 4, 6, 2),
        embedding_width: int = 512,
        activation: str = "prelu",
        mid_multiplier: float = 1.0,
        feature_channels: int = 512,
    ) -> None:
        super().__init__()
        if len(blocks) != 4 or any(count < 1 for count in blocks):
            raise UsageError(f"mobilefacenet: blocks must be four numbers of 1 or more, not {tuple(blocks)}")
        if scale <= 0 or mid_multiplier <= 0:
            raise UsageError(f"mobilefacenet: scale {scale} and mid_multiplier {mid_multiplier} must be above 0")
        if embedding_width < 1 or feature_channels < 1:
            raise UsageError(
                f"mobilefacenet: embedding_width {embedding_width} and feature_channels {feature_channels} "
                "must be 1 or more"
            )
        self.embedding_width = embedding_width
        self.feature_channels = feature_channels
        narrow, wide = _round8(64 * scale), _round8(128 * scale)
        mids = {width: _round8(width * mid_multiplier) for width in (128, 256, 512)}

        self.stem = conv_norm(3, narrow, kernel=3, stride=2, padding=1, activation=activation)
        if blocks[0] == 1:
            # 64 groups at every width, so depthwise only at S = 1; gcd keeps fractional widths divisible.
            self.stage1: nn.Module = conv_norm(
                narrow, narrow, kernel=3, padding=1, groups=math.gcd(64, narrow), activation=activation
            )
        else:
            self.stage1 = _residual_blocks(narrow, mids[128], blocks[0], activation)
        self.stage2 = _stage(narrow, narrow, mids[128], mids[128], blocks[1], activation)
        self.stage3 = _stage(narrow, wide, mids[256], mids[256], blocks[2], activation)
        self.stage4 = _stage(wide, wide, mids[512], mids[256], blocks[3], activation)
        self.expand = conv_norm(wide, feature_channels, activation=activation)
        self.head = global_depthwise_head(feature_channels, self.feature_grid, embedding_width)
        initialise_convolutions(self)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, 112, 112] -> the map before the global depthwise convolution [b, 512, 7, 7]."""
        x = self.stage1(self.stem(x))
        x = self.stage4(self.stage3(self.stage2(x)))
        output: torch.Tensor = self.expand(x)
        return output


class InvertedBottleneck(nn.Module):
    """1x1 to `mid`, depthwise 3x3, linear 1x1 to `out_channels`; the input is added where nothing changes shape."""

    def __init__(
        self, in_channels: int, out_channels: int, *, mid: int, stride: int, residual: bool, activation: str
    ) -> None:
        super().__init__()
        self.residual = residual
        self.layers = nn.Sequential(
            OrderedDict(
                expand=conv_norm(in_channels, mid, activation=activation),
                depthwise=conv_norm(mid, mid, kernel=3, stride=stride, padding=1, groups=mid, activation=activation),
                project=conv_norm(mid, out_channels),
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[b, in, h, w] -> [b, out, h / stride, w / stride]."""
        output: torch.Tensor = x + self.layers(x) if self.residual else self.layers(x)
        return output


def _residual_blocks(width: int, mid: int, count: int, activation: str) -> nn.Sequential:
    return nn.Sequential(
        *(
            InvertedBottleneck(width, width, mid=mid, stride=1, residual=True, activation=activation)
            for _ in range(count)
        )
    )


def _stage(in_channels: int, out_channels: int, down_mid: int, mid: int, count: int, activation: str) -> nn.Sequential:
    """A block that halves the grid, without a shortcut, then `count` residual blocks."""
    down = InvertedBottleneck(in_channels, out_channels, mid=down_mid, stride=2, residual=False, activation=activation)
    return nn.Sequential(OrderedDict(down=down, blocks=_residual_blocks(out_channels, mid, count, activation)))


def _round8(width: float) -> int:
    """The nearest multiple of 8, at least 8: what vector units and int8 kernels want."""
    return max(8, int(width / 8 + 0.5) * 8)


@register_model(role="student")
def mobilefacenet(
    *,
    scale: float = 1,
    blocks: Sequence[int] = (1, 4, 6, 2),
    embedding_width: int = 512,
    activation: str = "prelu",
    mid_multiplier: float = 1.0,
    feature_channels: int = 512,
) -> MobileFaceNet:
    """MobileFaceNet, 1.20M parameters and 221 MMACs as it stands (EKD, AdaDistill); every width is an argument."""
    return MobileFaceNet(
        scale=scale,
        blocks=blocks,
        embedding_width=embedding_width,
        activation=activation,
        mid_multiplier=mid_multiplier,
        feature_channels=feature_channels,
    )


@register_model(role="student")
def mobilefacenet_128(*, embedding_width: int = 128, activation: str = "prelu") -> MobileFaceNet:
    """The MobileFaceNet paper's form: 128-d embedding, 1.00M parameters."""
    return MobileFaceNet(embedding_width=embedding_width, activation=activation)


@register_model(role="student")
def mobilefacenet_s2(*, embedding_width: int = 512, activation: str = "prelu") -> MobileFaceNet:
    """MobileFaceNet at twice the width: InsightFace's "0.45G", GKD's student."""
    return MobileFaceNet(scale=2, embedding_width=embedding_width, activation=activation)


@register_model(role="student")
def mobilefacenet_s2_deep(*, embedding_width: int = 512, activation: str = "prelu") -> MobileFaceNet:
    """MobileFaceNet at twice the width and depth (2, 8, 12, 4)."""
    return MobileFaceNet(scale=2, blocks=(2, 8, 12, 4), embedding_width=embedding_width, activation=activation)


@register_model(role="student")
def mobilefacenet_large(*, embedding_width: int = 512, activation: str = "prelu") -> MobileFaceNet:
    """InsightFace's mbf_large: four times the width, depth (2, 8, 12, 4)."""
    return MobileFaceNet(scale=4, blocks=(2, 8, 12, 4), embedding_width=embedding_width, activation=activation)
