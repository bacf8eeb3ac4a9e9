"""ROC, DET and score plots of verification results, as one PNG a set or one for several models."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from facekd.common.errors import FacekdError
from facekd.common.text import plot_text
from facekd.evaluation.verification import VerificationResult, far_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GENUINE, IMPOSTOR = "#1f6f8b", "#c8553d"
CURVES = ("#1f6f8b", "#c8553d", "#5b8c3e", "#7a4e9c", "#c99a2e", "#4a4a4a")
PROBITS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)


def save_plots(file: BinaryIO, results: Sequence[VerificationResult], *, title: str) -> None:
    """Writes one PNG: ROC and DET with a curve a result, and under them a score histogram a result.

    Args:
        file: open for writing.
        results: one for each verification set (or model); their names go into the legend.
        title: the figure's heading.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FacekdError(
            f"plots need matplotlib ({error}): pip install 'facekd[plots]', or leave --out out"
        ) from error
    # A Figure of its own, not pyplot: no global state, no display, nothing to close.
    rows = 1 + (len(results) + 1) // 2
    figure = Figure(figsize=(11, 4.6 + 3.4 * (rows - 1)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, 2, height_ratios=[1.35] + [1] * (rows - 1))
    figure.suptitle(plot_text(title), fontsize=13, fontweight="bold")
    plot_roc(figure.add_subplot(grid[0, 0]), results)
    plot_det(figure.add_subplot(grid[0, 1]), results)
    for i, result in enumerate(results):
        alone = len(results) == 1
        plot_scores(figure.add_subplot(grid[1, :] if alone else grid[1 + i // 2, i % 2]), result)
    figure.savefig(file, format="png", dpi=130)


def plot_roc(axes: "Axes", results: Sequence[VerificationResult]) -> None:
    """True accept rate over false accept rate (logarithmic, down to one impostor), the reported points marked."""
    lowest_far, lowest_tar = 1.0, 1.0
    for colour, result in zip(_colours(results), results, strict=True):
        curve = result.roc()
        smallest = 1 / int((~result.issame).sum())
        measured = curve.far >= smallest
        axes.plot(
            curve.far[measured],
            curve.tar[measured],
            color=colour,
            drawstyle="steps-post",
            label=f"{plot_text(result.name)}  {result.accuracy_percent} %",
        )
        axes.plot(list(result.tar_at_far), list(result.tar_at_far.values()), "o", color=colour, markersize=5)
        if len(results) == 1:  # with more, the figures would lie on one another; the table has them
            for far, tar in result.tar_at_far.items():
                axes.annotate(
                    f"{tar:.2%}", (far, tar), textcoords="offset points", xytext=(5, -11), fontsize=8, color=colour
                )
        lowest_far = min(lowest_far, smallest)
        lowest_tar = min(lowest_tar, float(curve.tar[measured][0]))
    axes.set_xscale("log")
    axes.set_xlim(lowest_far / 1.5, 1)
    # The upper end is where models differ: a little below the lowest point shown, rather than all of 0 to 1.
    axes.set_ylim(lowest_tar - 0.15 * (1.0005 - lowest_tar), 1 + 0.05 * (1.0005 - lowest_tar))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}" if value <= 1 else "")
    axes.set(title="ROC", xlabel="false accept rate", ylabel="true accept rate")
    _finish(axes)


def plot_det(axes: "Axes", results: Sequence[VerificationResult]) -> None:
    """False reject over false accept rate on normal-deviate axes (Martin et al. 1997): normal scores give a line."""
    ticks = np.array(PROBITS)
    largest = 0.01
    for colour, result in zip(_colours(results), results, strict=True):
        curve = result.roc()
        inside = (curve.far > 0) & (curve.frr > 0)
        axes.plot(_probit(curve.far[inside]), _probit(curve.frr[inside]), color=colour, drawstyle="steps-post")
        axes.plot(
            _probit(result.eer),
            _probit(result.eer),
            "o",
            color=colour,
            label=f"{plot_text(result.name)}  EER {result.eer:.2%}",
        )
        largest = max(largest, 4 * result.eer, min(float(curve.frr[inside].max(initial=0)), 0.9))
    top = float(ticks[np.searchsorted(ticks, min(largest, ticks[-1]))])
    limits = _probit(np.array([PROBITS[0] / 1.5, top * 1.05]))
    shown = np.array(_apart(ticks[ticks <= top], 0.06 * float(limits[1] - limits[0])))
    axes.plot(limits, limits, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xticks(_probit(shown), [f"{100 * tick:g}" for tick in shown])
    axes.set_yticks(_probit(shown), [f"{100 * tick:g}" for tick in shown])
    axes.set(xlim=limits, ylim=limits, title="DET", xlabel="false accept rate, %", ylabel="false reject rate, %")
    _finish(axes)


def plot_scores(axes: "Axes", result: VerificationResult) -> None:
    """Histograms of the cosines of both kinds of pair, and the threshold of each reported FAR."""
    edges = [float(edge) for edge in np.linspace(min(-0.2, result.scores.min()), 1, 90)]
    highest = 0
    for which, colour, label in (
        (~result.issame, IMPOSTOR, "different people"),
        (result.issame, GENUINE, "same person"),
    ):
        scores = result.scores[which]
        axes.hist(scores, edges, color=colour, alpha=0.65, label=f"{label} ({len(scores):,})")
        highest = max(highest, int(np.histogram(scores, edges)[0].max()))
    top = 1.3 * highest  # room for the thresholds' names above the bars
    # The strictest highest: its name, left of its line, then stands above the other lines.
    for i, (far, threshold) in enumerate(reversed(result.threshold_cos.items())):
        height = top * (0.97 - 0.08 * i)
        axes.vlines(threshold, 0, height, color="#333333", linewidth=0.9, linestyle="--")
        axes.annotate(
            f"FAR {far_name(far)}: {threshold:.3f}",
            (threshold, height),
            textcoords="offset points",
            xytext=(-3, 0),
            fontsize=8,
            ha="right",
            va="top",
        )
    axes.set(
        title=f"{plot_text(result.name)}: scores", xlabel="cosine", ylabel="pairs", xlim=(edges[0], 1), ylim=(0, top)
    )
    _finish(axes, below=0.22)


def _probit(rate: "np.ndarray | float") -> np.ndarray:
    """The normal deviate: the inverse of the normal distribution function."""
    import torch

    clipped = np.clip(np.asarray(rate, dtype=np.float64), 1e-7, 1 - 1e-7)
    array: np.ndarray = torch.special.ndtri(torch.from_numpy(np.atleast_1d(clipped))).numpy()
    return array


def _apart(ticks: np.ndarray, least: float) -> list[float]:
    """Of rising rates those whose labels do not overlap, from the largest down: `least` normal deviates apart."""
    kept: list[float] = []
    for tick in reversed(ticks.tolist()):
        if not kept or float(_probit(kept[-1])[0] - _probit(tick)[0]) >= least:
            kept.append(tick)
    return kept[::-1]


def _colours(results: Sequence[VerificationResult]) -> list[str]:
    return [CURVES[i % len(CURVES)] for i in range(len(results))]


def _finish(axes: "Axes", *, below: float = 0.14) -> None:
    """A grid, and the legend under the axes (by a share of their height), where it hides no curve and no label."""
    axes.grid(True, which="major", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    count = len(axes.get_legend_handles_labels()[1])
    columns = 1 if any(len(text) > 40 for text in axes.get_legend_handles_labels()[1]) else min(count, 2)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -below), ncols=columns, fontsize=9, frameon=False)
