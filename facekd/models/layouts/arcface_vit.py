"""arcface_torch's ViT, which LVFace has too (github.com/deepinsight/insightface, recognition/arcface_torch)."""

from typing import Any, ClassVar

from facekd.models.layouts.base import Imported, Layout, arcface_centres, register_layout, square_grid

# (width, depth) of the published sizes; all have 8 heads, and so has arcface_torch's code at every width.
_SIZES = {(256, 12): "T", (512, 12): "S", (512, 24): "B", (768, 24): "L", (1024, 48): "H"}
_HEADS = 8

FACE_VIT_NEEDS = (
    "patch_embed.proj.weight",
    "pos_embed",
    "blocks.0.attn.qkv.weight",
    "blocks.0.mlp.fc1.weight",
    "feature.2.weight",
)
"""Names of every ViT of arcface_torch's family."""

FACE_VIT_NEVER = (
    (r"blocks\.0\.norm1\.bn\.weight", "it normalises tokens by batch norm; only LayerNorm is supported"),
    (r"keypoint_linear.*|blocks\.0\.attn\.rpe_.*", "it has relative position encodings"),
    (r"mobilenet\..*", "it finds its patches by a MobileNet"),
)

_IMAGE = 112


class FaceVit(Layout):
    """A ViT without class token, ReLU6 in its MLP, whose flattened tokens go through Linear, BN, Linear, BN.

    Attributes:
        neck: of `vit_teacher`, and `neck_start`, the number there of the layer that the checkpoint calls feature.0.
    """

    needs: ClassVar[tuple[str, ...]] = FACE_VIT_NEEDS
    never: ClassVar[tuple[tuple[str, str], ...]] = FACE_VIT_NEVER
    rename: ClassVar[tuple[tuple[str, str | None], ...]] = ()
    neck: ClassVar[str] = "arcface_vit"
    neck_start: ClassVar[int] = 1

    def network(self) -> Imported:
        """`vit_teacher` with the dimensions of the shapes."""
        arguments = self.dimensions()
        arguments["num_heads"] = self.heads(arguments)
        state = self.renamed(leave_out=("mask_token",))  # serves masked training alone
        return Imported("vit_teacher", arguments, state, centres=arcface_centres(self), notes=self.notes(arguments))

    def heads(self, arguments: dict[str, Any]) -> int:
        """The attention heads of a network of these dimensions."""
        raise NotImplementedError

    def notes(self, arguments: dict[str, Any]) -> tuple[str, ...]:
        """What was decided."""
        return (f"{arguments['num_heads']} attention heads",)

    def dimensions(self) -> dict[str, Any]:
        """The arguments of `vit_teacher` but num_heads, read off the shapes."""
        width, _, patch, _ = self.shape("patch_embed.proj.weight", 4)
        tokens = self.shape("pos_embed", 3)[1]
        if square_grid(tokens) is None or (_IMAGE // patch) ** 2 != tokens:
            raise self.error(f"patch {patch} gives {(_IMAGE // patch) ** 2} tokens at {_IMAGE}x{_IMAGE}, not {tokens}")
        return {
            "img_size": _IMAGE,
            "patch_size": patch,
            "embed_dim": width,
            "depth": self.depth(r"blocks\.(\d+)\."),
            "mlp_ratio": self.shape("blocks.0.mlp.fc1.weight", 2)[0] / width,
            "qkv_bias": "blocks.0.attn.qkv.bias" in self.tensors,
            "mlp_activation": "relu6",
            "norm_eps": 1e-5,
            "embedding_width": self.shape("feature.2.weight", 2)[0],
            "neck": self.neck,
        }

    def _new_name(self, name: str) -> str | None:
        part, _, rest = name.partition(".")
        if part == "feature":
            index, _, rest = rest.partition(".")
            return f"neck.{int(index) + self.neck_start}.{rest}" if index.isdigit() else f"neck.{index}.{rest}"
        return super()._new_name(name) if part == "senet" else f"body.{name}"


@register_layout
class ArcfaceVit(FaceVit):
    """8 heads at every width, an MLP four times as wide."""

    name = "arcface-vit"
    title = "an arcface_torch ViT"
    never = (*FACE_VIT_NEVER, (r"senet\..*", "it has TransFace's token gate"))

    @classmethod
    def fits(cls, checkpoint: Any, reading: Any) -> bool:
        """By its names and the width of its MLP, which tells it from CVLface's."""
        return super().fits(checkpoint, reading) and _ratio(reading.tensors) == 4

    def heads(self, arguments: dict[str, Any]) -> int:
        """8: the published sizes, and what arcface_torch's code has where the user says that it is one."""
        width, depth, ratio = arguments["embed_dim"], arguments["depth"], arguments["mlp_ratio"]
        if ratio != 4:
            raise self.error(
                f"its MLP is {ratio:g} times as wide as its tokens, arcface_torch's 4 times (see cvlface-vit)"
            )
        known = _HEADS if self.asked.layout or (width, depth) in _SIZES else None
        return self.known_heads(
            f"width {width}, depth {depth}", known, width, examples="8 for T, S, B, L and H: --layout arcface-vit"
        )

    def notes(self, arguments: dict[str, Any]) -> tuple[str, ...]:
        """Its size, or that it has none of the published ones, as a file that lacks its last blocks; and its heads."""
        width, depth = arguments["embed_dim"], arguments["depth"]
        size = _SIZES.get((width, depth))
        unusual = f"no published size has width {width} and depth {depth}: make sure that the file is whole"
        return (f"ViT-{size}" if size else unusual, *super().notes(arguments))


def _ratio(tensors: Any) -> float:
    shape = tensors["blocks.0.mlp.fc1.weight"].shape
    return shape[0] / shape[-1] if len(shape) == 2 else 0.0
