"""timm's own saves of its Transformers (github.com/huggingface/pytorch-image-models), with a layer to e or without."""

import json
from abc import ABC
from typing import Any, ClassVar

import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.models.architectures.timm_student import check_timm_name
from facekd.models.checkpoint import Checkpoint, Reading
from facekd.models.layouts.base import Imported, Layout, register_layout, square_grid
from facekd.models.registry import create_model
from facekd.schemas.input_spec import InputSpec

_SIZE = 112
_LARGEST_EMBEDDING = 1024
_CLASSIFIERS = (1000, 11221, 11821, 21841, 21843)
"""Outputs of ImageNet's classifiers, which are no embeddings."""

_WIDTHS = {"tiny": (192, 96), "small": (384, 96), "base": (768, 128), "large": (1024, 192)}  # ViT's, Swin's
_SAME_NETWORK = {f"vit_{size}_patch16_224": f"deit_{size}_patch16_224" for size in ("tiny", "small", "base")}
"""DeiT is ViT with ImageNet's mean and deviation in place of 0.5 for both."""


class TimmSave(Layout, ABC):
    """A state dict of a timm model; the shapes find its name among `names`, from which all the rest follows.

    Attributes:
        names: timm's, of the known sizes.
        head: name of the last layer's weights.
    """

    names: ClassVar[tuple[str, ...]]
    head: ClassVar[str] = "head.weight"
    rename = ((r"(.+)", r"body.\1"),)

    def network(self) -> Imported:
        """`timm_teacher` of that name, with its own head."""
        embedding, dropped = self._embedding()
        shapes = {
            name: tuple(value.shape)
            for name, value in self.renamed().items()
            if not (dropped and name.startswith(f"body.{self.head.removesuffix('weight')}"))
        }
        named = self.asked.model or self._stated_model()
        model, size = self._model_of(shapes, embedding, (named,) if named else self._candidates())
        state = {name: value for name, value in self.renamed().items() if name in shapes}
        arguments: dict[str, Any] = {"model": model, "img_size": size, "embedding_width": embedding, "neck": "timm"}
        notes = [f"timm's {model} at {size}x{size}"]
        if dropped:
            notes.append(f"its classifier of {dropped} outputs is left out: the embedding is what it reads")
        if named is None and model in _SAME_NETWORK:
            notes.append(f"--layout timm/{_SAME_NETWORK[model]} is the same network with ImageNet's mean and deviation")
        return Imported("timm_teacher", arguments, state, self._input(model, size), notes=tuple(notes))

    def _embedding(self) -> tuple[int | None, int]:
        """e of the layer after the pooling, or None; and the outputs of a classifier that stands there instead."""
        if self.head not in self.tensors:
            return None, 0
        outputs = self.shape(self.head, 2)[0]
        return (None, outputs) if outputs in _CLASSIFIERS or outputs > _LARGEST_EMBEDDING else (outputs, 0)

    def _stated_model(self) -> str | None:
        """The name that timm's training script saves, or that of the config.json beside a file of the Hub."""
        named = self.checkpoint.values.get("arch") or self._config().get("architecture")
        if not isinstance(named, str):
            return None
        check_timm_name(named)
        return named

    def _config(self) -> dict[str, Any]:
        file = self.source.parent / "config.json"
        try:
            config = json.loads(file.read_bytes()) if file.is_file() and file.stat().st_size < 2**20 else {}
        except (OSError, ValueError):
            return {}
        return config if isinstance(config, dict) else {}

    def _candidates(self) -> tuple[str, ...]:
        """The names whose width is the file's: each is built to compare it, which takes a moment."""
        width, _, patch, _ = self.shape("patch_embed.proj.weight", 4)
        return tuple(
            name
            for name in self.names
            if f"patch{patch}_" in name.replace("window", "patch4_window") + "_"
            and any(f"_{size}_" in name and width in widths for size, widths in _WIDTHS.items())
        )

    def _sizes(self) -> tuple[int, ...]:
        """Sides of images that the file may be for."""
        if self.asked.image_size is not None:
            return (self.asked.image_size,)
        if (
            "pos_embed" in self.tensors
            and self.tensors["pos_embed"].ndim == 3
            and "patch_embed.proj.weight" in self.tensors
        ):
            patch, tokens = self.shape("patch_embed.proj.weight", 4)[2], self.shape("pos_embed", 3)[1]
            sides = {side * patch for prefix in range(6) if (side := square_grid(tokens - prefix)) is not None}
            return tuple(sorted(sides))
        return (_SIZE, 224, 256, 384)

    def _model_of(
        self, shapes: dict[str, tuple[int, ...]], embedding: int | None, names: tuple[str, ...]
    ) -> tuple[str, int]:
        """The name and image size whose network has exactly these shapes."""
        problem = ""
        for size in self._sizes():
            fitting = []
            for name in names:
                try:
                    own = _shapes(name, size, embedding)
                except UsageError as error:
                    problem = problem or str(error)
                    continue
                if own == shapes:
                    fitting.append(name)
                problem = problem or _difference(name, own, shapes)
            if len(fitting) > 1:
                choices = " or ".join(f"--layout timm/{name}" for name in fitting)
                raise UsageError(f"{self.source} is {self.title}, and its shapes fit several of timm's: give {choices}")
            if fitting:
                return fitting[0], size
        if names and (self.asked.model or len(names) == 1):
            raise FacekdError(f"{self.source} does not fit timm's {names[0]}: {problem}")
        raise UsageError(
            f"{self.source} is {self.title} of a size that facekd does not know"
            + (f" ({problem})" if problem else "")
            + ": give its name in timm, --layout timm/NAME"
        )

    def _input(self, model: str, size: int) -> InputSpec:
        import timm

        stated = self._config().get("pretrained_cfg")
        config: Any = timm.get_pretrained_cfg(model)
        mean, std = config.mean, config.std
        if isinstance(stated, dict) and all(_is_colour(stated.get(part)) for part in ("mean", "std")):
            mean, std = stated["mean"], stated["std"]
        return InputSpec(size=(size, size), mean=_pixels(mean), std=_pixels(std))


