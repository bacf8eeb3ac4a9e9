"""The combined margin: SphereFace's, ArcFace's and CosFace's in one formula."""

import torch

from facekd.common.errors import UsageError
from facekd.heads.margin import MarginHead, monotone_cosine


class CombinedMargin(MarginHead):
    """The target's logit is s (cos(m1 theta + m2) - m3) (arXiv 1801.07698, equation 4).

    m1 theta + m2 beyond pi goes on falling instead of turning round: see `monotone_cosine`.

    Args:
        embedding_width: e.
        num_identities: n.
        m1: factor on the angle, 1 or more.
        m2: added to the angle, in radians.
        m3: taken from the cosine.
        scale: s.
    """

    def __init__(
        self,
        *,
        embedding_width: int,
        num_identities: int,
        m1: float = 1.0,
        m2: float = 0.3,
        m3: float = 0.2,
        scale: float = 64.0,
    ) -> None:
        super().__init__(embedding_width=embedding_width, num_identities=num_identities, scale=scale)
        if m1 < 1:
            raise UsageError(f"combined: m1 {m1} must be 1 or more: below 1 it is no margin")
        check_margin("combined", "m2", m2, torch.pi)
        check_margin("combined", "m3", m3, 2.0)
        self.m1, self.m2, self.m3 = m1, m2, m3

    def target_cosine(self, theta: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        """theta [b] -> cos(m1 theta + m2) - m3 [b]."""
        return monotone_cosine(self.m1 * theta + self.m2) - self.m3


def check_margin(head: str, name: str, value: float, limit: float) -> None:
    """Raises UsageError unless 0 <= value < limit; an ArcFace margin given in degrees is the usual slip."""
    if not 0 <= value < limit:
        raise UsageError(
            f"{head}: {name} {value} must be 0 or more and below {limit:.4g} (angles in radians, not degrees)"
        )
