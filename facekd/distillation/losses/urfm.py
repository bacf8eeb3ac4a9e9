"""URFM, the Unified Receptive Fields Mapping ("Cross-Architecture Distillation for Face Recognition", ACM MM 2023).

Pixels of a Transformer and of a CNN see different parts of the face, so their maps cannot be compared position by
position. URFM maps both to L local features by attention from L shared learnable queries (local centres) over the
pixels, with a facial positional encoding on the pixel side, and compares those. It lives in training only.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.data.alignment import TEMPLATE_112
from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss

# Distances are in units of a seventh of the crop (16 of 112 pixels), whatever the grid, so that a position means the
# same to both networks.
_UNITS_PER_CROP = 7.0


class UrfmSettings(LossSettings):
    """Settings of URFM; the defaults are facekd's choices (the paper's values are not known to us).

    Attributes:
        local_centres: L, the number of local features.
        width: d, of the local features.
        heads: of both attentions.
        position: distance of the facial positional encoding besides the Euclidean: `none`, `saliency`, `relative`.
        face_weight: gamma of D = D_euclid + gamma D_face.
        attention_weight, feature_weight: of L_attn and L_feat in the student's term.
        adaptation_weight: of the same two losses in the teacher's term: how much the prompts and the teacher's
            projection move towards the student, which is held still there.
        anchor_weight: of the read-out that keeps the teacher's local features worth following.
        relay_weight: of the same read-out on the student's local features: they too must give the teacher's embedding.
        read_out: how local features give it: `linear`, a learned map of their mean; `neck`, each is mapped to one of
            the teacher's tokens and the teacher's own frozen neck does the rest (needs as many centres as tokens).
        centre_spread: standard deviation, in sevenths of the crop (16 of 112 pixels), of the Gaussian by which a
            centre prefers the pixels near its place; learned from there. None: centres have no place [paper].
        stop_gradient: hold the teacher's local features still in the student's term.
    """

    local_centres: int = Field(default=49, ge=1)
    width: int = Field(default=512, ge=8)
    heads: int = Field(default=8, ge=1)
    position: Literal["none", "saliency", "relative"] = "relative"
    face_weight: float = Field(default=1.0, ge=0)
    attention_weight: float = Field(default=1.0, ge=0)
    feature_weight: float = Field(default=1.0, ge=0)
    adaptation_weight: float = Field(default=0.1, ge=0)
    anchor_weight: float = Field(default=1.0, ge=0)
    relay_weight: float = Field(default=0.0, ge=0)
    read_out: Literal["linear", "neck"] = "linear"
    centre_spread: float | None = Field(default=None, gt=0)
    stop_gradient: bool = True

    @model_validator(mode="after")
    def _heads_divide(self) -> "UrfmSettings":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _places_fill_a_square(self) -> "UrfmSettings":
        if self.centre_spread is not None and math.isqrt(self.local_centres) ** 2 != self.local_centres:
            raise ValueError(f"centre_spread needs a square number of local_centres, not {self.local_centres}")
        return self


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
    """

    def __init__(self, *, width: int, position: Literal["none", "saliency", "relative"], face_weight: float) -> None:
        super().__init__()
        self.position = position
        self.face_weight = face_weight
        self.alpha, self.beta, self.gamma = 4.0, 8.0, 16.0
        self.buckets = nn.Embedding(int(self.beta) + 2, width)
        nn.init.normal_(self.buckets.weight, std=0.02)

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int], prompts: int) -> torch.Tensor:
        """Tokens [b, N + t, any], row-major grid then t prompts -> encodings [b or 1, N + t, width]."""
        euclid, relative = (distance.to(tokens.device) for distance in _distances(grid))
        distance = euclid.unsqueeze(0)
        if self.position == "relative":
            distance = distance + self.face_weight * relative
        elif self.position == "saliency":
            pixels = tokens[:, : grid[0] * grid[1]]
            distance = distance + self.face_weight * _saliency(pixels.detach().float(), grid) * euclid.max()
        index = piecewise_index(distance, alpha=self.alpha, beta=self.beta, gamma=self.gamma)
        nowhere = index.new_full((index.shape[0], prompts), int(self.beta) + 1)
        output: torch.Tensor = self.buckets(torch.cat([index, nowhere], dim=1))
        return output


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

    def __init__(self, *, centres: int, heads: int, spread: float) -> None:
        super().__init__()
        self.side = math.isqrt(centres)
        self.log_spread = nn.Parameter(torch.full((heads, 1, 1), math.log(spread)))

    def forward(self, grid: tuple[int, int], prompts: int) -> torch.Tensor:
        """Grid of the pixels and the number of prompts -> [heads, L, h w + prompts]."""
        device = self.log_spread.device
        distance = torch.cdist(_pixel_centres((self.side, self.side)), _pixel_centres(grid)).to(device)
        bias = (-(distance.square() / 2) * torch.exp(-2 * self.log_spread)).clamp_min(self._FARTHEST_BIAS)
        return functional.pad(bias, (0, prompts), value=self._PROMPT_BIAS)


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


