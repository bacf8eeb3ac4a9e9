"""The sweep as pictures: accuracy of each method and seed, and accuracy against cost; the teacher as a line."""

import io
import math
from itertools import cycle
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from facekd.common.text import plot_text
from facekd.sweep.figures import MethodFigures
from facekd.sweep.result import SweepResult

_SEED, _MEAN, _TEACHER, _BASELINE = "#9bb8c4", "#1f6f8b", "#c8553d", "#7a7a7a"
_METHODS = ("#1f6f8b", "#d98e04", "#6a4c93", "#3a7d44", "#8c2f39", "#555555")  # one a method; then again


def draw(sweep: SweepResult) -> bytes:
    """PNG: a panel a student, a row a method, the best on top, on the first of the sweep's sets."""
    on = sweep.sets[0]
    summary = sweep.summary(on)
    students = list(dict.fromkeys(one.student for one in summary))
    rows = max(sum(one.student == student for one in summary) for student in students)
    # A Figure of its own, not pyplot: no global state, no display, nothing to close.
    across = math.ceil(math.sqrt(len(students)))
    down = math.ceil(len(students) / across)
    figure = Figure(figsize=(3.2 + 4.6 * across, 0.7 + down * (1.2 + 0.36 * rows)), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharex=True).flatten()
    for place in axes[len(students) :]:
        place.remove()
    for place, student in zip(axes, students, strict=False):
        _panel(place, sweep, [one for one in summary if one.student == student], on)
        place.tick_params(labelbottom=True)
    return _finish(figure, sweep)


def draw_cost(sweep: SweepResult) -> bytes:
    """PNG: accuracy against MACs, a colour a method, a mark a student; a line joins the sizes of one network."""
    on = sweep.sets[0]
    summary = sweep.summary(on)
    figure = Figure(figsize=(8.2, 5.4), layout="constrained")
    axes = figure.subplots()
    names: list[tuple[float, float, str]] = []
    for colour, method in zip(cycle(_METHODS), dict.fromkeys(one.method for one in summary), strict=False):
        families: dict[str, list[tuple[float, float]]] = {}
        for one in summary:
            if one.method == method:
                x, y = sweep.macs(method, one.student) / 1e6, 100 * one.accuracy_mean
                families.setdefault(sweep.family(method, one.student), []).append((x, y))
                spread = None if one.accuracy_std is None else 100 * one.accuracy_std
                axes.errorbar(
                    x, y, yerr=spread, fmt="D", color=colour, markersize=6, capsize=4, label=plot_text(method)
                )
                names.append((x, y, one.student))
        for points in families.values():
            axes.plot(*zip(*sorted(points), strict=True), color=colour, linewidth=1.2, alpha=0.6)
    teacher = sweep.teacher_accuracy.get(on)
    if teacher is not None:
        axes.axhline(100 * teacher, color=_TEACHER, linewidth=1.2, linestyle="--", label="the teacher")
    axes.set(xscale="log", xlabel="MMACs a face (log scale)", ylabel="verification accuracy, %")
    axes.xaxis.set_major_locator(FixedLocator(sorted({sweep.macs(o.method, o.student) / 1e6 for o in summary})))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.12)
    _rule(axes, "both")
    _name(axes, names)
    return _finish(figure, sweep)


def _name(axes: Axes, names: list[tuple[float, float, str]]) -> None:
    """Writes each name to the right of its point (x, y), moved up where it would cover the one below."""
    low, high = axes.get_ylim()
    line = (high - low) / 34  # the height of a name on a picture of 5.4 inches
    written: dict[float, float] = {}  # by x: where the highest name stands
    for x, y, name in sorted(names):
        written[x] = max(y, written.get(x, low) + line)
        axes.annotate(
            name,
            (x, written[x]),
            xytext=(8, -3),
            textcoords="offset points",
            fontsize=8,
            color="#444444",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )


def _finish(figure: Figure, sweep: SweepResult) -> bytes:
    """Title and one legend for all panels; the PNG."""
    FigureCanvasAgg(figure)
    figure.suptitle(f"{plot_text(sweep.grid.name)}: {sweep.grid.budget.describe()} a run", fontweight="bold")
    handles = {
        label: handle for place in figure.axes for handle, label in zip(*place.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    return picture.getvalue()


def _panel(axes: Axes, sweep: SweepResult, methods: list[MethodFigures], on: str) -> None:
    for row, one in enumerate(reversed(methods)):
        seeds = [
            100 * cell.accuracy[on]
            for cell in sweep.finished
            if (cell.method, cell.student) == (one.method, one.student)
        ]
        # Below the mean's mark, which would cover them.
        axes.plot(seeds, [row - 0.25] * len(seeds), "o", color=_SEED, markersize=5, label="a seed")
        spread = None if one.accuracy_std is None else 100 * one.accuracy_std
        axes.errorbar(
            100 * one.accuracy_mean,
            row,
            xerr=spread,
            fmt="D",
            color=_MEAN,
            markersize=6,
            capsize=4,
            label="mean and std over seeds",
        )
        if one.method == sweep.grid.baseline:
            axes.axvline(100 * one.accuracy_mean, color=_BASELINE, linewidth=0.9, linestyle=":", label="undistilled")
    teacher = sweep.teacher_accuracy.get(on)
    if teacher is not None:
        axes.axvline(100 * teacher, color=_TEACHER, linewidth=1.2, linestyle="--", label="the teacher")
    axes.set_yticks(range(len(methods)), [one.method for one in reversed(methods)])
    axes.set_ylim(-0.7, len(methods) - 0.3)
    axes.set(title=plot_text(methods[0].student), xlabel="verification accuracy, %")
    _rule(axes, "x")


def _rule(axes: Axes, direction: Literal["x", "both"]) -> None:
    """Faint lines to read values by, below what is drawn, and no frame on the far sides."""
    axes.grid(True, axis=direction, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
