"""Prompts in a frozen Transformer: extra tokens that take part in its attention and alone are learned."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.distillation.teachers.base import TeacherOutput
from facekd.distillation.teachers.transformer import FrozenTransformer
from facekd.models.architectures.transformer import TransformerTeacher


class PromptedTransformer(FrozenTransformer):
    """A frozen Transformer with learnable prompts.

    Swin [paper]: each stage gets its own prompts, [x, p] = B([x, p]) through the stage's blocks; they are dropped at
    patch merging. Within a block every window attends to itself and to its sample's prompts, which afterwards are
    averaged over the windows (facekd's choice); relative position bias and shift mask are zero towards prompts.
    ViT [facekd's choice]: fresh prompts before every `every`-th block, as VPT-deep.
    The embedding is computed from the patch tokens alone, by the teacher's own neck. Parameters of the teacher never
    require gradients and it never leaves eval mode.

    Raises:
        UsageError: the teacher's body is neither a timm Swin nor a timm ViT, or is a ViT and has an attention bias.
    """

    frozen = ("teacher.", "classifier.")

    def __init__(
        self, teacher: TransformerTeacher, *, prompts: int = 5, every: int = 1, attention_bias: float = 0.0
    ) -> None:
        super().__init__(teacher)
        if attention_bias and teacher.kind != "swin":
            raise UsageError(f"apt: attention_bias = {attention_bias:g} is for a Swin; for a ViT leave it out")
        self.count = prompts
        self.every = every
        self.attention_bias = attention_bias
        self.learns = True
        # timm's own types say Tensor | Module for every attribute.
        body: Any = teacher.body
        if prompts == 0:
            widths = []
        elif teacher.kind == "swin":
            widths = [stage.blocks[0].dim for stage in body.layers]
        else:
            widths = [teacher.token_width] * math.ceil(len(body.blocks) / every)
        patch_area = math.prod(body.patch_embed.patch_size)
        self.prompts = nn.ParameterList(_initial_prompts(prompts, width, patch_area) for width in widths)
        self._biases: dict[tuple[int, int, torch.device, torch.dtype], torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> TeacherOutput:
        """Images [b, 3, H, W], normalised as the teacher expects. Without prompts exactly the plain teacher.

        While `learns` is false the outputs carry no gradients.
        """
        if self.count == 0:
            return super().forward(x)
        walk = self._walk_swin if self.teacher.kind == "swin" else self._walk_vit
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learns):
            tokens, prompts = walk(x)
            return TeacherOutput(tokens, prompts, self.teacher.forward_head(tokens))

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
        return joined[:, : -self.count], joined[:, -self.count :]

    def _swin_block(
        self, block: Any, x: torch.Tensor, prompts: torch.Tensor, place: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One (shifted-)window block on x [b, h, w, c] and its prompts [b, t, c]."""
        b, height, width, c = x.shape
        tokens = torch.cat([x.flatten(1, 2), prompts], dim=1)
        normed = block.norm1(tokens)
        windows, layout = _partition(normed[:, : -self.count].view(b, height, width, c), block)
        # Windows are in (batch, window) order: each sample's prompts are repeated for its own windows.
        count = windows.shape[1]
        own = normed[:, -self.count :].unsqueeze(1).expand(-1, count, -1, -1)
        attended = self._window_attention(block, torch.cat([windows, own], dim=2), place)
        patches = _reverse(attended[:, :, : -self.count], block, layout).flatten(1, 2)
        averaged = attended[:, :, -self.count :].mean(dim=1)
        tokens = tokens + torch.cat([patches, averaged], dim=1)
        tokens = tokens + block.mlp(block.norm2(tokens))
        return tokens[:, : -self.count].reshape(b, height, width, c), tokens[:, -self.count :]

    def _window_attention(self, block: Any, windows: torch.Tensor, place: tuple[int, int]) -> torch.Tensor:
        """Attention inside each window: [b, windows, n + t, c] -> the same shape."""
        b, count, n, c = windows.shape
        attention = block.attn
        heads = attention.num_heads
        # [3, b, windows * heads, n, c / heads]: the bias of (window, head) then broadcasts over the batch.
        qkv = attention.qkv(windows).view(b, count, n, 3, heads, -1).permute(3, 0, 1, 4, 2, 5)
        queries, keys, values = qkv.reshape(3, b, count * heads, n, -1).unbind(0)
        bias = self._bias(block, count, place, queries.device, queries.dtype)
        out = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        out = out.view(b, count, heads, n, -1).transpose(2, 3).reshape(b, count, n, c)
        output: torch.Tensor = attention.proj(out)
        return output

    def _bias(
        self, block: Any, count: int, place: tuple[int, int], device: torch.device, dtype: torch.dtype
    ) -> torch.Tensor:
        """Relative position bias plus shift mask [1, windows * heads, n + t, n + t]; towards prompts `attention_bias`.

        The teacher is frozen, so it is computed once for each block, device and precision.
        """
        key = (*place, device, dtype)
        if key not in self._biases:
            with torch.no_grad():
                bias = block.attn._get_rel_pos_bias().float()
                if block.attn_mask is not None:
                    # timm masks by -100: e^-100 is not zero but a denormal number, on which CPUs are many times slower.
                    bias = bias + 100 * block.attn_mask.to(device).float().unsqueeze(1)
                bias = bias.expand(count, -1, -1, -1).flatten(0, 1)
                bias = functional.pad(bias, (0, self.count), value=self.attention_bias)
                # Below: the prompts' own rows, which see patches and prompts alike.
                self._biases[key] = functional.pad(bias, (0, 0, 0, self.count)).unsqueeze(0).to(dtype)
        return self._biases[key]

    def _walk_vit(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        body: Any = self.teacher.body
        x = body.norm_pre(body.patch_drop(body._pos_embed(body.patch_embed(x))))
        for index, block in enumerate(body.blocks):
            if index % self.every == 0:
                fresh = self.prompts[index // self.every].expand(len(x), -1, -1)
                patches = x if index == 0 else x[:, : -self.count]
                x = torch.cat([patches, fresh.to(x.dtype)], dim=1)
            x = block(x)
        x = body.norm(x)
        return x[:, body.num_prefix_tokens : -self.count], x[:, -self.count :]


def _initial_prompts(count: int, width: int, patch_area: int) -> nn.Parameter:
    """[1, t, d], uniform in +-sqrt(6 / (3 p^2 + d)) as in VPT."""
    bound = math.sqrt(6 / (3 * patch_area + width))
    return nn.Parameter(torch.empty(1, count, width).uniform_(-bound, bound))


def _partition(x: torch.Tensor, block: Any) -> tuple[torch.Tensor, tuple[int, int, int, int]]:
    """Shift, pad and cut [b, h, w, c] into [b, windows, window area, c]; also returns what `_reverse` needs."""
    height, width = x.shape[1:3]
    window_h, window_w = block.window_size
    if any(block.shift_size):
        x = torch.roll(x, shifts=(-block.shift_size[0], -block.shift_size[1]), dims=(1, 2))
    pad_h, pad_w = -height % window_h, -width % window_w
    if pad_h or pad_w:
        x = functional.pad(x, (0, 0, 0, pad_w, 0, pad_h))
    rows, columns = x.shape[1] // window_h, x.shape[2] // window_w
    x = x.view(len(x), rows, window_h, columns, window_w, -1).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2), (height, width, rows, columns)


def _reverse(windows: torch.Tensor, block: Any, layout: tuple[int, int, int, int]) -> torch.Tensor:
    """The inverse of `_partition`: [b, windows, window area, c] -> [b, h, w, c]."""
    height, width, rows, columns = layout
    window_h, window_w = block.window_size
    x: torch.Tensor = windows.unflatten(1, (rows, columns)).unflatten(3, (window_h, window_w)).transpose(2, 3)
    x = x.reshape(len(x), rows * window_h, columns * window_w, -1)[:, :height, :width]
    if any(block.shift_size):
        x = torch.roll(x, shifts=tuple(block.shift_size), dims=(1, 2))
    return x
