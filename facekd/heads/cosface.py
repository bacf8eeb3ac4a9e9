"""CosFace: an additive cosine margin."""

import torch

from facekd.heads.combined_margin import check_margin
from facekd.heads.margin import MarginHead


class CosFace(MarginHead):
    """The target's logit is s (cos(theta) - m) (arXiv 1801.09414, equation 4).

    Args:
        embedding_width: e.
        num_identities: n.
        margin: m, in units of cosine.
        scale: s.
    """

    def __init__(self, *, embedding_width: int, num_identities: int, margin: float = 0.4, scale: float = 64.0) -> None:
        super().__init__(embedding_width=embedding_width, num_identities=num_identities, scale=scale)
        check_margin("cosface", "margin", margin, 2.0)
        self.margin = margin

    def target_cosine(self, theta: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        """theta [b] -> cos(theta) - m [b]."""
        return torch.cos(theta) - self.margin
