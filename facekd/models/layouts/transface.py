"""TransFace's ViT (ICCV 2023, github.com/DanJun6737/TransFace): arcface_torch's with a gate before the neck."""

from typing import Any

from facekd.models.layouts.arcface_vit import FACE_VIT_NEEDS, FaceVit
from facekd.models.layouts.base import register_layout

_SIZES = {(512, 12): "S", (512, 24): "B", (768, 24): "L"}


@register_layout
class TransFaceVit(FaceVit):
    """The first of its three outputs; the gate (`senet`) is part of inference. 8 heads."""

    name = "transface"
    title = "a TransFace ViT"
    needs = (*FACE_VIT_NEEDS, "senet.0.weight", "senet.2.weight")
    rename = (
        (r"senet\.0\.weight", "neck.0.layers.squeeze.weight"),
        (r"senet\.2\.weight", "neck.0.layers.excite.weight"),
    )
    neck = "transface"
    neck_start = 2

    def heads(self, arguments: dict[str, Any]) -> int:
        """8, as in arcface_torch."""
        width, depth = arguments["embed_dim"], arguments["depth"]
        known = 8 if self.asked.layout or (width, depth) in _SIZES else None
        return self.known_heads(f"width {width}, depth {depth}", known, width, examples="8 for S, B and L")
