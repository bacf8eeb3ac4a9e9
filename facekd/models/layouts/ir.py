"""The IR networks of AdaFace (CVPR 2022, github.com/mk-minchul/AdaFace) and CVLface: same names, other input."""

from typing import Any, ClassVar

from facekd.models.layouts.base import Imported, Layout, register_layout
from facekd.models.layouts.cvlface import cvlface_input
from facekd.schemas.input_spec import InputSpec

_SIZES: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34, (3, 4, 14, 3): 50, (3, 13, 30, 3): 101}
_BLOCK = r"body\.(\d+)\."
_WIDTHS = (64, 128, 256, 512)

# of a block's layers, by the numbers that they have in res_layer
_LAYERS = {"0": "norm1", "1": "conv1", "2": "norm2", "3": "activation", "4": "conv2", "5": "norm3"}


class Ir(Layout):
    """An IResNet whose first shortcut has no weights and whose last batch norm neither.

    Attributes:
        unit: whether its embedding has length 1.
    """

    needs = (
        "input_layer.0.weight",
        "output_layer.3.weight",
        "output_layer.4.running_mean",
        "body.0.res_layer.1.weight",
    )
    never = (
        (r"body\.\d+\.res_layer\.se_block\..*", "it is an IR-SE network; only IR is supported"),
        (
            r"body\.0\.res_layer\.[678]\..*",
            "its blocks are bottlenecks (IR-152, IR-200); 18, 34, 50 and 101 are supported",
        ),
    )
    rename = (
        (r"input_layer\.0\.(.+)", r"stem.conv.\1"),
        (r"input_layer\.1\.(.+)", r"stem.norm.\1"),
        (r"input_layer\.2\.(.+)", r"stem.activation.\1"),
        (r"output_layer\.0\.(.+)", r"head.norm_in.\1"),
        (r"output_layer\.3\.(.+)", r"head.linear.\1"),
        (r"output_layer\.4\.(.+)", r"head.norm_out.\1"),
    )
    unit: ClassVar[bool]

    def network(self) -> Imported:
        """`adaface_ir` with as many blocks."""
        self._places = self._stages()
        blocks = tuple(sum(stage == wanted for stage, _ in self._places) for wanted in range(4))
        arguments: dict[str, Any] = {
            "depths": list(blocks),
            "embedding_width": self.shape("output_layer.3.weight", 2)[0],
        }
        if not self.unit:
            arguments["unit"] = False
        size = _SIZES.get(blocks)
        notes = (f"IR-{size}" if size else f"blocks {'-'.join(map(str, blocks))}",)
        return Imported("adaface_ir", arguments, self.renamed(), notes=notes)

    def _stages(self) -> list[tuple[int, int]]:
        """(stage, number in it) of each block: the blocks run on without a break, so their widths tell."""
        places: list[tuple[int, int]] = []
        for block in range(self.depth(_BLOCK)):
            name = f"body.{block}.res_layer.1.weight"
            if name not in self.tensors:
                raise self.error(f"it has no {name}")
            width = self.shape(name, 4)[0]
            if width not in _WIDTHS:
                raise self.error(f"{name} has {width} channels; known: {', '.join(map(str, _WIDTHS))}")
            stage = _WIDTHS.index(width)
            places.append((stage, sum(before == stage for before, _ in places)))
        return places

    def _new_name(self, name: str) -> str | None:
        part, _, rest = name.partition(".")
        if part != "body":
            return super()._new_name(name)
        block, _, rest = rest.partition(".")
        stage, number = self._places[int(block)]
        layer, _, rest = rest.partition(".")
        index, _, rest = rest.partition(".")
        if layer == "shortcut_layer":
            return f"stages.{stage}.{number}.shortcut.{'conv' if index == '0' else 'norm'}.{rest}"
        return f"stages.{stage}.{number}.layers.{_LAYERS.get(index, index)}.{rest}"


@register_layout
class AdaFaceIr(Ir):
    """BGR; the first of its two outputs, of length 1. A Lightning checkpoint with the head beside the network."""

    name = "adaface-ir"
    title = "an AdaFace IR"
    unit = True

    @classmethod
    def fits(cls, checkpoint: Any, reading: Any) -> bool:
        """By the prefix `model.` or its head: bare names may be CVLface's too."""
        return super().fits(checkpoint, reading) and not reading.prefix.endswith("net.")

    def network(self) -> Imported:
        """Its network, its input and its class centres."""
        found = super().network()
        centres = self.centres(
            "head.kernel", "adaface" if "head.t" in self.reading.beside else "cosface", scale=64.0, margin=0.4
        )
        if centres is not None:
            centres = type(centres)(centres.tensor.T, centres.head, centres.arguments)
        return Imported(found.architecture, found.arguments, found.state, InputSpec(colour="BGR"), centres, found.notes)


@register_layout
class CvlfaceIr(Ir):
    """RGB unless its model.yaml says BGR; a raw embedding."""

    name = "cvlface-ir"
    title = "a CVLface IR"
    unit = False

    @classmethod
    def fits(cls, checkpoint: Any, reading: Any) -> bool:
        """By the prefix `net.`: bare names may be AdaFace's too."""
        if not super().fits(checkpoint, reading):
            return False
        return reading.prefix.endswith("net.") or (reading.prefix == "" and not reading.beside)

    def network(self) -> Imported:
        """Its network, with the input of its model.yaml."""
        return cvlface_input(super().network(), self.source)
