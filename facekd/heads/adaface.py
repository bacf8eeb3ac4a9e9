"""AdaFace: a margin that follows image quality, read from the embedding's norm."""

import torch

from facekd.common.errors import UsageError
from facekd.heads.combined_margin import check_margin
from facekd.heads.margin import MarginHead


class AdaFace(MarginHead):
    """The target's logit is s (cos(theta + g_angle) - g_add) (arXiv 2204.00964, equations 6 to 11).

    z is the norm standardised by running statistics, times h, clipped to -1..1; g_angle = -m z, g_add = m z + m.
    Low norms (poor images) get an angular margin like ArcFace's, high norms a negative angle with a large additive
    margin, which stresses hard samples. No gradient flows through the norms (section 3.2).

    Args:
        embedding_width: e.
        num_identities: n.
        margin: m.
        concentration: h.
        momentum: weight of the old statistics in their running mean, alpha in the paper.
        scale: s.

    Attributes:
        norm_mean, norm_std: the running statistics, saved with the state; updated in training mode only. They start
            at 20 and 100 as in the authors' code. Each rank of a distributed run keeps its own.
    """

    norm_mean: torch.Tensor
    norm_std: torch.Tensor

    def __init__(
        self,
        *,
        embedding_width: int,
        num_identities: int,
        margin: float = 0.4,
        concentration: float = 0.333,
        momentum: float = 0.99,
        scale: float = 64.0,
    ) -> None:
        super().__init__(embedding_width=embedding_width, num_identities=num_identities, scale=scale)
        check_margin("adaface", "margin", margin, torch.pi)
        if not concentration > 0 or not 0 <= momentum < 1:
            raise UsageError(f"adaface: concentration {concentration} must be above 0 and momentum {momentum} in 0..1")
        self.margin = margin
        self.concentration = concentration
        self.momentum = momentum
        self.register_buffer("norm_mean", torch.tensor(20.0))
        self.register_buffer("norm_std", torch.tensor(100.0))

    def target_cosine(self, theta: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        """theta [b], norms [b] -> cos(theta + g_angle) - g_add [b]; theta + g_angle is kept within 0..pi."""
        norms = norms.clamp(0.001, 100)  # the authors' bounds: one degenerate sample must not move the statistics
        if self.training:
            self._update(norms)
        quality = ((norms - self.norm_mean) / (self.norm_std + 1e-3) * self.concentration).clamp(-1, 1)
        angle = (theta - self.margin * quality).clamp(0, torch.pi)
        return torch.cos(angle) - (self.margin * quality + self.margin)

    @torch.no_grad()
    def _update(self, norms: torch.Tensor) -> None:
        """Moves the running statistics towards the batch's; a single sample has no deviation, so that one stays."""
        self.norm_mean.lerp_(norms.mean().to(self.norm_mean.dtype), 1 - self.momentum)
        if len(norms) > 1:
            self.norm_std.lerp_(norms.std().to(self.norm_std.dtype), 1 - self.momentum)
