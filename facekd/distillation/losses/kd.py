"""KD ("Distilling the Knowledge in a Neural Network", Hinton, Vinyals and Dean, 2015) over the training identities."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch.nn import functional

from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import check_widths, class_logits, student_logits, teacher_logits


class KdSettings(LossSettings):
    """Settings of KD.

    Attributes:
        weight: of the divergence, already multiplied by T^2.
        temperature: T; logits are divided by it. They are scale x cosine, so it works on the heads' scales.
        classifier: through which the student's logits are read: its `own` margin softmax (its logits without the
            margin), or the `teacher`'s frozen one, which needs no head of the student's and equal widths.
    """

    weight: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=4.0, gt=0)
    classifier: Literal["own", "teacher"] = "own"


@register_loss("kd")
class KdLoss(DistillationLoss):
    """T^2 KL(softmax(z_T / T) || softmax(z_S / T)), the mean over the batch (arXiv 1503.02531, section 2).

    z_T are the teacher's logits through its own frozen classifier, z_S the student's; both scale x cosine without the
    margin (facekd's choice: the margin of the target class is a device of the training loss, not a belief). The cross
    entropy with the true labels is the recipe's `head`.
    """

    Settings = KdSettings
    needs_teacher_classifier = True

    def __init__(self, settings: KdSettings, shapes: Shapes) -> None:
        super().__init__()
        self.settings = settings
        self.needs_student_classifier = settings.classifier == "own"
        if settings.classifier == "teacher":
            check_widths("kd", shapes.student_embedding, shapes.teacher_embedding)
        self.weights: Mapping[str, float] = {"divergence": settings.weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e] and both classifiers -> {"divergence": scalar}."""
        target = teacher_logits("kd", batch)
        if self.settings.classifier == "own":
            logits = student_logits("kd", batch)
        else:
            assert batch.teacher_classifier is not None  # teacher_logits has checked it
            logits = class_logits(batch.teacher_classifier, batch.student_embedding)
        return {"divergence": softened_divergence(logits, target, temperature=self.settings.temperature)}


def softened_divergence(logits: torch.Tensor, target: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """T^2 KL(softmax(target / T) || softmax(logits / T)), both [b, n], the mean over the batch.

    T^2 keeps the gradient's size while T changes (Hinton et al., section 2).
    """
    log_student = functional.log_softmax(logits / temperature, dim=1)
    log_teacher = functional.log_softmax(target / temperature, dim=1)
    divergence = functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return temperature**2 * divergence
