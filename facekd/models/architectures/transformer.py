"""Transformer teachers: a timm Swin or ViT body that yields a token grid, and a neck that makes it an embedding."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.models.architectures.timm_student import check_timm_arguments, check_timm_name
from facekd.models.registry import register_model

Kind = Literal["swin", "vit"]


class TransformerTeacher(nn.Module):
    """A timm body and a neck, with the token grid between them open to distillation.

    Args:
        body: `timm.models.swin_transformer.SwinTransformer` or `timm.models.vision_transformer.VisionTransformer`,
            built with `num_classes=0, global_pool=""`.
        neck: a name of `NECKS`: "flatten" (Flatten, Linear without bias, BN) or "arcface_vit" (Flatten, Linear, BN,
            Linear, BN, both without bias, as arcface_torch's ViT).
        embedding_width: e.
        image_size: (height, width) the body was built for, in pixels.

    Attributes:
        kind: "swin" or "vit".
        grid: (h, w) of the last stage's tokens; N = h * w.
        token_width: d.
        prefix_tokens: tokens before the grid (class, registers), which `forward_features` drops.

    Raises:
        UsageError: the body is neither, or the neck is unknown.
    """

    def __init__(
        self, *, body: nn.Module, neck: str = "flatten", embedding_width: int = 512, image_size: tuple[int, int]
    ) -> None:
        super().__init__()
        if neck not in NECKS:
            raise UsageError(f"unknown neck {neck!r}; valid: {', '.join(NECKS)}")
        if embedding_width < 1:
            raise UsageError(f"teacher: embedding_width {embedding_width} must be 1 or more")
        self.kind: Kind = _kind(body)
        timm_body: Any = body
        self.body: Any = timm_body
        self.embedding_width = embedding_width
        self.image_size = image_size
        self.token_width: int = timm_body.num_features
        self.prefix_tokens: int = getattr(timm_body, "num_prefix_tokens", 0)
        self.grid = _last_grid(timm_body, self.kind)
        self.neck = NECKS[neck](self.grid[0] * self.grid[1], self.token_width, embedding_width)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> last-stage tokens [b, N, d], row-major over the grid, no class token."""
        features: torch.Tensor = self.body.forward_features(x)
        if self.kind == "swin":
            return features.flatten(1, 2)
        return features[:, self.prefix_tokens :]

    def forward_head(self, tokens: torch.Tensor) -> torch.Tensor:
        """Last-stage tokens [b, N, d] -> raw embeddings [b, e]."""
        output: torch.Tensor = self.neck(tokens)
        return output

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> raw embeddings [b, e]."""
        return self.forward_head(self.forward_features(x))


def _flatten_neck(tokens: int, width: int, embedding_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(1), nn.Linear(tokens * width, embedding_width, bias=False), nn.BatchNorm1d(embedding_width)
    )


def _arcface_vit_neck(tokens: int, width: int, embedding_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(1),
        nn.Linear(tokens * width, width, bias=False),
        nn.BatchNorm1d(width, eps=2e-5),
        nn.Linear(width, embedding_width, bias=False),
        nn.BatchNorm1d(embedding_width, eps=2e-5),
    )


# name -> function(tokens N, token width d, embedding width e) that maps [b, N, d] to [b, e].
NECKS: dict[str, Callable[[int, int, int], nn.Sequential]] = {
    "flatten": _flatten_neck,
    "arcface_vit": _arcface_vit_neck,
}


def _kind(body: nn.Module) -> Kind:
    from timm.models.swin_transformer import SwinTransformer
    from timm.models.vision_transformer import VisionTransformer

    kinds: dict[type[nn.Module], Kind] = {SwinTransformer: "swin", VisionTransformer: "vit"}
    for cls, kind in kinds.items():
        if isinstance(body, cls):
            return kind
    raise UsageError(
        f"teacher: {type(body).__name__} is no teacher body; valid: timm SwinTransformer, VisionTransformer"
    )


def _last_grid(body: Any, kind: Kind) -> tuple[int, int]:
    height, width = body.patch_embed.grid_size
    if kind == "vit":
        return height, width
    # Patch merging pads an odd side, so each of the later stages has half the grid rounded up.
    for _ in range(body.num_layers - 1):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def _build(what: str, make: Callable[..., nn.Module], **arguments: Any) -> nn.Module:
    """timm checks its arguments by assertions and by failing; either way the caller's values were not valid."""
    try:
        return make(**arguments)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise UsageError(f"{what}: timm refuses {given} ({error or type(error).__name__})") from error


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


@register_model(role="teacher")
def swin_teacher(
    *,
    img_size: int | tuple[int, int] = 112,
    patch_size: int = 4,
    embed_dim: int = 64,
    depths: Sequence[int] = (2, 4, 6),
    num_heads: Sequence[int] = (2, 4, 8),
    window_size: int = 7,
    mlp_ratio: float = 4.0,
    drop_path_rate: float = 0.1,
    embedding_width: int = 512,
    neck: str = "flatten",
) -> TransformerTeacher:
    """Swin Transformer (timm); the default is the shared teacher: patch 4, three stages, 7x7x256 tokens."""
    from timm.models.swin_transformer import SwinTransformer

    size = _pair(img_size)
    if len(depths) != len(num_heads):
        raise UsageError(f"swin_teacher: depths {tuple(depths)} and num_heads {tuple(num_heads)} differ in length")
    for stage, heads in enumerate(num_heads):
        if heads < 1 or (embed_dim * 2**stage) % heads:
            raise UsageError(
                f"swin_teacher: stage {stage + 1} is {embed_dim * 2**stage} wide, not divisible by {heads} heads"
            )
    _check_patch("swin_teacher", size, patch_size)
    body = _build(
        "swin_teacher",
        SwinTransformer,
        img_size=size,
        patch_size=patch_size,
        embed_dim=embed_dim,
        depths=tuple(depths),
        num_heads=tuple(num_heads),
        window_size=window_size,
        mlp_ratio=mlp_ratio,
        drop_path_rate=drop_path_rate,
        num_classes=0,
        global_pool="",
    )
    return TransformerTeacher(body=body, neck=neck, embedding_width=embedding_width, image_size=size)


@register_model(role="teacher")
def vit_teacher(
    *,
    img_size: int | tuple[int, int] = 112,
    patch_size: int = 8,
    embed_dim: int = 512,
    depth: int = 12,
    num_heads: int = 8,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    mlp_activation: Literal["gelu", "relu6"] = "gelu",
    norm_eps: float = 1e-6,
    class_token: bool = False,
    drop_path_rate: float = 0.1,
    embedding_width: int = 512,
    neck: str = "flatten",
) -> TransformerTeacher:
    """Vision Transformer (timm) without class token; the default is CVLface's: patch 8, 14x14x512 tokens, depth 12."""
    from timm.models.vision_transformer import VisionTransformer

    size = _pair(img_size)
    activations = {"gelu": nn.GELU, "relu6": nn.ReLU6}
    if mlp_activation not in activations:
        raise UsageError(f"vit_teacher: unknown mlp_activation {mlp_activation!r}; valid: {', '.join(activations)}")
    if num_heads < 1 or embed_dim % num_heads:
        raise UsageError(f"vit_teacher: embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
    _check_patch("vit_teacher", size, patch_size)
    body = _build(
        "vit_teacher",
        VisionTransformer,
        img_size=size,
        patch_size=patch_size,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=mlp_ratio,
        qkv_bias=qkv_bias,
        act_layer=activations[mlp_activation],
        norm_layer=partial(nn.LayerNorm, eps=norm_eps),
        class_token=class_token,
        drop_path_rate=drop_path_rate,
        num_classes=0,
        global_pool="",
    )
    return TransformerTeacher(body=body, neck=neck, embedding_width=embedding_width, image_size=size)


@register_model(role="teacher")
def timm_teacher(
    *,
    model: str = "swin_tiny_patch4_window7_224",
    img_size: int | tuple[int, int] = 112,
    embedding_width: int = 512,
    neck: str = "flatten",
    **body_arguments: Any,
) -> TransformerTeacher:
    """Any Swin or ViT of timm by its timm name, at any image size; further arguments go to timm."""
    check_timm_name(model)
    check_timm_arguments(model, body_arguments)
    import timm

    size = _pair(img_size)
    body = _build(
        f"timm_teacher {model!r}",
        partial(timm.create_model, model, pretrained=False),
        img_size=size,
        num_classes=0,
        global_pool="",
        **body_arguments,
    )
    return TransformerTeacher(body=body, neck=neck, embedding_width=embedding_width, image_size=size)


def _check_patch(what: str, size: tuple[int, int], patch_size: int) -> None:
    if not 1 <= patch_size <= min(size):
        raise UsageError(f"{what}: patch_size {patch_size} must be between 1 and the image's side {min(size)}")
