"""The Transformer teachers by name: Swin, SwinV2 and ViT by their dimensions, any Transformer of timm by its name."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from torch import nn

from facekd.common.errors import UsageError, one_line
from facekd.models.architectures.timm_student import check_timm_arguments, check_timm_name
from facekd.models.architectures.transformer import OWN_HEAD, TransformerTeacher
from facekd.models.registry import register_model

_NO_HEAD: dict[str, Any] = {"num_classes": 0, "global_pool": ""}


def _build(what: str, make: Callable[..., nn.Module], **arguments: Any) -> nn.Module:
    """timm checks its arguments by assertions and by failing; either way the caller's values were not valid."""
    try:
        return make(**arguments)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise UsageError(f"{what}: timm refuses {given} ({one_line(error)})") from error


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
    _check_stages("swin_teacher", embed_dim, depths, num_heads)
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
        **_NO_HEAD,
    )
    return TransformerTeacher(body=body, neck=neck, embedding_width=embedding_width, image_size=size)


@register_model(role="teacher")
def swinv2_teacher(
    *,
    img_size: int | tuple[int, int] = 112,
    patch_size: int = 4,
    embed_dim: int = 128,
    depths: Sequence[int] = (4, 6, 8),
    num_heads: Sequence[int] = (4, 8, 16),
    window_size: int = 7,
    mlp_ratio: float = 4.0,
    drop_path_rate: float = 0.1,
    embedding_width: int = 512,
    neck: str = "arcface_vit",
) -> TransformerTeacher:
    """Swin Transformer V2 (timm); the default is CVLface's: patch 4, three stages, 7x7x512 tokens."""
    from timm.models.swin_transformer_v2 import SwinTransformerV2

    size = _pair(img_size)
    _check_stages("swinv2_teacher", embed_dim, depths, num_heads)
    _check_patch("swinv2_teacher", size, patch_size)
    body = _build(
        "swinv2_teacher",
        SwinTransformerV2,
        img_size=size,
        patch_size=patch_size,
        embed_dim=embed_dim,
        depths=tuple(depths),
        num_heads=tuple(num_heads),
        window_size=window_size,
        mlp_ratio=mlp_ratio,
        drop_path_rate=drop_path_rate,
        **_NO_HEAD,
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
        **_NO_HEAD,
    )
    return TransformerTeacher(body=body, neck=neck, embedding_width=embedding_width, image_size=size)


@register_model(role="teacher")
def timm_teacher(
    *,
    model: str = "swin_tiny_patch4_window7_224",
    img_size: int | tuple[int, int] = 112,
    embedding_width: int | None = 512,
    neck: str | None = None,
    **body_arguments: Any,
) -> TransformerTeacher:
    """Any Transformer of timm by its timm name, at any image size that it takes; further arguments go to timm.

    Args:
        embedding_width: e; None with the neck "timm": no layer after the pooling.
        neck: as `TransformerTeacher`; None: "timm" where only a class token sees the whole face (CaiT, XCiT), else
            "flatten".
    """
    check_timm_name(model)
    check_timm_arguments(model, body_arguments)
    if neck is None:
        neck = OWN_HEAD if model.startswith(("cait", "xcit")) or embedding_width is None else "flatten"
    if embedding_width is None and neck != OWN_HEAD:
        raise UsageError(f"timm_teacher: the neck {neck!r} needs an embedding_width")
    head = {"num_classes": embedding_width or 0} if neck == OWN_HEAD else _NO_HEAD
    size = _pair(img_size)
    body = _build(f"timm_teacher {model!r}", partial(_create, model, size), **head, **body_arguments)
    width: Any = embedding_width or getattr(body, "head_hidden_size", None) or body.num_features
    return TransformerTeacher(body=body, neck=neck, embedding_width=width, image_size=size)


def _create(model: str, size: tuple[int, int], **arguments: Any) -> nn.Module:
    """timm's model for images of `size`; many do not ask for it, since any size fits them."""
    import timm

    try:
        body: nn.Module = timm.create_model(model, pretrained=False, img_size=size, **arguments)
    except TypeError as error:
        if "'img_size'" not in str(error):
            raise
        body = timm.create_model(model, pretrained=False, **arguments)
    return body


def _check_stages(what: str, embed_dim: int, depths: Sequence[int], num_heads: Sequence[int]) -> None:
    if len(depths) != len(num_heads):
        raise UsageError(f"{what}: depths {tuple(depths)} and num_heads {tuple(num_heads)} differ in length")
    for stage, heads in enumerate(num_heads):
        if heads < 1 or (embed_dim * 2**stage) % heads:
            raise UsageError(
                f"{what}: stage {stage + 1} is {embed_dim * 2**stage} wide, not divisible by {heads} heads"
            )


def _check_patch(what: str, size: tuple[int, int], patch_size: int) -> None:
    if not 1 <= patch_size <= min(size):
        raise UsageError(f"{what}: patch_size {patch_size} must be between 1 and the image's side {min(size)}")
