"""From the pixels of any grid to L local features, their self-attention, and how much is left in them: for URFM."""

import math

import torch
from torch import nn
from torch.nn import functional

from facekd.distillation.losses.facial_position import CentrePlaces


class LocalMapping(nn.Module):
    """Attention from L local centres over pixels: tokens [b, N, c] of any N, c -> local features [b, L, d], [paper]."""

    def __init__(self, *, channels: int, width: int, heads: int, places: CentrePlaces | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.places = places
        self.project = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, width))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)

    def forward(
        self,
        tokens: torch.Tensor,
        centres: torch.Tensor,
        position: torch.Tensor,
        *,
        grid: tuple[int, int],
        prompts: int = 0,
    ) -> torch.Tensor:
        """Tokens [b, h w + prompts, c] of a grid (h, w), centres [L, d], position [b or 1, N, d] -> [b, L, d]."""
        pixels = self.project(tokens)
        keys = _split(self.key(pixels) + position.to(pixels.dtype), self.heads)
        values = _split(self.value(pixels), self.heads)
        queries = _split(centres.to(pixels.dtype).expand(len(tokens), -1, -1), self.heads)
        bias = self.places(grid, prompts).to(keys.dtype) if self.places is not None else None
        return _merge(functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias))


class LocalSelfAttention(nn.Module):
    """MSA over the L local features, shared by both networks; returns its attention maps for L_attn [paper]."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Local features [b, L, d] -> (MSA(h) [b, L, d], attention maps [b, heads, L, L])."""
        queries, keys, values = (_split(part, self.heads) for part in self.qkv(self.norm(local)).chunk(3, dim=-1))
        attention = (queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])).float().softmax(dim=-1)
        return self.project(_merge(attention.to(values.dtype) @ values)), attention


def standardise(features: torch.Tensor) -> torch.Tensor:
    """[b, L, d] minus the batch's mean at each place, over each channel's remaining standard deviation (float32).

    What differs from face to face is left, at unit scale: constant features have nothing to agree in.
    """
    varying = features.float() - features.float().mean(dim=0)
    return varying / varying.square().mean(dim=(0, 1)).add(1e-6).sqrt()


def effective_rank(rows: torch.Tensor) -> torch.Tensor:
    """exp of the entropy of the normalised singular values of [n, d] rows (Roy and Vetterli, 2007); 1 to d."""
    # Eigenvalues of the d x d Gram matrix: n may be thousands, d is hundreds.
    eigenvalues = torch.linalg.eigvalsh((rows.T @ rows).double()).clamp_min(0)
    share = eigenvalues.sqrt()
    share = share / share.sum().clamp_min(1e-12)
    rank: torch.Tensor = torch.exp(-torch.special.xlogy(share, share).sum()) * (share.sum() > 0)
    return rank


def _split(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[b, n, d] -> [b, heads, n, d / heads]."""
    split: torch.Tensor = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return split


def _merge(x: torch.Tensor) -> torch.Tensor:
    """[b, heads, n, d / heads] -> [b, n, d]."""
    return x.transpose(1, 2).flatten(2)
