"""CVLface's ViT (github.com/mk-minchul/CVLface): arcface_torch's names, other heads and another MLP."""

from typing import Any

from facekd.models.layouts.arcface_vit import FACE_VIT_NEVER, FaceVit
from facekd.models.layouts.base import Imported, register_layout
from facekd.models.layouts.cvlface import cvlface_input

# (width, depth, MLP's width over the tokens') -> (size, heads): both are 512 wide, and shapes do not tell the heads.
_SIZES = {(512, 12, 5.0): ("S", 8), (512, 24, 3.0): ("B", 16)}


@register_layout
class CvlfaceVit(FaceVit):
    """8 heads for S, 16 for B; RGB unless its model.yaml says BGR."""

    name = "cvlface-vit"
    title = "a CVLface ViT"
    never = (*FACE_VIT_NEVER, (r"senet\..*", "it has TransFace's token gate"))

    @classmethod
    def fits(cls, checkpoint: Any, reading: Any) -> bool:
        """By its names and the width of its MLP: arcface_torch's is 4 times its tokens'."""
        if not super().fits(checkpoint, reading):
            return False
        shape = reading.tensors["blocks.0.mlp.fc1.weight"].shape
        return len(shape) == 2 and shape[0] != 4 * shape[1]

    def network(self) -> Imported:
        """As the family's, with the input of its model.yaml."""
        return cvlface_input(super().network(), self.source)

    def heads(self, arguments: dict[str, Any]) -> int:
        """Of the published sizes."""
        width, depth, ratio = arguments["embed_dim"], arguments["depth"], arguments["mlp_ratio"]
        known = _SIZES.get((width, depth, ratio), (None, None))[1]
        return self.known_heads(
            f"width {width}, depth {depth}, MLP {ratio:g} times as wide", known, width, examples="8 for S, 16 for B"
        )
