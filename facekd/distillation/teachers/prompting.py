"""Prompts in a frozen Transformer: extra tokens that take part in its attention and alone are learned."""

import math
from typing import Any

import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.distillation.teachers.base import TeacherOutput
from facekd.distillation.teachers.prompted_windows import PromptedWindows
from facekd.distillation.teachers.transformer import FrozenTransformer
from facekd.models.architectures.transformer import TransformerTeacher


class PromptedTransformer(FrozenTransformer):
    """A frozen Transformer with learnable prompts.

    Swin and SwinV2 [paper]: each stage gets its own prompts, [x, p] = B([x, p]) through the stage's blocks; they are
    dropped at patch merging. `PromptedWindows` says what a block does.
    ViT and EVA [facekd's choice]: fresh prompts before every `every`-th block, as VPT-deep; rotary positions do not
    turn them.
    The embedding is computed without the prompts, by the teacher's own neck or head. Parameters of the teacher never
    require gradients and it never leaves eval mode.

    Raises:
        UsageError: the teacher's body is of another kind, or has no windows and is given an attention bias.
    """

    frozen = ("teacher.", "classifier.")

    def __init__(
        self, teacher: TransformerTeacher, *, prompts: int = 5, every: int = 1, attention_bias: float = 0.0
    ) -> None:
        super().__init__(teacher)
        windows = teacher.kind in ("swin", "swinv2")
        if teacher.kind == "other":
            raise UsageError(
                f"apt: prompts are for Swin, SwinV2, ViT and EVA, not for {type(teacher.body).__name__}; leave apt out"
            )
        if attention_bias and not windows:
            raise UsageError(f"apt: attention_bias = {attention_bias:g} is for a Swin; for a ViT leave it out")
        self.count = prompts
        self.every = every
        self.attention_bias = attention_bias
        self.learns = True
        # timm's own types say Tensor | Module for every attribute.
        body: Any = teacher.body
        if prompts == 0:
            widths = []
        elif windows:
            widths = [stage.blocks[0].dim for stage in body.layers]
        else:
            widths = [teacher.token_width] * math.ceil(len(body.blocks) / every)
        patch_area = math.prod(body.patch_embed.patch_size)
        self.prompts = nn.ParameterList(_initial_prompts(prompts, width, patch_area) for width in widths)
        self._windows = PromptedWindows(prompts, attention_bias)

    def forward(self, x: torch.Tensor) -> TeacherOutput:
        """Images [b, 3, H, W], normalised as the teacher expects. Without prompts exactly the plain teacher.

        While `learns` is false the outputs carry no gradients.
        """
        if self.count == 0:
            return super().forward(x)
        walk = self._walk_swin if self.teacher.kind in ("swin", "swinv2") else self._walk_blocks
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learns):
            features, prompts = walk(x)
            tokens, embedding = self.teacher.finish(features)
            return TeacherOutput(tokens, prompts, embedding)

    @property
    def can_learn(self) -> bool:
        """Whether there are prompts."""
        return self.count > 0

    def _walk_swin(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        body: Any = self.teacher.body
        x = body.patch_embed(x)
        prompts = x.new_empty(0)
        for index, stage in enumerate(body.layers):
            x = stage.downsample(x)
            prompts = self.prompts[index].expand(len(x), -1, -1)
            for depth, block in enumerate(stage.blocks):
                x, prompts = self._swin_block(block, x, prompts, (index, depth))
        joined = body.norm(torch.cat([x.flatten(1, 2), prompts], dim=1))
        return joined[:, : -self.count].unflatten(1, x.shape[1:3]), joined[:, -self.count :]

    def _swin_block(
        self, block: Any, x: torch.Tensor, prompts: torch.Tensor, place: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One (shifted-)window block on x [b, h, w, c] and its prompts [b, t, c]."""
        return self._windows(block, x, prompts, place)

    def _walk_blocks(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        body: Any = self.teacher.body
        x = body.patch_embed(x)
        rotary = None
        if self.teacher.kind == "eva":
            x, rotary = body._pos_embed(x)
            x = body.norm_pre(x)
        else:
            x = body.norm_pre(body.patch_drop(body._pos_embed(x)))
        if rotary is not None:
            rotary = _unturned(rotary, self.count)
        for index, block in enumerate(body.blocks):
            if index % self.every == 0:
                fresh = self.prompts[index // self.every].expand(len(x), -1, -1)
                patches = x if index == 0 else x[:, : -self.count]
                x = torch.cat([patches, fresh.to(x.dtype)], dim=1)
            if rotary is None:
                x = block(x)
            else:
                x = block(x, rope=rotary[index] if getattr(body, "rope_mixed", False) else rotary)
        x = body.norm(x)
        return x[:, : -self.count], x[:, -self.count :]


def _unturned(rotary: torch.Tensor, count: int) -> torch.Tensor:
    """timm's rotary embedding [..., N, 2 d] of sines then cosines, with `count` places more that are not turned."""
    half = rotary.shape[-1] // 2
    still = torch.cat([rotary.new_zeros(half), rotary.new_ones(rotary.shape[-1] - half)])
    return torch.cat([rotary, still.expand(*rotary.shape[:-2], count, -1)], dim=-2)


def _initial_prompts(count: int, width: int, patch_area: int) -> nn.Parameter:
    """[1, t, d], uniform in +-sqrt(6 / (3 p^2 + d)) as in VPT."""
    bound = math.sqrt(6 / (3 * patch_area + width))
    return nn.Parameter(torch.empty(1, count, width).uniform_(-bound, bound))
