"""arcface_torch's IResNet (github.com/deepinsight/insightface, recognition/arcface_torch), which CVLface has too."""

from facekd.models.layouts.base import Imported, Layout, arcface_centres, register_layout

# blocks of the four stages -> the model here
_SIZES = {
    (2, 2, 2, 2): "iresnet18",
    (3, 4, 6, 3): "iresnet34",
    (3, 4, 14, 3): "iresnet50",
    (3, 13, 30, 3): "iresnet100",
    (6, 26, 60, 6): "iresnet200",
}

_STAGES = (1, 2, 3, 4)


def _stage(number: int) -> tuple[tuple[str, str], ...]:
    at = rf"layer{number}\.(\d+)\."
    to = rf"stages.{number - 1}.\1."
    return (
        (at + r"(norm|bn)1\.(.+)", to + r"layers.norm1.\3"),
        (at + r"conv1\.(.+)", to + r"layers.conv1.\2"),
        (at + r"bn2\.(.+)", to + r"layers.norm2.\2"),
        (at + r"prelu\.(.+)", to + r"layers.activation.\2"),
        (at + r"conv2\.(.+)", to + r"layers.conv2.\2"),
        (at + r"bn3\.(.+)", to + r"layers.norm3.\2"),
        (at + r"downsample\.0\.(.+)", to + r"shortcut.conv.\2"),
        (at + r"downsample\.1\.(.+)", to + r"shortcut.norm.\2"),
    )


@register_layout
class ArcfaceIResNet(Layout):
    """18 to 200 layers; RGB; the raw output of its last batch norm."""

    name = "arcface-iresnet"
    title = "an arcface_torch IResNet"
    needs = (
        "conv1.weight",
        "prelu.weight",
        "layer1.0.prelu.weight",
        "layer4.0.downsample.0.weight",
        "fc.weight",
        "features.weight",
    )
    rename = (
        (r"conv1\.(.+)", r"stem.conv.\1"),
        (r"bn1\.(.+)", r"stem.norm.\1"),
        (r"prelu\.(.+)", r"stem.activation.\1"),
        *(pair for stage in _STAGES for pair in _stage(stage)),
        (r"bn2\.(.+)", r"head.norm_in.\1"),
        (r"fc\.(.+)", r"head.linear.\1"),
        (r"features\.(.+)", r"head.norm_out.\1"),
    )

    def network(self) -> Imported:
        """The `iresnet` of as many blocks."""
        blocks = tuple(self.depth(rf"layer{stage}\.(\d+)\.") for stage in _STAGES)
        if blocks not in _SIZES:
            known = ", ".join("-".join(map(str, size)) for size in _SIZES)
            raise self.error(f"its stages have {'-'.join(map(str, blocks))} blocks; known: {known}")
        arguments = {"embedding_width": self.shape("fc.weight", 2)[0]}
        return Imported(
            _SIZES[blocks], arguments, self.renamed(), centres=arcface_centres(self), notes=(_SIZES[blocks],)
        )
