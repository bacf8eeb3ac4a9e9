"""The report as Markdown."""

from collections.abc import Sequence
from pathlib import Path

from facekd.benchmarks.compare import PairedComparison, in_words
from facekd.benchmarks.record_table import COLUMNS, limits_of, records_table
from facekd.benchmarks.report.select import label_of, latest
from facekd.common.markdown import markdown_text
from facekd.common.table import Table
from facekd.common.text import plain
from facekd.schemas.record import FLAGS, Record

# Reading further than this in Markdown is nobody's wish; the page holds all of them.
ROWS = 200
OPERATORS = 12
# Of a table in a document: what the page alone has are the other percentiles and the provider.
RESULTS = (
    "model",
    "runtime",
    "threads",
    "p50 ms",
    "p50 interval, ms",
    "p99 ms",
    "cpu ms",
    "load ms",
    "first ms",
    "model MiB",
    "peak MiB",
    "file MiB",
    "GFLOP/s",
    "times limit",
    "times limit, cpu",
    "accuracy %",
    "flags",
)


def results_section(records: Sequence[Record], comparisons: Sequence[PairedComparison], *, command: str) -> str:
    """A table a device, of the latest record of each configuration, and what was compared in turn: for documents.

    Args:
        command: what was typed, for the reader who wants to do it again.
    """
    newest = sorted(latest(records), key=lambda record: (record.setup.threads, record.latency.p50_ms))
    lines: list[str] = []
    for device in {record.device.id: record.device for record in newest}.values():
        its = [record for record in newest if record.device.id == device.id][:ROWS]
        columns = [column for column in RESULTS if any(COLUMNS[column](record) for record in its)]
        lines += [f"## Benchmark on {markdown_text(device.name)}", "", records_table(its, columns).markdown()]
        lines += [markdown_text(_circumstances(its), starts_line=True), ""]
        if limits := limits_of(its):
            lines += ["Limits:", "", *(f"- {markdown_text(limit)}" for limit in limits), ""]
    return "\n".join([*lines, *_flags(newest), *_compared(comparisons), f"    {plain(command)}", ""])


def write_markdown(
    records: Sequence[Record], plots: dict[str, Path], path: Path, *, comparisons: Sequence[PairedComparison] = ()
) -> None:
    """Writes the latest record of each configuration, by device, then comparisons, plots and operators."""
    newest = latest(records)
    lines = ["# Benchmark report", ""]
    for device in {record.device.id: record.device for record in newest}.values():
        machine = f"{device.system}; {device.processor}, {device.cores} cores."
        lines += [f"## {markdown_text(device.name)}", "", markdown_text(machine, starts_line=True), ""]
        its = [record for record in newest if record.device.id == device.id]
        columns = [c for c in COLUMNS if c != "device" and any(COLUMNS[c](r) for r in its)]
        lines += [records_table(its[:ROWS], columns).markdown()]
        if len(its) > ROWS:
            lines += [f"{len(its) - ROWS} more are in index.html.", ""]
    lines += [*_flags(newest), *_compared(comparisons)]
    lines += [f"![{name}]({file.name})\n" for name, file in plots.items()]
    timed = [record for record in newest if record.operators and record.operators.operators]
    if timed:
        lines += ["## Operators", ""]
    for record in timed[:OPERATORS]:
        assert record.operators is not None
        lines += [f"### {markdown_text(label_of(record))}", ""]
        lines += [markdown_text(record.operators.method, starts_line=True) + ".", ""]
        rows = [
            (one.operator, one.provider, f"{one.calls:g}", "" if one.ms is None else f"{one.ms:.3f}")
            for one in record.operators.operators[:OPERATORS]
        ]
        lines += [Table(("operator", "provider", "calls", "ms"), rows, left=2).markdown()]
    path.write_text("\n".join(lines), encoding="utf-8")


def _circumstances(records: Sequence[Record]) -> str:
    """System, versions, commits and days, and what accuracy was measured on."""
    device = records[0].device
    versions = sorted({f"{r.setup.runtime} {r.setup.runtime_version}" for r in records})
    made = sorted({f"facekd {r.facekd_version}" + (f" ({r.commit})" if r.commit else "") for r in records})
    sets = sorted({f"accuracy on {r.accuracy.dataset}, {r.accuracy.pairs} pairs" for r in records if r.accuracy})
    days = sorted({r.created[:10] for r in records})
    memory = [f"{device.memory_mib} MiB of memory"] if device.memory_mib else []
    return "; ".join([device.system, *memory, *versions, *made, *sets, *days]) + "."


def _flags(records: Sequence[Record]) -> list[str]:
    flags = sorted({flag for record in records for flag in record.flags})
    return ["Flags:", "", *(f"- {markdown_text(flag)}: {FLAGS[flag]}" for flag in flags), ""] if flags else []


def _compared(comparisons: Sequence[PairedComparison]) -> list[str]:
    return (
        ["Interleaved comparisons:", "", *(f"- {markdown_text(in_words(found))}" for found in comparisons), ""]
        if comparisons
        else []
    )
