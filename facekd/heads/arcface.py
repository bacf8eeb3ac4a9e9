"""ArcFace: an additive angular margin."""

import torch

from facekd.heads.combined_margin import check_margin
from facekd.heads.margin import MarginHead, monotone_cosine


class ArcFace(MarginHead):
    """The target's logit is s cos(theta + m) (arXiv 1801.07698, equation 3).

    Beyond theta = pi - m the logit goes on falling instead of turning round: see `monotone_cosine`.

    Args:
        embedding_width: e.
        num_identities: n.
        margin: m in radians.
        scale: s.
    """

    def __init__(self, *, embedding_width: int, num_identities: int, margin: float = 0.5, scale: float = 64.0) -> None:
        super().__init__(embedding_width=embedding_width, num_identities=num_identities, scale=scale)
        check_margin("arcface", "margin", margin, torch.pi)
        self.margin = margin

    def target_cosine(self, theta: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        """theta [b] -> cos(theta + m) [b]."""
        return monotone_cosine(theta + self.margin)
