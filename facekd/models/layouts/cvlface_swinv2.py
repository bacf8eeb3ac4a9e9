"""CVLface's SwinV2 (github.com/mk-minchul/CVLface): torchvision's names, three stages, windows of 7x7."""

import re

from facekd.models.checkpoint import Tensors
from facekd.models.layouts.base import Imported, Layout, register_layout
from facekd.models.layouts.cvlface import cvlface_input

_WINDOW = 7


@register_layout
class CvlfaceSwinV2(Layout):
    """Its heads show in logit_scale; the windows' tables, which the file holds too, are computed here."""

    name = "cvlface-swinv2"
    title = "a CVLface SwinV2"
    needs = (
        "features.0.0.weight",
        "features.1.attn.logit_scale",
        "features.1.attn.cpb_mlp.0.weight",
        "feature.0.weight",
        "feature.2.weight",
    )
    never = ((r"keypoint_linear.*|.*\.rpe_.*", "it has relative position encodings of keypoints"),)
    rename = (
        (r".*\.relative_(coords_table|position_index)", None),
        (r"features\.0\.0\.(.+)", r"body.patch_embed.proj.\1"),
        (r"features\.0\.2\.(.+)", r"body.patch_embed.norm.\1"),
        (r"norm\.(.+)", r"body.norm.\1"),
        (r"feature\.0\.(.+)", r"neck.1.\1"),
        (r"feature\.1\.(.+)", r"neck.2.\1"),
        (r"feature\.2\.(.+)", r"neck.3.\1"),
        (r"feature\.3\.(.+)", r"neck.4.\1"),
    )

    def network(self) -> Imported:
        """`swinv2_teacher` with the stages that the names show."""
        stages = self._stages()
        self._places = {
            part: f"body.layers.{stage}.blocks.{block}"
            for stage, parts in enumerate(stages)
            for block, part in enumerate(parts)
        } | {parts[0] - 1: f"body.layers.{stage}.downsample" for stage, parts in enumerate(stages) if stage}
        width, _, patch, _ = self.shape("features.0.0.weight", 4)
        heads = [self.shape(f"features.{parts[0]}.attn.logit_scale", 3)[0] for parts in stages]
        arguments = {
            "patch_size": patch,
            "embed_dim": width,
            "depths": [len(parts) for parts in stages],
            "num_heads": heads,
            "window_size": _WINDOW,
            "embedding_width": self.shape("feature.2.weight", 2)[0],
            "neck": "arcface_vit",
        }
        found = Imported("swinv2_teacher", arguments, _split_bias(self.renamed()), notes=(f"heads {heads}",))
        return cvlface_input(found, self.source)

    def _stages(self) -> list[list[int]]:
        """The numbers of each stage's blocks; a merging stands between two stages."""
        stages: list[list[int]] = [[]]
        for part in range(1, self.depth(r"features\.(\d+)\.")):
            if f"features.{part}.attn.logit_scale" in self.tensors:
                stages[-1].append(part)
            elif f"features.{part}.reduction.weight" in self.tensors and stages[-1]:
                stages.append([])
            else:
                raise self.error(f"features.{part} is neither a block nor a merging")
        if not stages[-1]:
            raise self.error("its last stage has no blocks")
        return stages

    def _new_name(self, name: str) -> str | None:
        found = re.fullmatch(r"features\.([1-9]\d*)\.(.+)", name)
        if found is None or name.endswith(("relative_coords_table", "relative_position_index")):
            return super()._new_name(name)
        rest = re.sub(r"^mlp\.0\.", "mlp.fc1.", found[2])
        return f"{self._places[int(found[1])]}.{re.sub(r'^mlp[.]3[.]', 'mlp.fc2.', rest)}"


def _split_bias(state: Tensors) -> Tensors:
    """timm keeps the queries' and values' biases apart, and has none for keys; CVLface sets the keys' to 0."""
    split: Tensors = {}
    for name, value in state.items():
        if name.endswith("attn.qkv.bias"):
            queries, _, values = value.chunk(3)
            at = name.removesuffix("qkv.bias")
            split[f"{at}q_bias"], split[f"{at}v_bias"] = queries, values
        else:
            split[name] = value
    return split
