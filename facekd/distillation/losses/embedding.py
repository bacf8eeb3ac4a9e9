"""Embedding distillation, the plain baseline: the student's embedding follows the teacher's."""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch.nn import functional

from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import check_widths


class EmbeddingSettings(LossSettings):
    """`cosine`: 1 - cos(student, teacher); the norms are free. Its weight stands against a margin softmax near 10."""

    weight: float = Field(default=10.0, gt=0)


@register_loss("embedding")
class EmbeddingLoss(DistillationLoss):
    """mean(1 - cos(e_S, e_T)), e_T detached: the angular form of FitNet on the last layer (facekd's choice).

    Raises:
        UsageError: the two embeddings differ in width, so no angle between them is defined.
    """

    Settings = EmbeddingSettings

    def __init__(self, settings: EmbeddingSettings, shapes: Shapes) -> None:
        super().__init__()
        check_widths("embedding", shapes.student_embedding, shapes.teacher_embedding)
        self.weights: Mapping[str, float] = {"cosine": settings.weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e] of both -> {"cosine": scalar in [0, 2]}."""
        target = batch.teacher_embedding.detach().float()
        cosine = functional.cosine_similarity(batch.student_embedding.float(), target, dim=1)
        return {"cosine": (1 - cosine).mean()}
