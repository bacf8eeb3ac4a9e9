"""EdgeFace (arXiv 2307.01838): timm's EdgeNeXt with every linear layer split into two of low rank."""

from typing import Any

import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.models.architectures.layers import StudentNetwork
from facekd.models.registry import register_model

SIZES = ("edgenext_xx_small", "edgenext_x_small", "edgenext_small", "edgenext_base")


class EdgeFace(StudentNetwork):
    """An EdgeNeXt up to its last map, then its own head: mean over the map, norm, linear.

    Args:
        model: timm's name of the EdgeNeXt.
        embedding_width: e.
        rank_ratio: of each linear layer's smaller side; None leaves the layers whole.

    Raises:
        UsageError: an argument is not valid.
    """

    def __init__(self, *, model: str, embedding_width: int, rank_ratio: float | None) -> None:
        import timm

        super().__init__()
        if model not in SIZES:
            raise UsageError(f"edgeface: unknown model {model!r}; valid: {', '.join(SIZES)}")
        if embedding_width < 1 or (rank_ratio is not None and not 0 < rank_ratio <= 1):
            raise UsageError(
                f"edgeface: embedding_width {embedding_width} must be 1 or more, rank_ratio {rank_ratio} above 0 and "
                "at most 1"
            )
        body: Any = timm.create_model(model, pretrained=False, num_classes=embedding_width)
        if rank_ratio is not None:
            _split_linears(body, rank_ratio)
        self.body: Any = body
        self.embedding_width = embedding_width
        self.feature_channels = int(body.num_features)
        self.feature_grid = (3, 3)  # 112 -> 28 -> 14 -> 7 -> 3: the last step drops a row and a column

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, 112, 112] -> the last map [b, c, 3, 3]."""
        output: torch.Tensor = self.body.forward_features(x)
        return output

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """[b, c, 3, 3] -> raw embeddings [b, e]."""
        output: torch.Tensor = self.body.forward_head(features)
        return output


class LowRankLinear(nn.Module):
    """A linear layer as two: to `rank` without bias, then to the output.

    Args:
        whole: the layer that it stands for; its weights are not used.
        rank: of its product.
    """

    def __init__(self, whole: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(whole.in_features, rank, bias=False)
        self.linear2 = nn.Linear(rank, whole.out_features, bias=whole.bias is not None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        output: torch.Tensor = self.linear2(self.linear1(x))
        return output


def rank_of(in_features: int, out_features: int, ratio: float) -> int:
    """The rank of a split layer: the share of its smaller side, at least 2."""
    return max(2, int(min(in_features, out_features) * ratio))


def _split_linears(module: nn.Module, ratio: float) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, LowRankLinear(child, rank_of(child.in_features, child.out_features, ratio)))
        else:
            _split_linears(child, ratio)


@register_model(role="teacher")
def edgeface(
    *, model: str = "edgenext_x_small", embedding_width: int = 512, rank_ratio: float | None = 0.6
) -> EdgeFace:
    """EdgeFace; the default is EdgeFace-XS (gamma 0.6): 1.77M parameters."""
    return EdgeFace(model=model, embedding_width=embedding_width, rank_ratio=rank_ratio)