@register_layout
class TimmVit(TimmSave):
    """ViT, DeiT and DINOv2, with registers or without; what the class token or the mean becomes."""

    name = "timm-vit"
    title = "a ViT of timm"
    needs = ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight", "blocks.0.norm1.weight")
    never = (
        (r"feature\..*|senet\..*", "its neck is arcface_torch's"),
        (r"blocks\.0\.attn\.q_bias|blocks\.0\.gamma_1", "its blocks are EVA's or BEiT's"),
        (r"keypoint_linear.*|.*\.rpe_[qkv]\..*", "it has relative position encodings"),
    )
    names = (
        "vit_tiny_patch16_224",
        "vit_small_patch16_224",
        "vit_small_patch32_224",
        "vit_small_patch8_224",
        "vit_base_patch16_224",
        "vit_base_patch32_224",
        "vit_base_patch8_224",
        "vit_large_patch16_224",
        "vit_large_patch14_224",
        "deit3_small_patch16_224",
        "deit3_base_patch16_224",
        "deit3_large_patch16_224",
        "vit_small_patch14_dinov2",
        "vit_base_patch14_dinov2",
        "vit_large_patch14_dinov2",
        "vit_small_patch14_reg4_dinov2",
        "vit_base_patch14_reg4_dinov2",
        "vit_large_patch14_reg4_dinov2",
    )


@register_layout
class TimmEva(TimmSave):
    """EVA-02 and DINOv3: rotary positions, which no file holds and the name tells."""

    name = "timm-eva"
    title = "an EVA-02 or DINOv3 of timm"
    needs = ("patch_embed.proj.weight", "blocks.0.norm1.weight")
    never = (
        (r"feature\..*|senet\..*", "its neck is arcface_torch's"),
        (r"blocks\.0\.attn\.relative_position_bias_table", "its blocks are BEiT's"),
    )
    names = (
        "eva02_tiny_patch14_224",
        "eva02_small_patch14_224",
        "eva02_base_patch14_224",
        "eva02_large_patch14_224",
        "eva02_base_patch16_clip_224",
        "eva02_large_patch14_clip_224",
        "vit_small_patch16_dinov3",
        "vit_small_plus_patch16_dinov3",
        "vit_base_patch16_dinov3",
        "vit_large_patch16_dinov3",
        "vit_tiny_patch16_dinov3_qkvb",
        "vit_small_patch16_dinov3_qkvb",
        "vit_small_plus_patch16_dinov3_qkvb",
        "vit_base_patch16_dinov3_qkvb",
        "vit_large_patch16_dinov3_qkvb",
    )

    @classmethod
    def fits(cls, checkpoint: Checkpoint, reading: Reading) -> bool:
        """By what EVA's blocks have and ViT's do not."""
        marks = ("q_bias", "q_proj.weight", "attn.norm.weight")
        marked = any(name in reading.tensors for name in (f"blocks.0.attn.{mark}" for mark in marks))
        rotary = "blocks.0.gamma_1" in reading.tensors and "pos_embed" not in reading.tensors
        return super().fits(checkpoint, reading) and (marked or rotary)


