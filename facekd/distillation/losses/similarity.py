"""Similarity-preserving distillation (SP, Tung and Mori, ICCV 2019) on embeddings: the batch's cosines are kept."""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch.nn import functional

from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss


class SimilaritySettings(LossSettings):
    """Weight of the mean squared difference; differences of cosines are small, so it is large."""

    weight: float = Field(default=50.0, gt=0)


@register_loss("similarity")
class SimilarityLoss(DistillationLoss):
    """mean over pairs i != j of (cos(s_i, s_j) - cos(t_i, t_j))^2, the teacher's detached.

    SP compares row-normalised Gram matrices of feature maps; on embeddings, whose cosine is what verification
    thresholds, the cosines themselves are compared (facekd's choice). The two widths may differ.
    """

    Settings = SimilaritySettings

    def __init__(self, settings: SimilaritySettings, shapes: Shapes) -> None:
        super().__init__()
        self.weights: Mapping[str, float] = {"gram": settings.weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e] and [b, e_T] -> {"gram": scalar}; 0 for a batch of one."""
        student, teacher = (_cosines(e) for e in (batch.student_embedding, batch.teacher_embedding.detach()))
        # The diagonals are 1 on both sides and add nothing to the sum.
        pairs = len(student) * (len(student) - 1)
        return {"gram": (student - teacher).square().sum() / max(pairs, 1)}


def _cosines(embeddings: torch.Tensor) -> torch.Tensor:
    units = functional.normalize(embeddings.float())
    return units @ units.T
