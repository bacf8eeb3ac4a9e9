"""The comparison as a picture: every seed's accuracy, mean and spread of each method, the teacher as a line."""

import io
from typing import TYPE_CHECKING

from facekd.comparison.figures import MethodFigures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from facekd.comparison.report import Comparison

_SEED, _MEAN, _TEACHER, _BASELINE = "#9bb8c4", "#1f6f8b", "#c8553d", "#7a7a7a"


def draw(comparison: "Comparison") -> bytes:
    """PNG: a panel a student, a row a method, the best on top, on the first of the comparison's sets."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    on = comparison.sets[0]
    summary = comparison.summary(on)
    students = list(dict.fromkeys(one.student for one in summary))
    rows = max(sum(one.student == student for one in summary) for student in students)
    # A Figure of its own, not pyplot: no global state, no display, nothing to close.
    figure = Figure(figsize=(3.2 + 4.6 * len(students), 1.9 + 0.36 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(students), squeeze=False)[0]
    for place, student in zip(axes, students, strict=True):
        _panel(place, comparison, [one for one in summary if one.student == student], on)
    figure.suptitle(f"{comparison.grid.name}: {comparison.grid.budget.describe()} a run", fontweight="bold")
    handles = {
        label: handle for place in axes for handle, label in zip(*place.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    return picture.getvalue()


def _panel(axes: "Axes", comparison: "Comparison", methods: list[MethodFigures], on: str) -> None:
    for row, one in enumerate(reversed(methods)):
        seeds = [
            100 * cell.accuracy[on]
            for cell in comparison.finished
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
        if one.method == comparison.grid.baseline:
            axes.axvline(100 * one.accuracy_mean, color=_BASELINE, linewidth=0.9, linestyle=":", label="undistilled")
    teacher = comparison.teacher_accuracy.get(on)
    if teacher is not None:
        axes.axvline(100 * teacher, color=_TEACHER, linewidth=1.2, linestyle="--", label="the teacher")
    axes.set_yticks(range(len(methods)), [one.method for one in reversed(methods)])
    axes.set_ylim(-0.7, len(methods) - 0.3)
    axes.set(title=methods[0].student, xlabel="verification accuracy, %")
    axes.grid(True, axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
