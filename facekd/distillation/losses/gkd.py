"""GKD ("Grouped Knowledge Distillation for Deep Face Recognition", Zhao et al., AAAI 2023): KD without the tail."""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch.nn import functional

from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import student_logits, teacher_logits


class GkdSettings(LossSettings):
    """Settings of GKD.

    Attributes:
        primary_weight, binary_weight: of the two parts, already multiplied by T^2; 4 and 1 in the authors' code.
        temperature: T.
        rate: the primary group is the smallest set of classes that holds this share of the teacher's probability.
    """

    primary_weight: float = Field(default=4.0, ge=0)
    binary_weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=4.0, gt=0)
    rate: float = Field(default=0.93, gt=0, lt=1)


@register_loss("gkd")
class GkdLoss(DistillationLoss):
    """Primary-KD and Binary-KD of the grouped logits; Secondary-KD is left out (arXiv 2304.04462).

    For each image the classes are split by the cumulative probability of the teacher's softened prediction: the most
    probable ones up to `rate`, and always the true one, are the primary group.
    primary: T^2 KL between both networks' predictions renormalised within the group;
    binary: T^2 KL between the two-way predictions (inside, outside).
    facekd's reading: the paper's text gives the split by the softened prediction, which is done here for each image by
    the teacher; the authors' code takes one group size for a batch, and in its last version ranks by the student. Their
    warm-up of the term's weight over ten epochs is left out: terms do not know the epoch.
    """

    Settings = GkdSettings
    needs_teacher_classifier = True
    needs_student_classifier = True

    def __init__(self, settings: GkdSettings, shapes: Shapes) -> None:
        super().__init__()
        self.settings = settings
        self._primary = torch.zeros(())
        self.weights: Mapping[str, float] = {
            "primary": settings.primary_weight,
            "binary": settings.binary_weight,
        }

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e], both classifiers and labels -> {"primary", "binary"}."""
        temperature = self.settings.temperature
        teacher = teacher_logits("gkd", batch) / temperature
        student = student_logits("gkd", batch) / temperature
        primary = primary_group(teacher, batch.labels, rate=self.settings.rate)
        self._primary = primary.sum(dim=1).float().mean()
        outside = ~primary
        inside_s, inside_t = (
            functional.log_softmax(logits.masked_fill(outside, -torch.inf), dim=1) for logits in (student, teacher)
        )
        # Outside the group both are log 0, and 0 log 0 counts as 0.
        difference = (inside_t - inside_s).masked_fill(outside, 0.0)
        divergence = (inside_t.exp() * difference).sum(dim=1).mean()
        two_s, two_t = (_two_way(logits, primary) for logits in (student, teacher))
        binary = (two_t * (two_t.log() - two_s.log())).sum(dim=1).mean()
        return {"primary": temperature**2 * divergence, "binary": temperature**2 * binary}

    def diagnostics(self) -> dict[str, torch.Tensor]:
        """Mean size of the primary group in the last batch."""
        return {"gkd.primary_classes": self._primary}


def primary_group(logits: torch.Tensor, labels: torch.Tensor, *, rate: float) -> torch.Tensor:
    """Softened logits [b, n] and labels [b] -> bool [b, n]: the most probable up to `rate`, and the true one."""
    ranked, order = logits.softmax(dim=1).sort(dim=1, descending=True)
    # A class belongs to it as long as those before it do not reach the rate.
    inside = ranked.cumsum(dim=1) - ranked < rate
    group = torch.zeros_like(inside).scatter(1, order, inside)
    return group.scatter(1, labels[:, None], True)


def _two_way(logits: torch.Tensor, primary: torch.Tensor) -> torch.Tensor:
    """Probabilities [b, 2] of the group and of the rest; the floor keeps the logarithm of an empty rest finite."""
    probabilities = logits.softmax(dim=1)
    inside = (probabilities * primary).sum(dim=1)
    outside = (probabilities * ~primary).sum(dim=1)
    return torch.stack([inside, outside], dim=1).clamp_min(1e-12)
