"""The HTML page: the records as JSON in a template that holds its own style and script."""

import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from facekd.benchmarks.compare import PairedComparison, in_words
from facekd.benchmarks.report.latency_plots import colour_of
from facekd.benchmarks.report.select import history, label_of, latest
from facekd.schemas.record import FLAGS, Record

# Quantiles and operators of the newest record of each configuration only, and of no more than these: a page of
# 10,000 records stays a few megabytes.
DETAILED = 400
QUANTILES = (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100)


def write_page(records: Sequence[Record], path: Path, *, comparisons: Sequence[PairedComparison] = ()) -> None:
    """Writes the page."""
    data = page_data(records) | {"compared": [in_words(found) for found in comparisons]}
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    # "</script>" in a model's name must not end the script; JSON reads < as <.
    template = files("facekd.benchmarks.report").joinpath("page.html").read_text(encoding="utf-8")
    path.write_text(template.replace("/*DATA*/", text.replace("<", "\\u003c")), encoding="utf-8")


def page_data(records: Sequence[Record]) -> dict[str, Any]:
    """What the script reads: columns, rows, details by row, series of the history, flags, colours."""
    newest = latest(records)
    detailed = {id(record) for record in newest[:DETAILED]}
    current = {id(record) for record in newest}
    ordered = sorted(records, key=lambda record: record.created, reverse=True)
    return {
        "columns": [{"name": name, "digits": digits, "detail": name in _DETAILS} for name, digits, _ in _COLUMNS],
        "rows": [[_round(read(record), digits) for _, digits, read in _COLUMNS] for record in ordered],
        "newest": [index for index, record in enumerate(ordered) if id(record) in current],
        "details": {
            index: {
                "label": label_of(record),
                "runtime": record.setup.runtime,
                "quantiles": [round(record.latency.quantiles_ms[q], 4) for q in QUANTILES]
                if record.latency.quantiles_ms
                else [],
                "operators": [
                    [o.operator, o.provider, round(o.calls, 2), None if o.ms is None else round(o.ms, 4)]
                    for o in (record.operators.operators if record.operators else [])[:20]
                ],
                "method": record.operators.method if record.operators else "",
                "partitions": record.operators.partitions if record.operators else None,
                "fallback": record.operators.fallback if record.operators else {},
            }
            for index, record in enumerate(ordered)
            if id(record) in detailed
        },
        "quantiles": QUANTILES,
        "history": [
            {
                "label": label_of(series[-1]),
                "runtime": series[-1].setup.runtime,
                "points": [[r.commit or r.created[:10], round(r.latency.p50_ms, 4)] for r in series],
            }
            for series in list(history(records).values())[:200]
        ],
        "flags": FLAGS,
        "colours": {runtime: colour_of(runtime) for runtime in {r.setup.runtime for r in records}},
    }


def _round(value: Any, digits: int | None) -> Any:
    return value if value is None or digits is None else round(value, digits)


_COLUMNS: tuple[tuple[str, int | None, Callable[[Record], Any]], ...] = (
    ("model", None, lambda r: r.model.name),
    ("runtime", None, lambda r: r.setup.runtime),
    ("threads", 0, lambda r: r.setup.threads),
    ("batch", 0, lambda r: r.setup.batch),
    ("p50 ms", 3, lambda r: r.latency.p50_ms),
    ("± %", 1, lambda r: r.latency.interval_width and 50 * r.latency.interval_width),
    ("flags", None, lambda r: " ".join(r.flags)),
    ("accuracy %", 2, lambda r: 100 * r.accuracy.accuracy if r.accuracy else None),
    ("set", None, lambda r: r.accuracy.dataset if r.accuracy else ""),
    ("× limit", 2, lambda r: r.rate.times_limit if r.rate else None),
    ("× limit, cpu", 2, lambda r: r.rate.cpu_times_limit if r.rate else None),
    ("model MiB", 1, lambda r: r.memory.model_mib),
    ("peak MiB", 1, lambda r: r.memory.peak_mib),
    ("file MiB", 2, lambda r: r.model.size_bytes / 2**20),
    ("min ms", 3, lambda r: r.latency.min_ms),
    ("p90 ms", 3, lambda r: r.latency.p90_ms),
    ("p95 ms", 3, lambda r: r.latency.p95_ms),
    ("p99 ms", 3, lambda r: r.latency.p99_ms),
    ("cpu ms", 3, lambda r: r.latency.cpu_p50_ms),
    ("load ms", 0, lambda r: r.start.load_ms),
    ("first ms", 1, lambda r: r.start.first_ms),
    ("GFLOP/s", 0, lambda r: r.rate.gflops if r.rate else None),
    ("device", None, lambda r: r.device.name),
    ("commit", None, lambda r: r.commit or ""),
    ("when", None, lambda r: r.created[:16].replace("T", " ")),
)
"""Heading, decimals (None for words), what a record's cell holds."""

_DETAILS = frozenset(
    ("× limit, cpu", "model MiB", "min ms", "p90 ms", "p95 ms", "cpu ms", "load ms", "first ms", "GFLOP/s", "when")
)
"""Columns that stand in the table only when asked for, so that it fits a window of 1,400 pixels."""
