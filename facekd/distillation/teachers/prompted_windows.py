"""One (shifted-)window block of a Swin or SwinV2 with prompts in its attention."""

import math
from typing import Any

import torch
from torch.nn import functional

_NEUTRAL_BIAS_V2 = 8.0  # 16 sigmoid(0)


class PromptedWindows:
    """Blocks in which every window attends to itself and to its sample's prompts.

    The prompts' outputs are averaged over the windows (facekd's choice). Towards prompts there is no shift mask, and
    the relative position bias is neutral, 0 for Swin and 8, the middle of its range, for SwinV2, plus `attention_bias`.

    Args:
        count: t, prompts of a sample.
        attention_bias: added to the patches' attention logits towards prompts.
    """

    def __init__(self, count: int, attention_bias: float) -> None:
        self.count = count
        self.attention_bias = attention_bias
        self._biases: dict[tuple[int, int, torch.device, torch.dtype], torch.Tensor] = {}

    def __call__(
        self, block: Any, x: torch.Tensor, prompts: torch.Tensor, place: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A block on x [b, h, w, c] and its prompts [b, t, c] -> both; `place` is (stage, depth) of the block."""
        b, height, width, c = x.shape
        tokens = torch.cat([x.flatten(1, 2), prompts], dim=1)
        if hasattr(block.attn, "logit_scale"):  # SwinV2 normalises what attention and MLP add, not what they read
            tokens = tokens + block.norm1(self._attend(block, tokens, (height, width), place))
            tokens = tokens + block.norm2(block.mlp(tokens))
        else:
            tokens = tokens + self._attend(block, block.norm1(tokens), (height, width), place)
            tokens = tokens + block.mlp(block.norm2(tokens))
        return tokens[:, : -self.count].reshape(b, height, width, c), tokens[:, -self.count :]

    def _attend(self, block: Any, tokens: torch.Tensor, size: tuple[int, int], place: tuple[int, int]) -> torch.Tensor:
        """What the block's attention gives for patches and prompts [b, h w + t, c]."""
        windows, layout = _partition(tokens[:, : -self.count].unflatten(1, size), block)
        # Windows are in (batch, window) order: each sample's prompts are repeated for its own windows.
        count = windows.shape[1]
        own = tokens[:, -self.count :].unsqueeze(1).expand(-1, count, -1, -1)
        attended = self._window_attention(block, torch.cat([windows, own], dim=2), place)
        patches = _reverse(attended[:, :, : -self.count], block, layout).flatten(1, 2)
        averaged = attended[:, :, -self.count :].mean(dim=1)
        return torch.cat([patches, averaged], dim=1)

    def _window_attention(self, block: Any, windows: torch.Tensor, place: tuple[int, int]) -> torch.Tensor:
        """Attention inside each window: [b, windows, n + t, c] -> the same shape."""
        b, count, n, c = windows.shape
        attention = block.attn
        heads = attention.num_heads
        # [3, b, windows * heads, n, c / heads]: the bias of (window, head) then broadcasts over the batch.
        qkv = _queries_keys_values(attention, windows).view(b, count, n, 3, heads, -1).permute(3, 0, 1, 4, 2, 5)
        queries, keys, values = qkv.reshape(3, b, count * heads, n, -1).unbind(0)
        scale = None
        if hasattr(attention, "logit_scale"):  # cosine attention
            largest = math.log(1 / 0.01)
            queries = functional.normalize(queries, dim=-1)
            queries = queries * attention.logit_scale.clamp(max=largest).exp().repeat(count, 1, 1).to(queries.dtype)
            keys, scale = functional.normalize(keys, dim=-1), 1.0
        bias = self._bias(block, count, place, queries.device, queries.dtype)
        out = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=scale)
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
                bias = _position_bias(block.attn).float()
                if block.attn_mask is not None:
                    # timm masks by -100: e^-100 is not zero but a denormal number, on which CPUs are many times slower.
                    bias = bias + 100 * block.attn_mask.to(device).float().unsqueeze(1)
                bias = bias.expand(count, -1, -1, -1).flatten(0, 1)
                neutral = _NEUTRAL_BIAS_V2 if hasattr(block.attn, "cpb_mlp") else 0.0
                bias = functional.pad(bias, (0, self.count), value=neutral + self.attention_bias)
                # Below: the prompts' own rows, which see patches and prompts alike.
                self._biases[key] = functional.pad(bias, (0, 0, 0, self.count)).unsqueeze(0).to(dtype)
        return self._biases[key]


def _queries_keys_values(attention: Any, x: torch.Tensor) -> torch.Tensor:
    """[..., c] -> [..., 3 c]; SwinV2 keeps the biases of queries and values apart and has none for keys."""
    output: torch.Tensor = attention.qkv(x)
    if getattr(attention, "q_bias", None) is not None:
        output = output + torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    return output


def _position_bias(attention: Any) -> torch.Tensor:
    """[1, heads, n, n] of one window."""
    if not hasattr(attention, "cpb_mlp"):
        bias: torch.Tensor = attention._get_rel_pos_bias()
        return bias
    table = attention.cpb_mlp(attention.relative_coords_table).flatten(0, 2)
    area = math.prod(attention.window_size)
    bias = table[attention.relative_position_index.flatten()].view(area, area, -1)
    return 16 * torch.sigmoid(bias.permute(2, 0, 1)).unsqueeze(0)


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
