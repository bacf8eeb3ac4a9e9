"""A Transformer teacher: a timm body whose last tokens stand on a grid, and what makes an embedding of them."""

import math
import re
from typing import Any, Literal

import torch
from torch import nn

from facekd.common.errors import UsageError, one_line
from facekd.common.validation import shown
from facekd.models.architectures.necks import NECKS

Kind = Literal["swin", "swinv2", "vit", "eva", "other"]

OWN_HEAD = "timm"
"""The neck that is the body's own head: pooling, norm and linear layer, as timm saves them."""

_POOLS_OF_PATCHES = ("avg", "avgmax", "max")


class TransformerTeacher(nn.Module):
    """A timm body and a neck, with the token grid between them open to distillation.

    Args:
        body: a timm Transformer, built with `num_classes=0, global_pool=""`, or with its own head for the neck "timm".
        neck: a name of `NECKS`: "flatten" (Flatten, Linear without bias, BN), "arcface_vit" (Flatten, Linear, BN,
            Linear, BN, both without bias, as arcface_torch's ViT), "transface" (the same behind a gate a token);
            or "timm", the body's own head.
        embedding_width: e; for the neck "timm" it is what the body's head gives.
        image_size: (height, width) the body was built for, in pixels.

    Attributes:
        kind: of the body: "swin", "swinv2", "vit" or "eva", into which prompts can be put; "other" else.
        grid: (h, w) of the last stage's tokens; N = h * w.
        token_width: d.
        prefix_tokens: tokens before the grid (class, registers), which `forward_features` drops.
        head_reads_tokens: whether the grid's tokens alone give the embedding; a class token's head needs more.

    Raises:
        UsageError: the body is no Transformer, does not take such images, or the neck is unknown.
    """

    def __init__(
        self, *, body: nn.Module, neck: str = "flatten", embedding_width: int = 512, image_size: tuple[int, int]
    ) -> None:
        super().__init__()
        if neck not in NECKS and neck != OWN_HEAD:
            raise UsageError(f"unknown neck {shown(neck)}; valid: {', '.join((*NECKS, OWN_HEAD))}")
        if embedding_width < 1:
            raise UsageError(f"teacher: embedding_width {embedding_width} must be 1 or more")
        self.kind: Kind = _kind(body)
        timm_body: Any = body
        self.body: Any = timm_body
        self.embedding_width = embedding_width
        self.image_size = image_size
        self.token_width: int = timm_body.num_features
        self.prefix_tokens: int = getattr(timm_body, "num_prefix_tokens", 0)
        self._order, self.grid = _last_grid(timm_body, self.kind, image_size, self.prefix_tokens)
        self.head_reads_tokens = neck != OWN_HEAD or _pools_patches(timm_body, self.prefix_tokens)
        self.neck = (
            nn.Sequential()
            if neck == OWN_HEAD
            else NECKS[neck](self.grid[0] * self.grid[1], self.token_width, embedding_width)
        )
        self._own_head = neck == OWN_HEAD

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> last-stage tokens [b, N, d], row-major over the grid, no class token."""
        return self._tokens(self.body.forward_features(x))

    def forward_head(self, tokens: torch.Tensor) -> torch.Tensor:
        """Last-stage tokens [b, N, d] -> raw embeddings [b, e].

        Raises:
            UsageError: the body's own head reads a class token, which is none of the grid's.
        """
        if not self._own_head:
            output: torch.Tensor = self.neck(tokens)
            return output
        if not self.head_reads_tokens:
            raise UsageError(f"the head of {type(self.body).__name__} reads a class token, not the grid's tokens")
        return self._apply_own_head(self._features(tokens))

    def forward_both(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised images [b, 3, H, W] -> last-stage tokens [b, N, d] and raw embeddings [b, e], in one pass."""
        return self.finish(self.body.forward_features(x))

    def finish(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the body's `forward_features` gives -> the grid's tokens [b, N, d] and raw embeddings [b, e]."""
        tokens = self._tokens(features)
        return tokens, self._apply_own_head(features) if self._own_head else self.neck(tokens)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> raw embeddings [b, e]."""
        return self.forward_both(x)[1]

    def _apply_own_head(self, features: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.body.forward_head(features)
        return output

    def _tokens(self, features: torch.Tensor) -> torch.Tensor:
        if self._order == "channels last":
            features = features.flatten(1, 2)
        elif self._order == "channels first":
            features = features.flatten(2).transpose(1, 2)
        else:
            features = features[:, self.prefix_tokens :]
        return features

    def _features(self, tokens: torch.Tensor) -> torch.Tensor:
        """The inverse of `_tokens`; prefix tokens, which the head does not read, are zero."""
        if self._order == "channels last":
            features: torch.Tensor = tokens.unflatten(1, self.grid)
        elif self._order == "channels first":
            features = tokens.transpose(1, 2).unflatten(2, self.grid)
        else:
            nothing = tokens.new_zeros(len(tokens), self.prefix_tokens, tokens.shape[2])
            features = torch.cat([nothing, tokens], dim=1)
        return features


Order = Literal["channels last", "channels first", "sequence"]


def _kind(body: nn.Module) -> Kind:
    from timm.models.eva import Eva
    from timm.models.swin_transformer import SwinTransformer
    from timm.models.swin_transformer_v2 import SwinTransformerV2
    from timm.models.vision_transformer import VisionTransformer

    kinds: dict[type[nn.Module], Kind] = {
        SwinTransformer: "swin",
        SwinTransformerV2: "swinv2",
        VisionTransformer: "vit",
        Eva: "eva",
    }
    for cls, kind in kinds.items():
        if isinstance(body, cls):
            return kind
    if any(re.search(r"Attention|Attn", type(module).__name__) for module in body.modules()):
        return "other"
    raise UsageError(
        f"teacher: {type(body).__name__} is no teacher body, it has no attention; valid: timm's Transformers "
        "(SwinTransformer, VisionTransformer, ...)"
    )


def _last_grid(body: Any, kind: Kind, image_size: tuple[int, int], prefix_tokens: int) -> tuple[Order, tuple[int, int]]:
    """How `forward_features` orders its output, and (h, w) of the last stage."""
    if kind == "other":
        return _probed_grid(body, image_size, prefix_tokens)
    height, width = body.patch_embed.grid_size
    if kind in ("vit", "eva"):
        return "sequence", (height, width)
    # Patch merging pads an odd side, so each of the later stages has half the grid rounded up.
    for _ in range(body.num_layers - 1):
        height, width = (height + 1) // 2, (width + 1) // 2
    return "channels last", (height, width)


@torch.no_grad()
def _probed_grid(body: Any, image_size: tuple[int, int], prefix_tokens: int) -> tuple[Order, tuple[int, int]]:
    """The same from one image through the body."""
    name, training = type(body).__name__, body.training
    body.eval()
    try:
        parameter = next(body.parameters())
        shape = body.forward_features(torch.zeros(1, 3, *image_size, device=parameter.device)).shape
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(
            f"teacher: timm's {name} does not take images of {image_size[0]}x{image_size[1]} ({one_line(error)}); "
            "choose another model"
        ) from error
    finally:
        body.train(training)
    if len(shape) == 4 and shape[1] == body.num_features:
        return "channels first", (shape[2], shape[3])
    if len(shape) == 4 and shape[3] == body.num_features:
        return "channels last", (shape[1], shape[2])
    if len(shape) == 3 and shape[2] == body.num_features:
        side = math.isqrt(shape[1] - prefix_tokens)
        if side**2 == shape[1] - prefix_tokens:
            return "sequence", (side, side)
    raise UsageError(f"teacher: the features of timm's {name} are {list(shape)}, which stand on no grid")


def _pools_patches(body: Any, prefix_tokens: int) -> bool:
    """Whether the body's own head reads the grid's tokens alone."""
    if prefix_tokens == 0:
        return True
    pool, attention = getattr(body, "global_pool", ""), getattr(body, "attn_pool", None)
    return pool in _POOLS_OF_PATCHES and attention is None and not getattr(body, "pool_include_prefix", False)
