"""How often a stranger is named, against the size of the gallery: by the threshold of one pair, and by the gallery's.

    python -m facekd.benchmarks.studies.gallery_size MODEL --faces lfw.bin --list lfw_pairs.txt --out fpir.png

Half of the people calibrate the thresholds, the other half are enrolled and search. --faces is any source with
identities; or a .bin set of pairs with --list, the list of pairs that names the people in its order (LFW's pairs.txt).
The picture and table of docs/app.md are made by this.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facekd.common.errors import FacekdError, require_modules
from facekd.common.printing import print_json
from facekd.common.table import Table
from facekd.data.opening import open_source
from facekd.data.pairs import read_pairs
from facekd.data.verification_bin import read_bin
from facekd.evaluation.calibration import calibrate
from facekd.evaluation.embedding import embed_images
from facekd.evaluation.gallery import GalleryRate, measure_galleries, split_people
from facekd.evaluation.labelled_faces import embed_labelled
from facekd.runtimes.embedder import Embedder
from facekd.runtimes.opening import open_model
from facekd.schemas.calibration import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
PROMISES = (1e-2, 1e-3)
COLOURS = {1e-2: "#1f6f8b", 1e-3: "#c8553d"}


class Photographs(Sequence[np.ndarray]):
    """The different photographs of a .bin set, whose people a list of pairs names.

    Attributes:
        identities: int64 [n]; photographs are in the order of the list.
    """

    def __init__(self, pairs: Path, listed: Path) -> None:
        self._set = read_bin(pairs)
        names = [str(photograph) for pair in read_pairs(listed).pairs for photograph in pair]
        if len(names) != self._set.num_images:
            raise FacekdError(f"{listed} names {len(names):,} images, {pairs} holds {self._set.num_images:,}")
        first: dict[str, int] = {}
        for at, name in enumerate(names):
            first.setdefault(name, at)
        self._places = list(first.values())
        people = dict.fromkeys(name.split("/")[0] for name in first)
        numbers = {person: number for number, person in enumerate(people)}
        self.identities = np.array([numbers[name.split("/")[0]] for name in first])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, i: int) -> np.ndarray:  # type: ignore[override]
        return self._set.image(self._places[i])


@dataclass(frozen=True)
class Curves:
    """What was measured for one promise.

    Attributes:
        promised: the FPIR.
        by_pair: the threshold of FAR = FPIR, whatever the gallery.
        by_gallery: that of FAR = FPIR / samples; without figures where the table ends before.
    """

    promised: float
    by_pair: list[GalleryRate]
    by_gallery: list[GalleryRate]


def measure(
    embeddings: np.ndarray, identities: np.ndarray, *, faces: str, sizes: Sequence[int] = SIZES
) -> tuple[Calibration, list[Curves]]:
    """Thresholds from a random half of the people, and how often the other half's strangers are named.

    Args:
        embeddings: float [n, e], flips added.
        identities: int [n].
        faces: what they are, for the table.
        sizes: of the gallery, one sample a person; those that the other half cannot fill are left out.
    """
    first, second = split_people(identities)
    table = calibrate(embeddings[first], identities[first], faces=f"half of {faces}", fingerprint="")
    others = embeddings[second], identities[second]
    possible = [size for size in sizes if size < len(np.unique(identities[second]))]
    rates = measure_galleries(*others, table, sizes=possible, promises=PROMISES)
    found = []
    for promise in PROMISES:
        pair = table.threshold_for(promise)
        if pair is None:
            raise FacekdError(f"{faces} supports no false accept rate of {promise:g}: give more people")
        # A table of this threshold alone gives it to every gallery.
        alone = table.model_copy(update={"thresholds": [pair.model_copy(update={"far": 1e-12})]})
        by_pair = measure_galleries(*others, alone, sizes=possible, promises=[promise])
        found.append(Curves(promise, by_pair, [rate for rate in rates if rate.promised == promise]))
    return table, found


def table(curves: Sequence[Curves]) -> Table:
    """A row a size and promise."""
    rows = []
    for one in curves:
        for pair, gallery in zip(one.by_pair, one.by_gallery, strict=True):
            supported = gallery.threshold_cos is not None
            rows.append(
                [
                    f"1 in {1 / one.promised:,.0f}",
                    f"{pair.people:,}",
                    _rate(pair),
                    _rate(gallery) if supported else "not supported",
                    f"{gallery.threshold_cos:.3f}" if supported else "",
                    "" if gallery.found is None else f"{100 * gallery.found:.1f}",
                ]
            )
    named = "strangers named, %, by the threshold of"
    return Table(["promise", "people", f"{named} one pair", f"{named} the gallery", "cosine >", "found, %"], rows)


def _rate(rate: GalleryRate) -> str:
    if rate.fpir is None or rate.fpir_low is None or rate.fpir_high is None:
        return ""
    return f"{100 * rate.fpir:.3g} ({100 * rate.fpir_low:.3g} to {100 * rate.fpir_high:.3g})"


def draw(path: Path, curves: Sequence[Curves], *, title: str) -> None:
    """PNG: strangers named against people enrolled, both on log scales; a colour a promise, bars are 95 % intervals."""
    require_modules("the picture", ["matplotlib"], extra="plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    # A Figure of its own, not pyplot: no global state, no display, nothing to close.
    figure = Figure(figsize=(8.6, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", ylim=(1.5e-4, 1.0))
    people = [rate.people for rate in curves[0].by_pair]
    axes.set_xlim(0.8, people[-1] * 3.2)
    for one in curves:
        _promise(axes, one, people[-1])
    axes.set(xlabel="people enrolled, one sample each", ylabel="strangers who are named")
    axes.xaxis.set_major_locator(FixedLocator(people))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_locator(FixedLocator([1e-3, 1e-2, 1e-1, 1]))
    axes.yaxis.set_major_formatter(lambda value, _: {1.0: "all"}.get(value, f"1 in {1 / value:,.0f}"))
    axes.grid(which="major", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=12, fontweight="bold", loc="left")
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=130)


def _promise(axes: "Axes", one: Curves, last: int) -> None:
    colour = COLOURS[one.promised]
    name = f"1 in {1 / one.promised:,.0f}"
    axes.axhline(one.promised, color=colour, linewidth=1, linestyle=(0, (4, 3)), alpha=0.7)
    kept = [rate for rate in one.by_gallery if rate.fpir]
    for rates, filled in ((one.by_pair, False), (kept, True)):
        shares = np.array([rate.fpir for rate in rates])
        low = shares - np.array([rate.fpir_low or 0 for rate in rates])
        high = np.array([rate.fpir_high or 0 for rate in rates]) - shares
        axes.errorbar(
            [rate.people for rate in rates],
            shares,
            yerr=[low, np.clip(high, 0, None)],
            fmt="o-" if filled else "o:",
            color=colour,
            markerfacecolor=colour if filled else "white",
            markersize=6,
            capsize=3,
            linewidth=2 if filled else 1.4,
        )
    top = one.by_pair[-1]
    label: dict[str, Any] = {"color": colour, "fontsize": 9.5, "va": "center", "textcoords": "offset points"}
    above = 8 if one.promised == max(PROMISES) else -8  # the two end near each other
    axes.annotate(f"threshold of one pair,\n“{name}”", (last, top.fpir or 1), xytext=(10, above), **label)
    end = kept[-1]
    ends = "" if end.people == last else "\n(the table ends here)"
    axes.annotate(f"threshold of the gallery,\n“{name}”{ends}", (end.people, one.promised), xytext=(10, -26), **label)


def main() -> None:
    """Prints the table, or JSON with --json, and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--faces", required=True, help="a source with identities, or with --list a .bin set of pairs")
    parser.add_argument("--list", type=Path, help="the list of pairs that names the people of the .bin")
    parser.add_argument("--out", type=Path, help="PNG to write")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        if given.out is not None and given.out.exists():
            raise FacekdError(f"{given.out} exists: choose another name")
        embedder = open_model(given.model, threads=given.threads)
        embeddings, identities = _embed(embedder, given.faces, given.list)
        calibration, curves = measure(embeddings, identities, faces=Path(given.faces).stem)
    except FacekdError as error:
        raise SystemExit(f"error: {error}") from None
    if given.out is not None:
        draw(given.out, curves, title=f"{given.model.stem} on {Path(given.faces).stem}: how often is a stranger named?")
    if given.json:
        rates = [rate.to_dict() for one in curves for rate in (*one.by_pair, *one.by_gallery)]
        print_json({"calibration": calibration.model_dump(), "rates": rates})
        return
    print(table(curves).markdown())
    rests_on = f"{calibration.identities:,} people, {calibration.impostor_pairs:,} pairs"
    print(f"\ncalibrated on {rests_on}: the lowest false accept rate is {calibration.lowest_far:.3g}")


def _embed(embedder: Embedder, faces: str, listed: Path | None) -> tuple[np.ndarray, np.ndarray]:
    watched = sys.stderr.isatty()
    if listed is None:
        found = embed_labelled(embedder, open_source(faces, size=embedder.input.size), progress=watched)
        return found.embeddings, found.identities
    photographs = Photographs(Path(faces), listed)
    return embed_images(embedder, photographs, progress=watched, description=faces), photographs.identities


if __name__ == "__main__":
    main()
