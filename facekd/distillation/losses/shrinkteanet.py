"""ShrinkTeaNet (Duong, Luu, Quach and Le, 2019): the angular distillation loss on the embedding's direction."""

from collections.abc import Mapping

import torch
from pydantic import Field

from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import check_widths, units


class ShrinkTeaNetSettings(LossSettings):
    """Weight of the angular loss, which lies in 0..4; facekd's choice."""

    weight: float = Field(default=10.0, gt=0)


@register_loss("shrinkteanet")
class ShrinkTeaNetLoss(DistillationLoss):
    """mean over the batch of (1 - cos(e_S, e_T))^2 (arXiv 1905.10620, the angular distillation loss).

    Unlike the term `embedding` the difference is squared: samples far from the teacher's direction count more, near
    ones hardly. The paper adds the same loss at intermediate stages through learned 1x1 convolutions; here only the
    last stage, the embedding, is compared: the student's earlier maps have no counterpart in a Transformer's.
    The square is facekd's reading of the paper's norm; one public re-implementation leaves it out.

    Raises:
        UsageError: the two embeddings differ in width.
    """

    Settings = ShrinkTeaNetSettings

    def __init__(self, settings: ShrinkTeaNetSettings, shapes: Shapes) -> None:
        super().__init__()
        check_widths("shrinkteanet", shapes.student_embedding, shapes.teacher_embedding)
        self.weights: Mapping[str, float] = {"angular": settings.weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e] of both -> {"angular": scalar in [0, 4]}."""
        student, teacher = units(batch)
        return {"angular": (1 - (student * teacher).sum(dim=1)).square().mean()}