@register_layout
class TimmSwin(TimmSave):
    """Swin: the mean over the last map, then a linear layer."""

    name = "timm-swin"
    title = "a Swin of timm"
    needs = (
        "patch_embed.proj.weight",
        "layers.0.blocks.0.attn.relative_position_bias_table",
        "layers.1.downsample.reduction.weight",
        "norm.weight",
    )
    never = (
        (r"feature\..*", "its neck is SwinFace's"),
        (r".*\.attn\.logit_scale", "its attention is SwinV2's"),
        (r"layers\.0\.downsample\..*", "its names are Microsoft's: load it into timm's model and save that"),
    )
    head = "head.fc.weight"
    names = (
        "swin_tiny_patch4_window7_224",
        "swin_small_patch4_window7_224",
        "swin_base_patch4_window7_224",
        "swin_large_patch4_window7_224",
        "swin_base_patch4_window12_384",
        "swin_large_patch4_window12_384",
    )


@register_layout
class TimmSwinV2(TimmSave):
    """SwinV2, whose windows nothing in the file tells: without its name in timm, it is asked for."""

    name = "timm-swinv2"
    title = "a SwinV2 of timm"
    needs = (
        "patch_embed.proj.weight",
        "layers.0.blocks.0.attn.logit_scale",
        "layers.0.blocks.0.attn.q_bias",
        "layers.1.downsample.reduction.weight",
    )
    head = "head.fc.weight"
    names = (
        "swinv2_tiny_window8_256",
        "swinv2_tiny_window16_256",
        "swinv2_small_window8_256",
        "swinv2_small_window16_256",
        "swinv2_base_window8_256",
        "swinv2_base_window16_256",
        "swinv2_large_window12_192",
        "swinv2_large_window12to16_192to256",
    )


class TimmByName(TimmSave):
    """Any Transformer of timm, by the name that the user gives: `--layout timm/NAME`."""

    name = "timm/NAME"
    title = "a checkpoint of timm"

    def _embedding(self) -> tuple[int | None, int]:
        self.head = next((name for name in ("head.fc.weight", "head.weight") if name in self.tensors), "")  # type: ignore[misc]
        return super()._embedding()


def _shapes(model: str, size: int, embedding: int | None) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        built = create_model("timm_teacher", model=model, img_size=size, embedding_width=embedding, neck="timm")
    return {name: tuple(value.shape) for name, value in built.state_dict().items()}


def _difference(model: str, own: dict[str, tuple[int, ...]], shapes: dict[str, tuple[int, ...]]) -> str:
    """What of the file does not fit a model, in a few words."""
    missing, unknown = sorted(own.keys() - shapes.keys()), sorted(shapes.keys() - own.keys())
    bare = [name.removeprefix("body.") for name in (*missing, *unknown)]
    if missing:
        return f"it has no {', '.join(bare[:3])}" + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    if unknown:
        return f"{model} has no {', '.join(bare[:3])}"
    name = next((name for name in own if own[name] != shapes[name]), "")
    return f"{name.removeprefix('body.')} is {list(shapes[name])}, {model} has {list(own[name])}" if name else ""


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(one, int | float) for one in value)


def _pixels(values: Any) -> tuple[float, float, float]:
    """timm's fractions of 1 as pixel values of 0 to 255."""
    red, green, blue = (round(255 * float(value), 6) for value in values)
    return red, green, blue
