"""Records as rows for people: few columns on the terminal, all of them in Markdown and on the page."""

from collections.abc import Callable, Sequence

from facekd.benchmarks.record import Record


def _limit(record: Record) -> str:
    return "" if record.rate is None or record.rate.times_limit is None else f"{record.rate.times_limit:.2f}"


def _cpu_limit(record: Record) -> str:
    return "" if record.rate is None or record.rate.cpu_times_limit is None else f"{record.rate.cpu_times_limit:.2f}"


def _memory(record: Record) -> str:
    value = record.memory.model_mib
    return "" if value is None else f"{value:.1f}"


def _name(record: Record) -> str:
    batch = f", batch {record.setup.batch}" if record.setup.batch != 1 else ""
    return record.model.name + batch


COLUMNS: dict[str, Callable[[Record], str]] = {
    "model": _name,
    "device": lambda r: r.device.name,
    "runtime": lambda r: r.setup.runtime,
    "provider": lambda r: r.setup.provider,
    "threads": lambda r: str(r.setup.threads),
    "min ms": lambda r: f"{r.latency.min_ms:.2f}",
    "p50 ms": lambda r: f"{r.latency.p50_ms:.2f}",
    "interval of p50": lambda r: f"{r.latency.interval_low_ms:.2f} to {r.latency.interval_high_ms:.2f}",
    "p90 ms": lambda r: f"{r.latency.p90_ms:.2f}",
    "p95 ms": lambda r: f"{r.latency.p95_ms:.2f}",
    "p99 ms": lambda r: f"{r.latency.p99_ms:.2f}",
    "max ms": lambda r: f"{r.latency.max_ms:.2f}",
    "cpu ms": lambda r: "" if r.latency.cpu_p50_ms is None else f"{r.latency.cpu_p50_ms:.2f}",
    "load ms": lambda r: f"{r.start.load_ms:.1f}",
    "first ms": lambda r: f"{r.start.first_ms:.1f}",
    "model MiB": _memory,
    "peak MiB": lambda r: "" if r.memory.peak_mib is None else f"{r.memory.peak_mib:.1f}",
    "file MiB": lambda r: f"{r.model.size_bytes / 2**20:.2f}",
    "MMACs": lambda r: "" if r.model.macs is None else f"{r.model.macs / 1e6:.1f}",
    "GFLOP/s": lambda r: "" if r.rate is None else f"{r.rate.gflops:.1f}",
    "times limit": _limit,
    "times limit, cpu": _cpu_limit,
    "accuracy %": lambda r: "" if r.accuracy is None else f"{100 * r.accuracy.accuracy:.2f}",
    "flags": lambda r: ", ".join(r.flags),
}
"""Heading -> the text of a record's cell; empty where the figure is not there."""

NARROW = ("model", "runtime", "threads", "p50 ms", "p99 ms", "cpu ms", "first ms", "model MiB", "times limit, cpu")
NARROW_WITH_ACCURACY = (*NARROW, "accuracy %")


def rows_of(records: Sequence[Record], columns: Sequence[str]) -> list[list[str]]:
    """One row a record."""
    return [[COLUMNS[column](record) for column in columns] for record in records]


def markdown_table(records: Sequence[Record], columns: Sequence[str]) -> str:
    """The same as a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows_of(records, columns)]
    return "\n".join(lines) + "\n"
