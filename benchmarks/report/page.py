"""The HTML page: the records as JSON in a template that holds its own style and script."""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from facekd.benchmarks.record import FLAGS, Record
from facekd.benchmarks.report.plots import colour_of
from facekd.benchmarks.report.select import history, label_of, latest

# Quantiles and operators of the newest record of each configuration only, and of no more than these: a page of
# 10,000 records stays a few megabytes.
DETAILED = 400
QUANTILES = (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100)


def write_page(records: Sequence[Record], path: Path) -> None:
    """Writes the page."""
    data = json.dumps(page_data(records), separators=(",", ":"), allow_nan=False)
    # "</script>" in a model's name must not end the script; JSON reads < as <.
    template = files("facekd.benchmarks.report").joinpath("page.html").read_text(encoding="utf-8")
    path.write_text(template.replace("/*DATA*/", data.replace("<", "\\u003c")), encoding="utf-8")


def page_data(records: Sequence[Record]) -> dict[str, Any]:
    """What the script reads: columns, rows, details by row, series of the history, flags, colours."""
    newest = latest(records)
    detailed = {id(record) for record in newest[:DETAILED]}
    current = {id(record) for record in newest}
    ordered = sorted(records, key=lambda record: record.created, reverse=True)
    return {
        "columns": [{"name": name, "number": number} for name, number, _ in _COLUMNS],
        "rows": [[read(record) for _, _, read in _COLUMNS] for record in ordered],
        "newest": [index for index, record in enumerate(ordered) if id(record) in current],
        "details": {
            index: {
                "label": label_of(record),
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


def _round(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


_COLUMNS: tuple[tuple[str, bool, Any], ...] = (
    ("model", False, lambda r: r.model.name),
    ("runtime", False, lambda r: r.setup.runtime),
    ("threads", True, lambda r: r.setup.threads),
    ("batch", True, lambda r: r.setup.batch),
    ("min ms", True, lambda r: _round(r.latency.min_ms)),
    ("p50 ms", True, lambda r: _round(r.latency.p50_ms)),
    ("p90 ms", True, lambda r: _round(r.latency.p90_ms)),
    ("p95 ms", True, lambda r: _round(r.latency.p95_ms)),
    ("p99 ms", True, lambda r: _round(r.latency.p99_ms)),
    ("accuracy %", True, lambda r: _round(100 * r.accuracy.accuracy, 2) if r.accuracy else None),
    ("× limit", True, lambda r: _round(r.rate.times_limit, 2) if r.rate else None),
    ("× limit, cpu", True, lambda r: _round(r.rate.cpu_times_limit, 2) if r.rate else None),
    ("± %", True, lambda r: _round(r.latency.interval_width and 50 * r.latency.interval_width, 1)),
    ("cpu ms", True, lambda r: _round(r.latency.cpu_p50_ms)),
    ("load ms", True, lambda r: _round(r.start.load_ms, 1)),
    ("first ms", True, lambda r: _round(r.start.first_ms, 1)),
    ("model MiB", True, lambda r: _round(r.memory.model_mib, 1)),
    ("peak MiB", True, lambda r: _round(r.memory.peak_mib, 1)),
    ("file MiB", True, lambda r: _round(r.model.size_bytes / 2**20, 2)),
    ("GFLOP/s", True, lambda r: _round(r.rate.gflops, 1) if r.rate else None),
    ("device", False, lambda r: r.device.name),
    ("commit", False, lambda r: r.commit or ""),
    ("when", False, lambda r: r.created[:16].replace("T", " ")),
    ("flags", False, lambda r: " ".join(r.flags)),
)
