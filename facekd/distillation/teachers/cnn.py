"""A frozen CNN: its last map's pixels as tokens, and its own head."""

from typing import Any, Self

import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.distillation.teachers.base import (
    BundleTeacher,
    TeacherOutput,
    TeacherPath,
    register_teacher,
    what_may_teach,
)
from facekd.models.registry import Backbone
from facekd.recipe.methods import MethodSettings


@register_teacher("cnn")
class CnnTeacher(BundleTeacher):
    """A frozen CNN whose last map's pixels are its tokens, and whose own head makes them an embedding.

    Args:
        backbone: an IResNet or any other network of the `Backbone` protocol.

    Raises:
        UsageError: `backbone` has no feature map and head of its own.
    """

    teacher: Any
    grid: tuple[int, int]

    def __init__(self, backbone: nn.Module) -> None:
        if not isinstance(backbone, Backbone):
            raise what_may_teach(backbone)
        if getattr(backbone, "features", None) is not None:
            raise UsageError("a CNN that was a student with model.arguments.features cannot teach by its map")
        super().__init__(backbone)
        self.grid = backbone.feature_grid
        self.token_width = backbone.feature_channels
        self.embedding_width = backbone.embedding_width

    @classmethod
    def fits(cls, found: TeacherPath) -> bool:
        """Whether it is a bundle of a CNN."""
        return found.holds_bundle and isinstance(found.bundle.model, Backbone)

    @classmethod
    def open(cls, found: TeacherPath, settings: MethodSettings, student: nn.Module) -> Self:
        """The bundle's network."""
        return cls(found.bundle.model).of(found.bundle)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> TeacherOutput:
        """Images [b, 3, H, W], normalised as the teacher expects -> its tokens, no prompts, its raw embeddings."""
        features = self.teacher.forward_features(x)
        return TeacherOutput(features.flatten(2).transpose(1, 2), None, self.teacher.forward_head(features))

    def forward_head(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens [b, N, d], row-major over the grid -> raw embeddings [b, e], by the teacher's own head."""
        embedding: torch.Tensor = self.teacher.forward_head(tokens.transpose(1, 2).unflatten(2, self.grid))
        return embedding
