"""What a distillation loss is: one class with its settings in one file, found by its registered name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

import torch
from torch import nn

from facekd.heads import MarginHead
from facekd.recipe.methods import LOSSES, MethodSettings

LossClass = TypeVar("LossClass", bound="type[DistillationLoss]")


class LossSettings(MethodSettings):
    """Base of a loss's settings in the recipe: unknown fields are errors."""


@dataclass(frozen=True)
class Shapes:
    """What a loss must know of the two networks to build its own layers; teacher fields are None without tokens.

    `teacher_head_reads_tokens` says whether the teacher's tokens alone give its embedding, by its own head.
    `identities` is the number of training identities, for losses that classify; 0 where nothing does.
    """

    student_channels: int
    student_grid: tuple[int, int]
    student_embedding: int
    teacher_width: int | None
    teacher_grid: tuple[int, int] | None
    teacher_embedding: int
    identities: int = 0
    teacher_head_reads_tokens: bool = True


@dataclass(frozen=True)
class DistillationBatch:
    """One batch as the two networks see it.

    Attributes:
        student_tokens: the student's tapped map, row-major [b, N_S, c].
        student_embedding: raw embeddings [b, e].
        teacher_tokens: last-stage tokens [b, N_T, d], one a place of the grid; None for a teacher without tokens.
        extra_tokens: last-stage outputs that stand at no place [b, t, d], such as those of prompts; None without any.
        teacher_embedding: raw embeddings [b, e_T] of the teacher.
        labels: identities, int64 [b].
        teacher_head: the teacher's frozen neck, tokens [b, N_T, d] -> raw embeddings [b, e_T]; None without tokens.
        student_classifier: the student's margin softmax; None if the recipe leaves it out (head.weight 0).
        teacher_classifier: the teacher's, frozen; only if a loss says `needs_teacher_classifier`.
    """

    student_tokens: torch.Tensor | None
    student_embedding: torch.Tensor
    teacher_tokens: torch.Tensor | None
    extra_tokens: torch.Tensor | None
    teacher_embedding: torch.Tensor
    labels: torch.Tensor
    teacher_head: Callable[[torch.Tensor], torch.Tensor] | None = None
    student_classifier: MarginHead | None = None
    teacher_classifier: MarginHead | None = None


class DistillationLoss(nn.Module):
    """A distillation loss. `forward(batch)` returns its parts unweighted; `weights` says what each counts in the total.

    A subclass is built as `cls(settings, shapes)`.

    Attributes:
        Settings: schema of its settings in the recipe.
        needs_tokens: the loss reads feature maps, not embeddings alone.
        needs_teacher_classifier: the loss reads the teacher's class centres, which must be of the training identities.
        needs_student_classifier: the loss reads the student's own margin softmax, which must not be left out.
        needs_pairs: the loss learns from different images of one identity within a batch.
    """

    Settings: ClassVar[type[MethodSettings]] = LossSettings
    teaches: ClassVar[Literal["student"]] = "student"
    needs_tokens = False
    needs_teacher_classifier = False
    needs_student_classifier = False
    needs_pairs = False
    weights: Mapping[str, float]

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """One batch -> scalar losses by part name."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def diagnostics(self) -> dict[str, torch.Tensor]:
        """Figures worth logging beside the losses, of the last batch; scalars that stay on the device until then."""
        return {}


def register_loss(name: str) -> Callable[[LossClass], LossClass]:
    """Registers the decorated `DistillationLoss` under the name that recipes give it."""
    return LOSSES.decorator(name)
