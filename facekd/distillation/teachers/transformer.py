"""A frozen Transformer: its last stage's tokens and its own neck."""

from typing import Self

import torch
from torch import nn

from facekd.distillation.teachers.base import (
    BundleTeacher,
    TeacherOutput,
    TeacherPath,
    register_teacher,
    what_may_teach,
)
from facekd.models.architectures.transformer import TransformerTeacher
from facekd.recipe.methods import MethodSettings


@register_teacher("transformer")
class FrozenTransformer(BundleTeacher):
    """A Transformer with its neck or head, as it was trained.

    Raises:
        UsageError: the network is no `TransformerTeacher`.
    """

    teacher: TransformerTeacher

    def __init__(self, teacher: TransformerTeacher) -> None:
        if not isinstance(teacher, TransformerTeacher):
            raise what_may_teach(teacher)
        super().__init__(teacher)
        self.grid = teacher.grid
        self.token_width = teacher.token_width
        self.embedding_width = teacher.embedding_width
        self.head_reads_tokens = teacher.head_reads_tokens

    @classmethod
    def fits(cls, found: TeacherPath) -> bool:
        """Whether it is a bundle of a Transformer."""
        return found.holds_bundle and isinstance(found.bundle.model, TransformerTeacher)

    @classmethod
    def open(cls, found: TeacherPath, settings: MethodSettings, student: nn.Module) -> Self:
        """The bundle's network."""
        network = found.bundle.model
        if not isinstance(network, TransformerTeacher):
            raise what_may_teach(network)
        return cls(network).of(found.bundle)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> TeacherOutput:
        """Images [b, 3, H, W], normalised as the teacher expects -> its tokens, no prompts, its raw embeddings."""
        tokens, embedding = self.teacher.forward_both(x)
        return TeacherOutput(tokens, None, embedding)

    def forward_head(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens [b, N, d], row-major over the grid -> raw embeddings [b, e], by the teacher's own neck."""
        return self.teacher.forward_head(tokens)
