"""FitNet ("FitNets: Hints for Thin Deep Nets", Romero et al., ICLR 2015) on feature maps, through a 1x1 adapter.

The baseline that URFM answers: a Transformer's token and a CNN's pixel at the same place have seen different parts of
the face, so aligning them place by place is expected to fail.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss


class FitNetSettings(LossSettings):
    """Weight of the mean squared difference; facekd's choice.

    The difference is about 1 at first for a Transformer's tokens, which are LayerNormed; a CNN's map has the scale it
    was trained to.
    """

    weight: float = Field(default=1.0, gt=0)


@register_loss("fitnet")
class FitNetLoss(DistillationLoss):
    """mean over images, places and channels of (T - r(S))^2 (arXiv 1412.6550, equation 3).

    S is the student's tapped map, T the teacher's last-stage tokens on their grid, r a learned 1x1 convolution to the
    teacher's width; training only. FitNets' factor 1/2 and sum are a matter of the weight. A student map of another
    grid is resampled to the teacher's by adaptive averaging (facekd's choice). Prompt outputs have no place and are not
    compared.

    Raises:
        UsageError: the teacher has no tokens.
    """

    Settings = FitNetSettings
    needs_tokens = True

    def __init__(self, settings: FitNetSettings, shapes: Shapes) -> None:
        super().__init__()
        if shapes.teacher_width is None or shapes.teacher_grid is None:
            raise UsageError(
                "fitnet needs a teacher with tokens (a Transformer's or a CNN's bundle), this gives embeddings alone"
            )
        self.grids = (shapes.student_grid, shapes.teacher_grid)
        # On row-major tokens a 1x1 convolution is a linear layer.
        self.adapt = nn.Linear(shapes.student_channels, shapes.teacher_width)
        self.weights: Mapping[str, float] = {"map": settings.weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Student tokens [b, N_S, c] and teacher tokens [b, N_T, d] -> {"map": scalar}."""
        if batch.teacher_tokens is None or batch.student_tokens is None:
            raise UsageError("fitnet needs the token maps of both networks")
        tokens = batch.student_tokens
        of_student, of_teacher = self.grids
        if of_student != of_teacher:
            map_of_student = tokens.transpose(1, 2).unflatten(2, of_student)
            tokens = functional.adaptive_avg_pool2d(map_of_student, of_teacher).flatten(2).transpose(1, 2)
        return {"map": functional.mse_loss(self.adapt(tokens).float(), batch.teacher_tokens.detach().float())}
