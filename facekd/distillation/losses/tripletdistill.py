"""Triplet distillation (Feng et al., ICIP 2020): a triplet loss whose margins follow the teacher's distances."""

from collections.abc import Mapping

import torch
from pydantic import Field, model_validator

from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import full_precision, same_identity, units


class TripletDistillSettings(LossSettings):
    """Settings of triplet distillation.

    Attributes:
        weight: of the loss; facekd's choice.
        min_margin, max_margin: between which the teacher moves the margin, in squared distance of unit embeddings.
    """

    weight: float = Field(default=1.0, gt=0)
    min_margin: float = Field(default=0.2, ge=0)
    max_margin: float = Field(default=0.5, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> "TripletDistillSettings":
        if self.max_margin < self.min_margin:
            raise ValueError(f"max_margin {self.max_margin} is below min_margin {self.min_margin}")
        return self


@register_loss("tripletdistill")
class TripletDistillLoss(DistillationLoss):
    """mean over triplets of max(D_S(a, p) - D_S(a, n) + F(d), 0) (arXiv 1905.04457).

    d = max(D_T(a, n) - D_T(a, p), 0) is the teacher's own gap, F(d) = (m_max - m_min) / d_max x d + m_min the margin it
    sets: identities that the teacher holds far apart get a wide one. D is the squared distance of unit embeddings,
    d_max the largest d of the batch (facekd's reading; the paper names neither). All triplets of the batch count, not
    mined ones; all b^3 are computed and those that are no triplets masked, so that the host waits for no count of the
    device. Batches drawn at random from thousands of identities hold next to no positive pairs: a recipe needs
    data.images_per_identity.
    """

    Settings = TripletDistillSettings
    needs_pairs = True

    def __init__(self, settings: TripletDistillSettings, shapes: Shapes) -> None:
        super().__init__()
        self.settings = settings
        self._triplets = torch.zeros(())
        self.weights: Mapping[str, float] = {"triplet": settings.weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e], [b, e_T] and labels -> {"triplet": scalar}; 0 without a positive pair or a negative."""
        student, teacher = units(batch)
        same = same_identity(batch.labels)
        negative = batch.labels[:, None] != batch.labels[None, :]
        triplets = same[:, :, None] & negative[:, None, :]  # by anchor, positive, negative
        self._triplets = triplets.sum()
        with full_precision(student):
            of_student, of_teacher = 2 - 2 * student @ student.T, 2 - 2 * teacher @ teacher.T
        gap = (of_teacher[:, None, :] - of_teacher[:, :, None]).clamp_min(0).masked_fill(~triplets, 0)
        low, high = self.settings.min_margin, self.settings.max_margin
        margin = (high - low) * gap / gap.max().clamp_min(1e-12) + low
        hinge = (of_student[:, :, None] - of_student[:, None, :] + margin).clamp_min(0).masked_fill(~triplets, 0)
        return {"triplet": hinge.sum() / self._triplets.clamp_min(1)}

    def diagnostics(self) -> dict[str, torch.Tensor]:
        """How many triplets the last batch held."""
        return {"tripletdistill.triplets": self._triplets}