@register_loss("urfm")
class UrfmLoss(DistillationLoss):
    """L_attn = MSE(Attn_T, Attn_S) and L_feat = MSE(MSA(h_T), MSA(h_S)) over unified local features [paper].

    facekd's choices. Attn are the L x L maps of the shared MSA, whose shape does not depend on the network; L_attn is
    multiplied by L^2 so that it does not vanish as maps grow. Both networks could make both losses zero by saying
    nothing, and the part of MSA(h) that all faces share would do most of it within a few steps; so four things stand
    against collapse: MSA(h) is standardised over the batch before it is compared (`standardise`); the teacher is held
    still in the student's term; the teacher's own step towards the student is weighted down (`adaptation_weight`);
    and its local features must still give the teacher's embedding through a read-out (`anchor`, 1 - cosine), which
    shapes the teacher's side when nothing else does. On request the same read-out is asked of the student's local
    features (`relay`): of all that the two maps could share, what tells faces apart counts most. With
    `read_out: neck` that is the teacher's own, frozen: the student's map is trained by a head that already recognises
    faces, instead of waiting for its own to learn it (as SimKD, CVPR 2022, reuses a classifier), and the relay's head
    is thrown away after training like all of URFM.
    """

    Settings = UrfmSettings
    needs_tokens = True

    def __init__(self, settings: UrfmSettings, shapes: Shapes) -> None:
        super().__init__()
        if shapes.teacher_width is None or shapes.teacher_grid is None:
            raise UsageError("urfm needs a teacher with tokens (a Swin or ViT bundle), this one gives embeddings alone")
        self.settings = settings
        self.grids = (shapes.teacher_grid, shapes.student_grid)
        width = settings.width
        self.centres = nn.Parameter(torch.randn(settings.local_centres, width))
        self.position = FacialPositionalEncoding(
            width=width, position=settings.position, face_weight=settings.face_weight
        )
        self.map_teacher = _mapping(settings, shapes.teacher_width)
        self.map_student = _mapping(settings, shapes.student_channels)
        self.attend = LocalSelfAttention(width=width, heads=settings.heads)
        if settings.read_out == "neck":
            tokens = math.prod(shapes.teacher_grid)
            if tokens != settings.local_centres:
                raise UsageError(
                    f"urfm: read_out = neck feeds the teacher's neck, which takes {tokens} tokens: "
                    f"local_centres must be {tokens}, not {settings.local_centres}"
                )
            self.read_out: nn.Module = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, shapes.teacher_width))
        else:
            self.read_out = nn.Linear(width, shapes.teacher_embedding)
        self.weights: Mapping[str, float] = {
            "attention": settings.attention_weight,
            "feature": settings.feature_weight,
            "adaptation": settings.adaptation_weight,
            "anchor": settings.anchor_weight,
            "relay": settings.relay_weight,
        }
        self._last: torch.Tensor | None = None

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        """Tokens of both networks -> the four parts, each a scalar."""
        if batch.teacher_tokens is None or batch.student_tokens is None:
            raise UsageError("urfm needs the token maps of both networks")
        teacher_tokens, prompts = batch.teacher_tokens, 0
        if batch.extra_tokens is not None:
            # f_T is the last stage's patch and prompt tokens together [paper].
            teacher_tokens = torch.cat([teacher_tokens, batch.extra_tokens], dim=1)
            prompts = batch.extra_tokens.shape[1]
        local_t = self.local_features(teacher_tokens, branch="teacher", prompts=prompts)
        local_s = self.local_features(batch.student_tokens, branch="student")
        features_t, attention_t = self._describe(local_t)
        features_s, attention_s = self._describe(local_s)
        self._last = local_t.detach()
        hold = torch.Tensor.detach if self.settings.stop_gradient else _keep
        parts = {
            "attention": self._attention_loss(hold(attention_t), attention_s),
            "feature": functional.mse_loss(hold(features_t), features_s),
        }
        if self.settings.adaptation_weight and self.settings.stop_gradient:
            parts["adaptation"] = self._attention_loss(attention_t, attention_s.detach()) + functional.mse_loss(
                features_t, features_s.detach()
            )
        if self.settings.anchor_weight:
            parts["anchor"] = self._read_out_loss(local_t, batch)
        if self.settings.relay_weight:
            parts["relay"] = self._read_out_loss(local_s, batch)
        return parts

    def local_features(
        self, tokens: torch.Tensor, *, branch: Literal["teacher", "student"], prompts: int = 0
    ) -> torch.Tensor:
        """Tokens [b, N + prompts, c] of a branch -> h [b, L, d]; L does not depend on N."""
        grid = self.grids[0] if branch == "teacher" else self.grids[1]
        mapping = self.map_teacher if branch == "teacher" else self.map_student
        position = self.position(tokens, grid, prompts)
        output: torch.Tensor = mapping(tokens, self.centres, position, grid=grid, prompts=prompts)
        return output

    def diagnostics(self) -> dict[str, float]:
        """Spread over samples and effective rank of the teacher's local features: both fall in a collapse."""
        if self._last is None:
            return {}
        local = self._last.float()
        varying = (local - local.mean(dim=0)).flatten(0, 1)
        return {"urfm.std": float(local.std(dim=0).mean()), "urfm.effective_rank": effective_rank(varying)}

    def _describe(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features, attention = self.attend(local)
        return standardise(features), attention

    def _read_out_loss(self, local: torch.Tensor, batch: DistillationBatch) -> torch.Tensor:
        """mean(1 - cos(read-out of the local features, the teacher's embedding))."""
        target = batch.teacher_embedding.detach().float()
        if self.settings.read_out == "linear":
            read = self.read_out(local.float().mean(dim=1))
        elif batch.teacher_head is None:
            raise UsageError("urfm: read_out = neck needs the teacher's neck")
        else:
            read = batch.teacher_head(self.read_out(local)).float()
        return (1 - functional.cosine_similarity(read, target, dim=1)).mean()

    def _attention_loss(self, attention_t: torch.Tensor, attention_s: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(attention_t, attention_s) * attention_t.shape[-1] ** 2


def _mapping(settings: UrfmSettings, channels: int) -> LocalMapping:
    places = None
    if settings.centre_spread is not None:
        places = CentrePlaces(centres=settings.local_centres, heads=settings.heads, spread=settings.centre_spread)
    return LocalMapping(channels=channels, width=settings.width, heads=settings.heads, places=places)


def standardise(features: torch.Tensor) -> torch.Tensor:
    """[b, L, d] minus the batch's mean at each place, over each channel's remaining standard deviation (float32).

    What differs from face to face is left, at unit scale: constant features have nothing to agree in.
    """
    varying = features.float() - features.float().mean(dim=0)
    return varying / varying.square().mean(dim=(0, 1)).add(1e-6).sqrt()


def effective_rank(rows: torch.Tensor) -> float:
    """exp of the entropy of the normalised singular values of [n, d] rows (Roy and Vetterli, 2007); 1 to d."""
    # Eigenvalues of the d x d Gram matrix: n may be thousands, d is hundreds.
    eigenvalues = torch.linalg.eigvalsh((rows.T @ rows).double()).clamp_min(0)
    share = eigenvalues.sqrt()
    share = share / share.sum().clamp_min(1e-12)
    share = share[share > 1e-12]
    return float(torch.exp(-(share * share.log()).sum())) if len(share) else 0.0


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
    output: torch.Tensor = (saliency - saliency[:, anchor : anchor + 1]).abs()
    return output


def _split(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[b, n, d] -> [b, heads, n, d / heads]."""
    output: torch.Tensor = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return output


def _merge(x: torch.Tensor) -> torch.Tensor:
    """[b, heads, n, d / heads] -> [b, n, d]."""
    return x.transpose(1, 2).flatten(2)


def _keep(x: torch.Tensor) -> torch.Tensor:
    return x
