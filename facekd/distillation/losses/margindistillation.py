"""MarginDistillation (Svitov and Alyamkin, 2020): the teacher's class centres, and a margin it sets for each image."""

from collections.abc import Mapping

import torch
from pydantic import Field, model_validator
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import check_widths, units
from facekd.heads.margin import angles, monotone_cosine


class MarginDistillationSettings(LossSettings):
    """Settings of MarginDistillation.

    Attributes:
        weight: of the cross entropy; it takes the place of the recipe's head, so set `head.weight: 0` beside it.
        min_margin, max_margin: between which the teacher moves the margin, in radians.
        scale: s.
    """

    weight: float = Field(default=1.0, gt=0)
    min_margin: float = Field(default=0.2, ge=0)
    max_margin: float = Field(default=0.5, gt=0, lt=3.1)
    scale: float = Field(default=64.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> "MarginDistillationSettings":
        if self.max_margin < self.min_margin:
            raise ValueError(f"max_margin {self.max_margin} is below min_margin {self.min_margin}")
        return self


@register_loss("margindistillation")
class MarginDistillationLoss(DistillationLoss):
    """ArcFace over the teacher's frozen class centres W with a margin m_i an image (arXiv 2003.02586).

    m_i = (m_max - m_min) / d_max x d_i + m_min, d_i = cos(t_i, W_y), d_max the largest d of the batch: an image
    that the teacher places near its centre must come nearer itself. The target's logit is s cos(theta_i + m_i). That d
    is the cosine and d_max the batch's follows the authors' code; negative cosines count as 0 (facekd's choice,
    or the margin would fall below m_min).

    Raises:
        UsageError: the two embeddings differ in width.
    """

    Settings = MarginDistillationSettings
    needs_teacher_classifier = True

    def __init__(self, settings: MarginDistillationSettings, shapes: Shapes) -> None:
        super().__init__()
        check_widths("margindistillation", shapes.student_embedding, shapes.teacher_embedding)
        self.settings = settings
        self.weights: Mapping[str, float] = {"identity": settings.weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e] of both, labels and the teacher's centres -> {"identity": scalar}."""
        classifier = batch.teacher_classifier
        if classifier is None:
            raise UsageError("margindistillation reads the teacher's classes: give a teacher bundle with its head")
        student, teacher = units(batch)
        own = functional.normalize(classifier.centres.detach().float())[batch.labels]
        theta = angles(student, own)
        target = monotone_cosine(theta + self._margins((teacher * own).sum(dim=1)))
        # The target class alone is changed, as MarginHead does.
        rows = torch.arange(len(student), device=student.device)
        change = self.settings.scale * (target - torch.cos(theta))
        logits = self.settings.scale * classifier.cosines(batch.student_embedding)
        return {
            "identity": functional.cross_entropy(
                logits.index_put((rows, batch.labels), change, accumulate=True), batch.labels
            )
        }

    def _margins(self, closeness: torch.Tensor) -> torch.Tensor:
        """cos(t_i, W_y) [b] -> m_i [b]."""
        closeness = closeness.clamp_min(0)
        low, high = self.settings.min_margin, self.settings.max_margin
        return (high - low) * closeness / closeness.max().clamp_min(1e-12) + low
