"""Where a pixel stands on the face: the positional encoding of URFM, and the places of its local centres."""

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from facekd.data.alignment import TEMPLATE_112

# Distances are in units of a seventh of the crop (16 of 112 pixels), whatever the grid, so that a position means the
# same to both networks.
_UNITS_PER_CROP = 7.0


def piecewise_index(distance: torch.Tensor, *, alpha: float, beta: float, gamma: float) -> torch.Tensor:
    """iRPE's piecewise index function I (ICCV 2021, eq. 18): fine for near positions, logarithmic for far ones.

    I(x) = round(x) for |x| <= alpha, else
    sign(x) min(beta, round(alpha + ln(|x|/alpha) / ln(gamma/alpha) (beta - alpha))).

    Args:
        distance: any shape.
        alpha: end of the linear part.
        beta: largest index.
        gamma: distance at which it is reached.

    Returns:
        int64 of the same shape, in [-beta, beta].
    """
    size = distance.abs()
    # Clamped below so that the branch that is not taken never sees ln(0).
    far = alpha + torch.log(size.clamp_min(alpha) / alpha) / math.log(gamma / alpha) * (beta - alpha)
    index = torch.where(size <= alpha, distance.round(), distance.sign() * far.round().clamp_max(beta))
    return index.long()


class FacialPositionalEncoding(nn.Module):
    """b_i = P[I(D(i, anchor))], D = D_euclid + gamma D_face, added to the pixel side of URFM [paper].

    facekd's choices: the anchor is the crop's centre; D_face is scaled to the range of D_euclid; `saliency` is
    |s_i - s_anchor| with s the token norm, min-max normalised in its sample and detached; `relative` is
    |r_i - r_anchor| with r_i the distances of pixel i to the five landmarks of the alignment template; prompt tokens,
    which stand nowhere, take one learned bucket of their own.

    Args:
        width: of the encodings.
        position: D_face.
        face_weight: gamma.
        grids: of the maps that it will see: their distances go to a device with the module, once. Any other grid's are
            computed at each call.
    """

    def __init__(
        self,
        *,
        width: int,
        position: Literal["none", "saliency", "relative"],
        face_weight: float,
        grids: Iterable[tuple[int, int]] = (),
    ) -> None:
        super().__init__()
        self.position = position
        self.face_weight = face_weight
        self.alpha, self.beta, self.gamma = 4.0, 8.0, 16.0
        self.buckets = nn.Embedding(int(self.beta) + 2, width)
        nn.init.normal_(self.buckets.weight, std=0.02)
        for grid in dict.fromkeys(filter(math.prod, grids)):  # (0, 0) stands for a network without a map
            euclid, relative = _distances(grid)
            self.register_buffer(f"euclid_{_named(grid)}", euclid, persistent=False)
            self.register_buffer(f"relative_{_named(grid)}", relative, persistent=False)

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int], prompts: int) -> torch.Tensor:
        """Tokens [b, N + t, any], row-major grid then t prompts -> encodings [b or 1, N + t, width]."""
        euclid, relative = self._of(grid, tokens.device)
        distance = euclid.unsqueeze(0)
        if self.position == "relative":
            distance = distance + self.face_weight * relative
        elif self.position == "saliency":
            pixels = tokens[:, : grid[0] * grid[1]]
            distance = distance + self.face_weight * _saliency(pixels.detach().float(), grid) * euclid.max()
        index = piecewise_index(distance, alpha=self.alpha, beta=self.beta, gamma=self.gamma)
        nowhere = index.new_full((index.shape[0], prompts), int(self.beta) + 1)
        encodings: torch.Tensor = self.buckets(torch.cat([index, nowhere], dim=1))
        return encodings

    def _of(self, grid: tuple[int, int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        kept = getattr(self, f"euclid_{_named(grid)}", None), getattr(self, f"relative_{_named(grid)}", None)
        if kept[0] is not None and kept[1] is not None:
            return kept[0], kept[1]
        euclid, relative = _distances(grid)
        return euclid.to(device), relative.to(device)


class CentrePlaces(nn.Module):
    """The preference of local centres for pixels near their place [facekd's choice].

    The L centres stand on a square grid over the crop, and -d^2 / (2 spread^2) is added to the attention of a centre
    for a pixel at distance d, with a spread learned for each head. Local features thus start as local, every one with
    its own receptive field, where centres without a place start by attending to the whole face alike. Prompts, which
    stand nowhere, count as two spreads away.
    """

    _PROMPT_BIAS = -2.0
    # e^-50 is nothing, and still a normal number: CPUs are many times slower on denormal ones.
    _FARTHEST_BIAS = -50.0

    def __init__(self, *, centres: int, heads: int, spread: float, grids: Iterable[tuple[int, int]] = ()) -> None:
        """`grids` as in `FacialPositionalEncoding`."""
        super().__init__()
        self.side = math.isqrt(centres)
        for grid in dict.fromkeys(filter(math.prod, grids)):
            self.register_buffer(f"distance_{_named(grid)}", self._distance(grid), persistent=False)
        self.log_spread = nn.Parameter(torch.full((heads, 1, 1), math.log(spread)))

    def forward(self, grid: tuple[int, int], prompts: int) -> torch.Tensor:
        """Grid of the pixels and the number of prompts -> [heads, L, h w + prompts]."""
        distance = getattr(self, f"distance_{_named(grid)}", None)
        if distance is None:
            distance = self._distance(grid).to(self.log_spread.device)
        bias = (-(distance.square() / 2) * torch.exp(-2 * self.log_spread)).clamp_min(self._FARTHEST_BIAS)
        return functional.pad(bias, (0, prompts), value=self._PROMPT_BIAS)

    def _distance(self, grid: tuple[int, int]) -> torch.Tensor:
        """Of each centre, on its own grid, to each pixel [L, h w]."""
        return torch.cdist(_pixel_centres((self.side, self.side)), _pixel_centres(grid))


def _named(grid: tuple[int, int]) -> str:
    return f"{grid[0]}x{grid[1]}"


def _distances(grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(D_euclid, D_relative) [h w] of each pixel's centre to the crop's centre, in sevenths of the crop."""
    centres = _pixel_centres(grid)
    anchor = torch.full((1, 2), _UNITS_PER_CROP / 2)
    landmarks = torch.as_tensor(TEMPLATE_112, dtype=torch.float32) / 112 * _UNITS_PER_CROP
    euclid = torch.cdist(centres, anchor).squeeze(1)
    to_landmarks = torch.cdist(centres, landmarks) - torch.cdist(anchor, landmarks)
    relative = to_landmarks.norm(dim=1)
    return euclid, relative / relative.max().clamp_min(1e-6) * euclid.max()


def _pixel_centres(grid: tuple[int, int]) -> torch.Tensor:
    """(x, y) [h w, 2] of the middle of each pixel of a grid (h, w), row-major, in sevenths of the crop."""
    rows = (torch.arange(grid[0]) + 0.5) / grid[0]
    columns = (torch.arange(grid[1]) + 0.5) / grid[1]
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1) * _UNITS_PER_CROP


def _saliency(pixels: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """|s_i - s_anchor| in [0, 1]: pixels [b, h w, c] -> [b, h w]; the anchor is the pixel nearest the centre."""
    norms = pixels.norm(dim=-1)
    low, high = norms.amin(dim=1, keepdim=True), norms.amax(dim=1, keepdim=True)
    saliency = (norms - low) / (high - low).clamp_min(1e-6)
    anchor = (grid[0] // 2) * grid[1] + grid[1] // 2
    distances: torch.Tensor = (saliency - saliency[:, anchor : anchor + 1]).abs()
    return distances
