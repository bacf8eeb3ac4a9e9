"""AdaDistill ("Adaptive Knowledge Distillation for Deep Face Recognition", Boutros, Struc and Damer, ECCV 2024)."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import check_widths, units
from facekd.heads import MarginHead, create_head

_HEADS = {"arc": "arcface", "cos": "cosface"}


class AdaDistillSettings(LossSettings):
    """Settings of AdaDistill.

    Attributes:
        weight: of the cross entropy; it takes the place of the recipe's head, so set `head.weight: 0` beside it.
        variant: the margin: `arc` (AdaArcDistill) or `cos` (AdaCosDistill).
        margin: radians for arc, cosine for cos; None is the head's own default.
        scale: s.
    """

    weight: float = Field(default=1.0, gt=0)
    variant: Literal["arc", "cos"] = "arc"
    margin: float | None = Field(default=None, ge=0)
    scale: float = Field(default=64.0, gt=0)


@register_loss("adadistill")
class AdaDistillLoss(DistillationLoss):
    """A margin softmax of the student whose class centres are a moving average of the teacher's embeddings.

    For an image i of identity y, before the loss (arXiv 2407.01332, factors as in the authors' code):
    w_y <- a_i w_y + (1 - a_i) t_i with a_i = cos(s_i, t_i) x cos(w_y, t_i), both factors no less than 0.
    While the student is poor, a is near 0 and the centre is the teacher's view of this very image, an easy target. As
    it improves, the centre settles on the identity's mean, a harder one. An image that the teacher itself places far
    from the centre has a small a and moves it more.
    Several images of an identity in one batch move its centre by the mean of their updates (facekd's choice: in the
    authors' code the last one wins). Centres are never normalised in the state, only in the loss, as there.

    Attributes:
        head: the margin softmax; its `centres` [n, e] are a buffer: no optimiser moves them, checkpoints hold them.

    Raises:
        UsageError: the embeddings differ in width, or the margin is out of range.
    """

    Settings = AdaDistillSettings

    def __init__(self, settings: AdaDistillSettings, shapes: Shapes) -> None:
        super().__init__()
        check_widths("adadistill", shapes.student_embedding, shapes.teacher_embedding)
        if shapes.identities < 2:
            raise UsageError(f"adadistill classifies: {shapes.identities} training identities, it needs 2 or more")
        margin = {} if settings.margin is None else {"margin": settings.margin}
        self.head = _with_moving_centres(
            create_head(
                _HEADS[settings.variant],
                embedding_width=shapes.student_embedding,
                num_identities=shapes.identities,
                scale=settings.scale,
                **margin,
            )
        )
        self._alpha = torch.zeros(())
        self.weights: Mapping[str, float] = {"identity": settings.weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e] of both and labels -> {"identity": scalar}; moves the centres in training mode."""
        if self.training:
            self._move(batch)
        logits = self.head(batch.student_embedding, batch.labels)
        return {"identity": functional.cross_entropy(logits, batch.labels)}

    def diagnostics(self) -> dict[str, torch.Tensor]:
        """Mean a_i of the last batch: how much the centres keep of themselves."""
        return {"adadistill.alpha": self._alpha}

    @torch.no_grad()
    def _move(self, batch: DistillationBatch) -> None:
        student, teacher = units(batch)
        centres, labels = self.head.centres, batch.labels
        own = centres[labels]
        floor = 1e-6
        nearness = functional.cosine_similarity(own, teacher).clamp(floor, 1)
        alpha = ((student * teacher).sum(dim=1) * nearness).clamp(floor, 1)[:, None]
        self._alpha = alpha.mean()
        wanted = torch.zeros_like(centres).index_add_(0, labels, alpha * own + (1 - alpha) * teacher)
        # Not bincount, whose length is known to the host only when the device has counted.
        count = centres.new_zeros(len(centres), 1).index_add_(0, labels, torch.ones_like(alpha))
        centres.copy_(torch.where(count > 0, wanted / count.clamp_min(1), centres))


def _with_moving_centres(head: MarginHead) -> MarginHead:
    """The head with its centres as a buffer instead of a parameter."""
    centres = head.centres.detach().clone()
    del head.centres
    head.register_buffer("centres", centres)
    return head
