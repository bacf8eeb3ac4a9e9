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
from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes, register_loss
from facekd.distillation.losses.facial_position import CentrePlaces, FacialPositionalEncoding
from facekd.distillation.losses.local_features import LocalMapping, LocalSelfAttention, effective_rank, standardise

_LOCAL_CENTRES = 49


class UrfmSettings(LossSettings):
    """Settings of URFM; the defaults are facekd's choices (the paper's values are not known to us).

    Attributes:
        local_centres: L, the number of local features; None: as many as the teacher has tokens where its neck reads
            them, else 49.
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

    local_centres: int | None = Field(default=None, ge=1, le=4096)
    width: int = Field(default=512, ge=8, le=16_384)
    heads: int = Field(default=8, ge=1, le=1024)
    position: Literal["none", "saliency", "relative"] = "relative"
    face_weight: float = Field(default=1.0, ge=0)
    attention_weight: float = Field(default=1.0, ge=0)
    feature_weight: float = Field(default=1.0, ge=0)
    adaptation_weight: float = Field(default=0.1, ge=0)
    anchor_weight: float = Field(default=1.0, ge=0)
    relay_weight: float = Field(default=0.0, ge=0)
    read_out: Literal["auto", "linear", "neck"] = "linear"
    centre_spread: float | None = Field(default=None, gt=0)
    stop_gradient: bool = True

    @model_validator(mode="after")
    def _heads_divide(self) -> "UrfmSettings":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _places_fill_a_square(self) -> "UrfmSettings":
        if self.centre_spread is not None and self.local_centres is not None:
            check_square(self.local_centres)
        return self


def check_square(centres: int) -> None:
    """Raises ValueError where so many centres do not fill a square, and have places."""
    if math.isqrt(centres) ** 2 != centres:
        raise ValueError(f"centre_spread needs a square number of local_centres, not {centres}")


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
        self.reads_neck = _reads_neck(settings, shapes)
        width, centres = settings.width, _local_centres(settings, math.prod(shapes.teacher_grid), self.reads_neck)
        self.centres = nn.Parameter(torch.randn(centres, width))
        self.position = FacialPositionalEncoding(
            width=width, position=settings.position, face_weight=settings.face_weight, grids=self.grids
        )
        self.map_teacher = _mapping(settings, shapes.teacher_width, centres, self.grids[0])
        self.map_student = _mapping(settings, shapes.student_channels, centres, self.grids[1])
        self.attend = LocalSelfAttention(width=width, heads=settings.heads)
        if self.reads_neck:
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
        local: torch.Tensor = mapping(tokens, self.centres, position, grid=grid, prompts=prompts)
        return local

    def diagnostics(self) -> dict[str, torch.Tensor]:
        """Spread over samples and effective rank of the teacher's local features: both fall in a collapse."""
        if self._last is None:
            return {}
        local = self._last.float()
        varying = (local - local.mean(dim=0)).flatten(0, 1)
        return {"urfm.std": local.std(dim=0).mean(), "urfm.effective_rank": effective_rank(varying)}

    def _describe(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features, attention = self.attend(local)
        return standardise(features), attention

    def _read_out_loss(self, local: torch.Tensor, batch: DistillationBatch) -> torch.Tensor:
        """mean(1 - cos(read-out of the local features, the teacher's embedding))."""
        target = batch.teacher_embedding.detach().float()
        if not self.reads_neck:
            read = self.read_out(local.float().mean(dim=1))
        elif batch.teacher_head is None:
            raise UsageError("urfm: read_out = neck needs the teacher's neck")
        else:
            read = batch.teacher_head(self.read_out(local)).float()
        return (1 - functional.cosine_similarity(read, target, dim=1)).mean()

    def _attention_loss(self, attention_t: torch.Tensor, attention_s: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(attention_t, attention_s) * attention_t.shape[-1] ** 2


def _reads_neck(settings: UrfmSettings, shapes: Shapes) -> bool:
    """Whether the read-out is the teacher's own neck."""
    if settings.read_out == "neck" and not shapes.teacher_head_reads_tokens:
        raise UsageError(
            "urfm: read_out = neck needs a teacher whose tokens give its embedding, this one's class token does: use "
            "read_out = auto or linear"
        )
    return settings.read_out == "neck" or (settings.read_out == "auto" and shapes.teacher_head_reads_tokens)


def _local_centres(settings: UrfmSettings, tokens: int, reads_neck: bool) -> int:
    """L: as settings say, else what the teacher's neck takes, else 49."""
    centres = settings.local_centres or (tokens if reads_neck else _LOCAL_CENTRES)
    if reads_neck and tokens != centres:
        raise UsageError(
            f"urfm: read_out = {settings.read_out} feeds the teacher's neck, which takes {tokens} tokens: "
            f"local_centres must be {tokens}, not {centres}"
        )
    if settings.centre_spread is not None:
        try:
            check_square(centres)
        except ValueError as error:
            raise UsageError(f"urfm: {error}") from None
    return centres


def _mapping(settings: UrfmSettings, channels: int, centres: int, grid: tuple[int, int]) -> LocalMapping:
    places = None
    if settings.centre_spread is not None:
        places = CentrePlaces(centres=centres, heads=settings.heads, spread=settings.centre_spread, grids=[grid])
    return LocalMapping(channels=channels, width=settings.width, heads=settings.heads, places=places)


def _keep(x: torch.Tensor) -> torch.Tensor:
    return x
