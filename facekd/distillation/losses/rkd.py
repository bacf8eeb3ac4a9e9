"""RKD ("Relational Knowledge Distillation", Park et al., CVPR 2019): distances of pairs, angles of triplets."""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch.nn import functional

from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import full_precision, nothing, units


class RkdSettings(LossSettings):
    """Weights of RKD-D and RKD-A; the paper's ratio is 1 to 2."""

    distance_weight: float = Field(default=25.0, ge=0)
    angle_weight: float = Field(default=50.0, ge=0)


@register_loss("rkd")
class RkdLoss(DistillationLoss):
    """Huber loss between the structures that a batch has in the two embedding spaces (arXiv 1904.05068).

    distance: psi_D(i, j) = |x_i - x_j| / mu over pairs i != j, mu the batch's mean distance (section 3.2.1);
    angle: psi_A(i, j, k) = the cosine of the angle at x_j over distinct i, j, k (section 3.2.2). The Huber loss has
    delta 1. Embeddings are normalised first (facekd's choice: verification reads directions alone), losses are means
    over the tuples where the paper sums. The two widths may differ. A batch of b needs b^2 e numbers.
    """

    Settings = RkdSettings

    def __init__(self, settings: RkdSettings, shapes: Shapes) -> None:
        super().__init__()
        self.weights: Mapping[str, float] = {
            "distance": settings.distance_weight,
            "angle": settings.angle_weight,
        }

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e] and [b, e_T] -> {"distance", "angle"}; zeros for batches of fewer than 2 and 3."""
        student, teacher = units(batch)
        count = len(student)
        with full_precision(student):
            distance = angle = nothing(batch)
            if count >= 2:
                distance = functional.huber_loss(_distances(student), _distances(teacher))
            if count >= 3:
                # Of the b^3 entries those with i = j, k = j or i = k are no triplets.
                different = ~torch.eye(count, dtype=torch.bool, device=student.device)
                distinct = different[:, :, None] & different[:, None, :] & different[None, :, :]
                each = functional.huber_loss(_angles(student), _angles(teacher), reduction="none")
                # Not each[distinct], whose length is known to the host only when the device has counted.
                angle = each.masked_fill(~distinct, 0).sum() / (count * (count - 1) * (count - 2))
        return {"distance": distance, "angle": angle}


def _distances(x: torch.Tensor) -> torch.Tensor:
    """[b, e] -> the b (b - 1) / 2 distances over their mean."""
    distances = functional.pdist(x)
    return distances / distances.mean().clamp_min(1e-12)


def _angles(x: torch.Tensor) -> torch.Tensor:
    """[b, e] -> cosines [b, b, b] with [j, i, k] that of the angle at x_j between x_i and x_k."""
    directions = functional.normalize(x[None, :, :] - x[:, None, :], dim=2, eps=1e-6)
    return directions @ directions.transpose(1, 2)
