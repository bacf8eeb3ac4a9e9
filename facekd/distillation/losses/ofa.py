"""OFA-KD ("One-for-All: Bridge the Gap Between Heterogeneous Architectures in KD", Hao et al., NeurIPS 2023)."""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import full_precision, student_logits, teacher_logits


class OfaSettings(LossSettings):
    """Settings of OFA-KD.

    Attributes:
        exit_weight: of the loss at the exit branch on the tapped map.
        logits_weight: of the same loss on the student's own logits; 0 leaves it out.
        gamma: exponent of the target's modulation; 1 adds nothing to KD but the target's own term.
        temperature: divides all logits.
        width: hidden width of the exit branch.
    """

    exit_weight: float = Field(default=1.0, gt=0)
    logits_weight: float = Field(default=1.0, ge=0)
    gamma: float = Field(default=1.0, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    width: int = Field(default=512, ge=1, le=16_384)


@register_loss("ofa")
class OfaLoss(DistillationLoss):
    """Features of unlike architectures compared where they mean the same: as predictions over the classes.

    An exit branch turns the student's tapped map into class logits (1x1 convolution, GELU, mean over places, linear).
    On them and on the student's own logits: the adaptive target loss
    -(1 + p_T[y])^gamma log p_S[y] - sum over c != y of p_T[c] log p_S[c] (arXiv 2310.19444), p_T the
    teacher's prediction through its frozen classifier. The authors' code takes 1 from the target's factor, which there
    is the cross entropy of its own, and raises the other p_T to gamma as well; the paper's equation is used.
    facekd's choices: one exit, at the last map, the only one tapped; the branch's form.

    Raises:
        UsageError: the student's map has no channels, or there are no identities to classify.
    """

    Settings = OfaSettings
    needs_tokens = True
    needs_teacher_classifier = True

    def __init__(self, settings: OfaSettings, shapes: Shapes) -> None:
        super().__init__()
        if shapes.student_channels < 1 or shapes.identities < 2:
            raise UsageError(
                f"ofa classifies the student's map: it has {shapes.student_channels} channels and there are "
                f"{shapes.identities} identities"
            )
        self.settings = settings
        self.needs_student_classifier = settings.logits_weight > 0
        self.enter = nn.Linear(shapes.student_channels, settings.width)
        self.classify = nn.Linear(settings.width, shapes.identities)
        self.weights: Mapping[str, float] = {"exit": settings.exit_weight, "logits": settings.logits_weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Student tokens [b, N_S, c], embeddings, both classifiers, labels -> {"exit", "logits"}."""
        if batch.student_tokens is None:
            raise UsageError("ofa needs the student's token map")
        target = teacher_logits("ofa", batch)
        with full_precision(target):
            hidden = functional.gelu(self.enter(batch.student_tokens.float())).mean(dim=1)
            parts = {"exit": self._loss(self.classify(hidden), target, batch.labels)}
        if self.settings.logits_weight:
            parts["logits"] = self._loss(student_logits("ofa", batch), target, batch.labels)
        return parts

    def _loss(self, logits: torch.Tensor, target: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits of student and teacher [b, n], labels [b] -> mean adaptive target loss."""
        temperature, gamma = self.settings.temperature, self.settings.gamma
        log_student = functional.log_softmax(logits / temperature, dim=1)
        wanted = functional.softmax(target / temperature, dim=1)
        own = wanted.gather(1, labels[:, None])
        wanted = wanted.scatter(1, labels[:, None], (1 + own) ** gamma)
        return -(wanted * log_student).sum(dim=1).mean()
