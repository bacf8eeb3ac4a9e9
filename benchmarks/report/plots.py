"""The report's PNGs: latency against accuracy, percentiles, operators."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.benchmarks.record import Record
from facekd.benchmarks.report.select import label_of, latest, pareto_front
from facekd.errors import UsageError

COLOURS = ("#2a78d6", "#1baf7a", "#eda100", "#008300", "#4a3aa7", "#e34948", "#e87ba4", "#eb6834")
RUNTIMES = ("onnxruntime", "litert", "executorch", "torch", "coreml")
"""A runtime keeps its colour in every report."""

SERIES = len(COLOURS)


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
    points = [r for r in records if r.accuracy is not None]
    if not points:
        return False
    values = [(r.latency.p50_ms, 100 * r.accuracy.accuracy) for r in points if r.accuracy is not None]
    for runtime in dict.fromkeys(r.setup.runtime for r in points):
        mine = [value for value, r in zip(values, points, strict=True) if r.setup.runtime == runtime]
        axes.scatter(*zip(*mine, strict=True), s=36, color=colour_of(runtime), label=runtime, zorder=3)
    front = pareto_front(values)
    axes.step([values[i][0] for i in front], [values[i][1] for i in front], where="post", color="#898781", lw=1)
    for i in front[:SERIES]:
        text = f"{points[i].model.name}, {points[i].setup.threads} thr"
        axes.annotate(text, values[i], xytext=(6, -10), textcoords="offset points", fontsize=7, color="#52514e")
    axes.set(
        xlabel="p50 latency, ms", ylabel=f"accuracy, % ({points[0].accuracy.dataset if points[0].accuracy else ''})"
    )
    axes.set_xscale("log")
    _plain(axes.xaxis)
    axes.grid(color="#e1e0d9", lw=0.6)
    axes.legend(frameon=False, fontsize=8)
    return True


def _percentiles(axes: Any, records: Sequence[Record]) -> bool:
    records = [record for record in records if record.latency.quantiles_ms]
    if not records:
        return False
    for record, colour in zip(records[:SERIES], COLOURS, strict=False):
        axes.plot(np.arange(101), record.latency.quantiles_ms, color=colour, lw=1.8, label=label_of(record))
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
    for name, colour in [*zip(named, COLOURS, strict=False), ("other", "#c3c2b7")]:
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
            axes.barh(range(len(timed)), widths, left=left, color=colour, label=name, height=0.6, edgecolor="white")
        left += widths
    axes.set_yticks(range(len(timed)), [label_of(r) for r in timed], fontsize=7)
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
