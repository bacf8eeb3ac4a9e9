"""FitNet on the last layer ("FitNets: Hints for Thin Deep Nets", Romero et al., ICLR 2015): L2 between embeddings."""

from collections.abc import Mapping

import torch
from pydantic import Field

from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import check_widths, units


class EmbeddingL2Settings(LossSettings):
    """Settings of the L2 term.

    Attributes:
        weight: of the squared distance.
        normalise: compare unit embeddings. Then it is exactly twice the `embedding` term's 1 - cosine; raw embeddings
            ask for the teacher's lengths as well.
    """

    weight: float = Field(default=1.0, gt=0)
    normalise: bool = False


@register_loss("embedding_l2")
class EmbeddingL2Loss(DistillationLoss):
    """mean over the batch of |e_S - e_T|^2 (FitNets, arXiv 1412.6550, equation 3, on the last layer).

    Raw embeddings are divided by the root of their width (facekd's choice), so that the weight does not depend on it;
    FitNets' factor 1/2 is left to the weight, and no regressor is needed since the widths are equal.

    Raises:
        UsageError: the two embeddings differ in width.
    """

    Settings = EmbeddingL2Settings

    def __init__(self, settings: EmbeddingL2Settings, shapes: Shapes) -> None:
        super().__init__()
        check_widths("embedding_l2", shapes.student_embedding, shapes.teacher_embedding)
        self.normalise = settings.normalise
        self.weights: Mapping[str, float] = {"distance": settings.weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e] of both -> {"distance": scalar}."""
        if self.normalise:
            student, teacher = units(batch)
            return {"distance": (student - teacher).square().sum(dim=1).mean()}
        teacher = batch.teacher_embedding.detach().float()
        return {"distance": (batch.student_embedding.float() - teacher).square().mean()}
