"""What makes an embedding of a Transformer's last tokens."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

_EPS = 2e-5  # of arcface_torch's batch norms


def _flatten(tokens: int, width: int, embedding_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(1), nn.Linear(tokens * width, embedding_width, bias=False), nn.BatchNorm1d(embedding_width)
    )


def _arcface_vit(tokens: int, width: int, embedding_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(1),
        nn.Linear(tokens * width, width, bias=False),
        nn.BatchNorm1d(width, eps=_EPS),
        nn.Linear(width, embedding_width, bias=False),
        nn.BatchNorm1d(embedding_width, eps=_EPS),
    )


def _transface(tokens: int, width: int, embedding_width: int) -> nn.Sequential:
    return nn.Sequential(TokenGate(tokens, width), *_arcface_vit(tokens, width, embedding_width))


class TokenGate(nn.Module):
    """TransFace's gate: each token times a weight between 0 and 1 that all tokens together decide (ICCV 2023).

    Args:
        tokens: N.
        width: d.
    """

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            OrderedDict(
                squeeze=nn.Linear(tokens * width, tokens, bias=False),
                activation=nn.ReLU(),
                excite=nn.Linear(tokens, tokens, bias=False),
                gate=nn.Sigmoid(),
            )
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[b, N, d] -> [b, N, d]."""
        gates: torch.Tensor = self.layers(tokens.flatten(1))
        return tokens * gates.unsqueeze(2)


NECKS: dict[str, Callable[[int, int, int], nn.Sequential]] = {
    "flatten": _flatten,
    "arcface_vit": _arcface_vit,
    "transface": _transface,
}
"""Name -> function(tokens N, token width d, embedding width e) that builds a module from [b, N, d] to [b, e]."""
