"""EdgeFace (arXiv 2307.01838, github.com/otroshi/edgeface): timm's EdgeNeXt, its linear layers split or whole."""

from facekd.models.architectures.edgeface import rank_of
from facekd.models.layouts.base import Imported, Layout, register_layout

# widths of the four stages -> timm's EdgeNeXt, the published split of it
_SIZES = {
    (24, 48, 88, 168): ("edgenext_xx_small", None),
    (32, 64, 100, 192): ("edgenext_x_small", 0.6),
    (48, 96, 160, 304): ("edgenext_small", 0.5),
    (80, 160, 288, 584): ("edgenext_base", None),
}


@register_layout
class EdgeFace(Layout):
    """XXS and base whole, XS with gamma 0.6, S with gamma 0.5; RGB."""

    name = "edgeface"
    title = "an EdgeFace"
    needs = ("stem.0.weight", "stages.3.blocks.0.conv_dw.weight", "head.norm.weight")
    rename = ((r"(.+)", r"body.\1"),)

    def network(self) -> Imported:
        """`edgeface` with the EdgeNeXt of these widths."""
        widths = tuple(
            self.shape(f"stages.{stage}.blocks.0.conv_dw.weight", 4)[0]
            if f"stages.{stage}.blocks.0.conv_dw.weight" in self.tensors
            else 0
            for stage in range(4)
        )
        if widths not in _SIZES:
            known = ", ".join("-".join(map(str, size)) for size in _SIZES)
            raise self.error(f"its stages are {'-'.join(map(str, widths))} wide; known: {known}")
        model, ratio = _SIZES[widths]
        if "head.fc.linear1.weight" in self.tensors:
            ratio = self._ratio(ratio)
            embedding = self.shape("head.fc.linear2.weight", 2)[0]
        elif "head.fc.weight" in self.tensors:
            ratio, embedding = None, self.shape("head.fc.weight", 2)[0]
        else:
            raise self.error("it has no head.fc.weight")
        arguments = {"model": model, "embedding_width": embedding, "rank_ratio": ratio}
        split = "linear layers whole" if ratio is None else f"linear layers split at gamma {ratio:g}"
        return Imported("edgeface", arguments, self.renamed(), notes=(f"timm's {model}, {split}",))

    def _ratio(self, published: float | None) -> float:
        """The share of the smaller side that gives the ranks of all split layers."""
        ranks = []
        for name in self.tensors:
            if name.endswith(".linear1.weight") and name.replace("linear1", "linear2") in self.tensors:
                rank, inside = self.shape(name, 2)
                ranks.append((inside, self.shape(name.replace("linear1", "linear2"), 2)[0], rank))
        for ratio in (*filter(None, (published,)), *(hundredths / 100 for hundredths in range(1, 101))):
            if all(rank_of(inside, outside, ratio) == rank for inside, outside, rank in ranks):
                return ratio
        raise self.error("the ranks of its split layers are no common share of their sides")
