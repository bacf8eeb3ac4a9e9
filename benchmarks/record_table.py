"""Records as rows for people: few columns on the terminal, all of them in Markdown and on the page."""

from collections.abc import Callable, Sequence

from facekd.common.table import Table
from facekd.schemas.record import Record


def _limit(record: Record) -> str:
    return "" if record.rate is None or record.rate.times_limit is None else f"{record.rate.times_limit:.2f}"


def _cpu_limit(record: Record) -> str:
    return "" if record.rate is None or record.rate.cpu_times_limit is None else f"{record.rate.cpu_times_limit:.2f}"


def _memory(record: Record) -> str:
    value = record.memory.model_mib
    return "" if value is None else f"{value:.1f}"


def _ms(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _interval(record: Record) -> str:
    low, high = record.latency.interval_low_ms, record.latency.interval_high_ms
    return "" if low is None or high is None else f"{low:.2f} to {high:.2f}"


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
    "p50 interval, ms": _interval,
    "p90 ms": lambda r: _ms(r.latency.p90_ms),
    "p95 ms": lambda r: f"{r.latency.p95_ms:.2f}",
    "p99 ms": lambda r: _ms(r.latency.p99_ms),
    "max ms": lambda r: f"{r.latency.max_ms:.2f}",
    "cpu ms": lambda r: _ms(r.latency.cpu_p50_ms),
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

_WORDS = ("model", "device", "runtime", "provider", "flags")

TERMINAL = {
    "model": "model",
    "runtime": "runtime",
    "thr": "threads",
    "p50 ms": "p50 ms",
    "p99": "p99 ms",
    "cpu": "cpu ms",
    "first": "first ms",
    "MiB": "model MiB",
    "peak": "peak MiB",
    "×": "times limit",
    "× cpu": "times limit, cpu",
    "acc %": "accuracy %",
}
"""Short heading on the terminal -> column, in the order they are shown."""

# What gives way first on a narrow terminal; the last of them says the least that nothing else says.
GIVE_WAY = ("first", "peak", "p99", "×", "cpu", "× cpu", "MiB", "acc %", "thr")
NAME_WIDTH = 20


def fit_terminal(records: Sequence[Record], width: int) -> tuple[list[str], list[str]]:
    """(headings of TERMINAL that fit into `width` characters, those left out); a column without a figure is neither.

    Long model names are broken between words from NAME_WIDTH characters on, everything else stands whole.
    """
    cells = {heading: [COLUMNS[column](record) for record in records] for heading, column in TERMINAL.items()}
    kept = [heading for heading in TERMINAL if any(cells[heading])]
    if all(record.memory.model_mib is not None for record in records) and "peak" in kept:
        kept.remove("peak")  # what the model itself costs says more than what runtime and interpreter bring along

    def taken() -> int:
        wide = {heading: max(map(len, [heading, *cells[heading]])) for heading in kept}
        words = max((len(word) for name in cells["model"] for word in name.split()), default=0)
        wide["model"] = min(wide["model"], max(NAME_WIDTH, words))
        return sum(wide.values()) + 3 * len(kept) + 1  # a space on both sides and a line between

    left_out = []
    for heading in GIVE_WAY:
        if taken() <= width:
            break
        if heading in kept:
            kept.remove(heading)
            left_out.append(TERMINAL[heading])
    return kept, left_out


def rows_of(records: Sequence[Record], columns: Sequence[str]) -> list[list[str]]:
    """One row a record."""
    return [[COLUMNS[column](record) for column in columns] for record in records]


def limits_of(records: Sequence[Record]) -> list[str]:
    """What "times limit" was measured against: each matrix product once, with its threads."""
    return list(
        dict.fromkeys(
            f"{record.rate.peak_gflops:.0f} GFLOP/s, threads {record.setup.threads}, {record.rate.peak_kernel}"
            for record in records
            if record.rate is not None and record.rate.peak_gflops is not None
        )
    )


def records_table(records: Sequence[Record], columns: Sequence[str]) -> Table:
    """The records under headings of COLUMNS, figures to the right."""
    return Table(columns, rows_of(records, columns), left=_WORDS)
