"""DarkRank (Chen, Wang and Zhang, AAAI 2018): the teacher's ranking of a batch, made likely under the student's."""

from collections.abc import Mapping

import torch
from pydantic import Field

from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import full_precision, nothing, units


class DarkRankSettings(LossSettings):
    """Settings of DarkRank.

    Attributes:
        weight: of the negative log likelihood; facekd's choice.
        alpha, beta: a candidate's score is -alpha distance^beta; the paper uses 3 and 3.
        length: how many of a query's nearest candidates, in the teacher's eyes, are ranked.
    """

    weight: float = Field(default=0.1, gt=0)
    alpha: float = Field(default=3.0, gt=0)
    beta: float = Field(default=3.0, gt=0)
    length: int = Field(default=4, ge=2, le=4096)


@register_loss("darkrank")
class DarkRankLoss(DistillationLoss):
    """-log P(the teacher's order | the student's scores), each image in turn the query, mean over queries.

    The paper's hard transfer (arXiv 1707.01220: ListMLE of one permutation). P of an order is the product
    over ranks r of exp(S_r) / sum over r' >= r of exp(S_r'), S the student's scores -alpha |x - y|^beta of unit
    embeddings. What the paper leaves open, and here is facekd's choice: the candidates are the other images of the
    batch, of which only the `length` nearest are ranked (far ones are all alike).
    """

    Settings = DarkRankSettings

    def __init__(self, settings: DarkRankSettings, shapes: Shapes) -> None:
        super().__init__()
        self.settings = settings
        self.weights: Mapping[str, float] = {"rank": settings.weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e] and [b, e_T] -> {"rank": scalar}; 0 for fewer than two candidates."""
        student, teacher = units(batch)
        candidates = len(student) - 1
        if candidates < 2:
            return {"rank": nothing(batch)}
        with full_precision(student):
            itself = torch.eye(len(student), dtype=torch.bool, device=student.device)
            nearest = (teacher @ teacher.T).masked_fill(itself, -torch.inf)
            order = nearest.topk(min(self.settings.length, candidates), dim=1).indices
            # |x - y|^2 = 2 - 2 cos; the floor keeps the root's slope finite where two embeddings coincide.
            distances = (2 - 2 * (student @ student.T).gather(1, order)).clamp_min(1e-8).sqrt()
            scores = -self.settings.alpha * distances**self.settings.beta
            # log of the sum over this rank and all later ones.
            rest = scores.flip(1).logcumsumexp(dim=1).flip(1)
        return {"rank": (rest - scores).sum(dim=1).mean()}
