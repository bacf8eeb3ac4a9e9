"""CCKD ("Correlation Congruence for Knowledge Distillation", Peng et al., ICCV 2019): a kernel matrix of the batch."""

import math
from collections.abc import Mapping

import torch
from pydantic import Field

from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import full_precision, units


class CckdSettings(LossSettings):
    """Settings of CCKD.

    Attributes:
        weight: of the mean squared difference of kernel values, which are small; facekd's choice.
        gamma: of the Gaussian kernel exp(-gamma |x - y|^2); the paper uses 0.4.
        order: P, of its Taylor expansion; the paper uses 2.
    """

    weight: float = Field(default=100.0, gt=0)
    gamma: float = Field(default=0.4, gt=0)
    order: int = Field(default=2, ge=1, le=64)


@register_loss("cckd")
class CckdLoss(DistillationLoss):
    """1 / b^2 sum over i, j of (k(s_i, s_j) - k(t_i, t_j))^2 (arXiv 1904.01802).

    k is the Gaussian kernel of unit embeddings, expanded to order P: k(x, y) is about
    exp(-2 gamma) sum over p = 0..P of (2 gamma)^p / p! (x . y)^p. The two widths may differ. The paper's other part, KD
    between the networks' predictions, is the term `kd`; its sampler that puts several images of an identity into a
    batch is not used here.
    """

    Settings = CckdSettings

    def __init__(self, settings: CckdSettings, shapes: Shapes) -> None:
        super().__init__()
        self.settings = settings
        self.weights: Mapping[str, float] = {"correlation": settings.weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e] and [b, e_T] -> {"correlation": scalar}."""
        student, teacher = units(batch)
        with full_precision(student):
            difference = self._kernel(student) - self._kernel(teacher)
        return {"correlation": difference.square().mean()}

    def _kernel(self, x: torch.Tensor) -> torch.Tensor:
        cosines = x @ x.T
        gamma = self.settings.gamma
        terms = [(2 * gamma) ** p / math.factorial(p) * cosines**p for p in range(self.settings.order + 1)]
        return math.exp(-2 * gamma) * torch.stack(terms).sum(dim=0)
