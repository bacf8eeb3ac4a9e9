"""EKD ("Evaluation-oriented Knowledge Distillation for Deep Face Recognition", Huang et al., CVPR 2022).

Verification accepts pairs above a threshold that fixes the false accept rate; what counts is on which side of such
thresholds a pair falls, not its exact similarity.
"""

from collections.abc import Mapping

import torch
from pydantic import Field

from facekd.common.errors import UsageError
from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.functional import full_precision, units


class EkdSettings(LossSettings):
    """Settings of EKD; the defaults are those of the authors' code.

    Attributes:
        positive_weight, negative_weight: of the two rank losses.
        fars: false accept rates whose thresholds the pairs are ranked against.
        temperature: of the sigmoid that stands for "is above the threshold", in units of cosine.
        momentum: weight of the newest batch in the running thresholds.
        hardest: how many impostor pairs, those the student thinks most alike, are compared.
    """

    positive_weight: float = Field(default=0.02, ge=0)
    negative_weight: float = Field(default=0.01, ge=0)
    fars: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    temperature: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.01, gt=0, le=1)
    hardest: int = Field(default=2000, ge=1)


@register_loss("ekd")
class EkdLoss(DistillationLoss):
    """mean over critical pairs of (rank_S - rank_T)^2, rank = sum over FARs of sigmoid((cos - threshold) / t).

    t is the temperature. Each network has its own thresholds: at FAR 1/a the cosine that floor(m / a) of the batch's m
    impostor pairs exceed, as a running mean over batches. Critical pairs are all genuine ones and the student's
    `hardest` impostor ones. The abstract says as much; the sigmoid's temperature, the running mean and the weights are
    those of the authors' code. There the running mean starts at 0, here at the first batch's thresholds (facekd's
    choice: from 0 it takes hundreds of batches to arrive). Below 1/m the batch's most similar impostor pair is the
    threshold, so the strict FARs mean something only with large batches; and batches drawn at random from thousands of
    identities hold next to no genuine pairs: a recipe needs data.images_per_identity, unless positive_weight is 0.

    Attributes:
        student_thresholds, teacher_thresholds: cosines [number of FARs], saved with the state.
        started: whether they have been set.
    """

    Settings = EkdSettings
    student_thresholds: torch.Tensor
    teacher_thresholds: torch.Tensor
    started: torch.Tensor
    fars: torch.Tensor

    def __init__(self, settings: EkdSettings, shapes: Shapes) -> None:
        super().__init__()
        if not settings.fars or not all(0 < far < 1 for far in settings.fars):
            raise UsageError(f"ekd.fars = {list(settings.fars)}: give rates between 0 and 1, such as [0.1, 0.01]")
        self.settings = settings
        self.needs_pairs = settings.positive_weight > 0
        self.register_buffer("student_thresholds", torch.zeros(len(settings.fars)))
        self.register_buffer("teacher_thresholds", torch.zeros(len(settings.fars)))
        self.register_buffer("started", torch.tensor(False))
        self.register_buffer("fars", torch.tensor(settings.fars, dtype=torch.float64), persistent=False)
        self.weights: Mapping[str, float] = {
            "positive": settings.positive_weight,
            "negative": settings.negative_weight,
        }

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Embeddings [b, e], [b, e_T] and labels -> {"positive", "negative"}, each 0 where there is no such pair."""
        student, teacher = units(batch)
        with full_precision(student):
            first, second = torch.triu_indices(len(student), len(student), offset=1, device=student.device)
            of_student = (student @ student.T)[first, second]
            of_teacher = (teacher @ teacher.T)[first, second]
            genuine = batch.labels[first] == batch.labels[second]
            if self.training and len(of_student):  # two images or more
                self._update(of_student.detach(), of_teacher, genuine)
            alike = of_student.detach().masked_fill(genuine, -torch.inf)
            hardest = alike.topk(min(self.settings.hardest, len(alike))).indices
            return {
                "positive": self._rank_loss(of_student, of_teacher, genuine),
                "negative": self._rank_loss(of_student[hardest], of_teacher[hardest], ~genuine[hardest]),
            }

    @torch.no_grad()
    def _update(self, of_student: torch.Tensor, of_teacher: torch.Tensor, genuine: torch.Tensor) -> None:
        # FAR 1/a of m pairs: floor(m / a) of them are more alike than the threshold. The small excess keeps 0.001 x
        # 1000, which is 0.99999..., from becoming 0. The number m stays on the device, so that the host need not wait.
        impostors = (~genuine).sum()
        places = ((impostors * self.fars + 1e-9).long()).minimum(impostors - 1).clamp_min(0)
        share = torch.where(self.started, self.settings.momentum, 1.0) * (impostors > 0)
        for running, cosines in ((self.student_thresholds, of_student), (self.teacher_thresholds, of_teacher)):
            ranked = cosines.masked_fill(genuine, -1.0).sort(descending=True).values  # a cosine, so share 0 leaves it
            running.lerp_(ranked[places], share)
        self.started |= impostors > 0

    def _rank_loss(self, of_student: torch.Tensor, of_teacher: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Mean over the pairs that count; 0 where none does."""
        ranks = self._ranks(of_student, self.student_thresholds), self._ranks(of_teacher, self.teacher_thresholds)
        squares = (ranks[0] - ranks[1]).square().masked_fill(~counted, 0)
        return squares.sum() / counted.sum().clamp_min(1)

    def _ranks(self, cosines: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
        above = (cosines[:, None] - thresholds[None, :]) / self.settings.temperature
        return above.sigmoid().sum(dim=1)
