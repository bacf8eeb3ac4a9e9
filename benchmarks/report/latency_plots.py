"""The report's PNGs: latency against accuracy, percentiles, operators."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.benchmarks.report.select import label_of, latest, on_one_set, pareto_front
from facekd.common.errors import UsageError
from facekd.common.text import plot_text
from facekd.schemas.record import Record

COLOURS = ("#2a78d6", "#1baf7a", "#eda100", "#e34948", "#4a3aa7", "#008300", "#e87ba4", "#eb6834")
RUNTIMES = ("onnxruntime", "litert", "executorch", "torch", "coreml")
"""A runtime keeps its colour in every plot of every report; models on one runtime differ by their dashes."""
DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (8, 2, 2, 2)), (0, (12, 3)), (0, (1, 3)), (0, (5, 5, 1, 5)))
SHADES = ("#5b2a4e", "#7a3b69", "#995085", "#b46a9f", "#c988b6", "#dba8cc", "#e9c8df")
"""Operators have shades of one hue of their own, since other colours mean runtimes."""

SERIES = len(COLOURS)
LABEL_PT = 9.0
"""Size of a figure, and of a point with its rim."""


def write_plots(records: Sequence[Record], folder: Path) -> dict[str, Path]:
    """Writes what the records allow; title -> file."""
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError(f"a report needs matplotlib ({error}): pip install 'facekd[plots]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    newest = latest(records)
    written = {}
    for title, name, draw in (
        ("Latency against accuracy", "pareto.png", _pareto),
        ("Latency by percentile", "percentiles.png", _percentiles),
        ("Time by operator", "operators.png", _operators),
    ):
        figure, axes = pyplot.subplots(figsize=(9, 5), dpi=120)
        if draw(axes, newest):
            axes.set_title(title, loc="left")
            axes.spines[["top", "right"]].set_visible(False)
            figure.tight_layout()
            figure.savefig(folder / name)
            written[title] = folder / name
        pyplot.close(figure)
    return written


def colour_of(runtime: str) -> str:
    """Fixed by the runtime's name."""
    return COLOURS[RUNTIMES.index(runtime)] if runtime in RUNTIMES else "#898781"


def _pareto(axes: Any, records: Sequence[Record]) -> bool:
    points = on_one_set(records)
    if not points:
        return False
    values = [(r.latency.p50_ms, 100 * r.accuracy.accuracy) for r in points if r.accuracy is not None]
    for runtime in dict.fromkeys(r.setup.runtime for r in points):
        mine = [value for value, r in zip(values, points, strict=True) if r.setup.runtime == runtime]
        axes.scatter(*zip(*mine, strict=True), s=36, color=colour_of(runtime), label=plot_text(runtime), zorder=3)
    front = pareto_front(values)
    axes.step([values[i][0] for i in front], [values[i][1] for i in front], where="post", color="#898781", lw=1)
    axes.set(
        xlabel="p50 latency, ms",
        ylabel=f"accuracy, % ({plot_text(points[0].accuracy.dataset if points[0].accuracy else '')})",
    )
    axes.set_xscale("log")
    axes.margins(y=0.12)
    _plain(axes.xaxis)
    axes.grid(color="#e1e0d9", lw=0.6)
    # The front's points have numbers, their names stand below: names beside near points would cover one another.
    places = axes.transData.transform(values) * 72 / axes.figure.dpi
    for number, (i, offset) in enumerate(zip(front[:SERIES], label_offsets(places, front[:SERIES]), strict=True), 1):
        axes.annotate(
            str(number), values[i], xytext=(0, offset), textcoords="offset points", ha="center", va="center", fontsize=8
        )
        axes.plot([], [], ls="", marker=f"${number}$", color="#0b0b0b", mew=0, label=plot_text(label_of(points[i])))
    _legend_below(axes, None, columns=2)
    return True


def label_offsets(points: np.ndarray, labelled: Sequence[int]) -> list[float]:
    """How far above its point a figure stands so that it covers no point and no other figure.

    Args:
        points: [n, 2], in typographic points.
        labelled: rows of `points` that get a figure.
    """
    taken = [tuple(point) for point in points]
    offsets = []
    for row in labelled:
        x, y = points[row]
        near = [py - y for px, py in taken if abs(px - x) < LABEL_PT]
        tries = (LABEL_PT * step for step in range(1, 2 * len(near) + 2))  # a neighbour is in the way of two at most
        offsets.append(next(offset for offset in tries if all(abs(offset - other) >= LABEL_PT for other in near)))
        taken.append((x, y + offsets[-1]))
    return offsets


def _percentiles(axes: Any, records: Sequence[Record]) -> bool:
    records = [record for record in records if record.latency.quantiles_ms]
    if not records:
        return False
    seen: dict[str, int] = {}
    for record in records[:SERIES]:
        runtime = record.setup.runtime
        dashes = DASHES[seen.setdefault(runtime, 0) % len(DASHES)]
        seen[runtime] += 1
        quantiles = record.latency.quantiles_ms
        axes.plot(
            np.arange(101), quantiles, color=colour_of(runtime), ls=dashes, lw=1.8, label=plot_text(label_of(record))
        )
    axes.set(xlabel="percentile", ylabel="latency, ms", yscale="log")
    axes.grid(color="#e1e0d9", lw=0.6)
    _plain(axes.yaxis)
    _legend_below(axes, None if len(records) <= SERIES else f"the {SERIES} fastest", columns=2)
    return True


def _operators(axes: Any, records: Sequence[Record]) -> bool:
    timed = [r for r in records if r.operators is not None and any(o.ms for o in r.operators.operators)][:10]
    if not timed:
        return False
    totals: dict[str, float] = {}
    for record in timed:
        for operator in record.operators.operators if record.operators else []:
            totals[operator.operator] = totals.get(operator.operator, 0) + (operator.ms or 0)
    named = sorted(totals, key=lambda name: -totals[name])[: SERIES - 1]
    left = np.zeros(len(timed))
    for name, colour in [*zip(named, SHADES, strict=False), ("other", "#c3c2b7")]:
        widths = np.array(
            [
                sum(
                    o.ms or 0 for o in r.operators.operators if (o.operator if o.operator in named else "other") == name
                )
                if r.operators
                else 0
                for r in timed
            ]
        )
        if widths.any():
            axes.barh(
                range(len(timed)), widths, left=left, color=colour, label=plot_text(name), height=0.6, edgecolor="white"
            )
        left += widths
    axes.set_yticks(range(len(timed)), [plot_text(label_of(r)) for r in timed], fontsize=7)
    axes.invert_yaxis()
    axes.set(xlabel="ms in one inference")
    _legend_below(axes, None, columns=4)
    return True


def _plain(axis: Any) -> None:
    """Ticks of a logarithmic axis as numbers, not as powers of ten."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "235" else ""))


def _legend_below(axes: Any, title: str | None, *, columns: int) -> None:
    """Under the axes, where it covers nothing."""
    axes.legend(
        frameon=False,
        fontsize=7,
        title=title,
        title_fontsize=8,
        ncols=columns,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.12),
    )
