"""The report as Markdown."""

from collections.abc import Sequence
from pathlib import Path

from facekd.benchmarks.compare import PairedComparison, in_words
from facekd.benchmarks.record_table import COLUMNS, limits_of, markdown_table
from facekd.benchmarks.report.select import label_of, latest
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
        lines += [f"## Benchmark on {device.name}", "", markdown_table(its, columns), _circumstances(its), ""]
        if limits := limits_of(its):
            lines += ["Limits:", "", *(f"- {limit}" for limit in limits), ""]
    return "\n".join([*lines, *_flags(newest), *_compared(comparisons), f"    {command}", ""])


def write_markdown(
    records: Sequence[Record], plots: dict[str, Path], path: Path, *, comparisons: Sequence[PairedComparison] = ()
) -> None:
    """Writes the latest record of each configuration, by device, then comparisons, plots and operators."""
    newest = latest(records)
    lines = ["# Benchmark report", ""]
    for device in {record.device.id: record.device for record in newest}.values():
        lines += [f"## {device.name}", "", f"{device.system}; {device.processor}, {device.cores} cores.", ""]
        its = [record for record in newest if record.device.id == device.id]
        lines += [markdown_table(its[:ROWS], [c for c in COLUMNS if c != "device" and any(COLUMNS[c](r) for r in its)])]
        if len(its) > ROWS:
            lines += [f"{len(its) - ROWS} more are in index.html.", ""]
    lines += [*_flags(newest), *_compared(comparisons)]
    lines += [f"![{name}]({file.name})\n" for name, file in plots.items()]
    timed = [record for record in newest if record.operators and record.operators.operators]
    if timed:
        lines += ["## Operators", ""]
    for record in timed[:OPERATORS]:
        assert record.operators is not None
        lines += [f"### {label_of(record)}", "", record.operators.method + ".", ""]
        lines += ["| operator | provider | calls | ms |", "|---|---|---|---|"]
        for operator in record.operators.operators[:OPERATORS]:
            ms = "" if operator.ms is None else f"{operator.ms:.3f}"
            lines += [f"| {operator.operator} | {operator.provider} | {operator.calls:g} | {ms} |"]
        lines += [""]
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
    return ["Flags:", "", *(f"- {flag}: {FLAGS[flag]}" for flag in flags), ""] if flags else []


def _compared(comparisons: Sequence[PairedComparison]) -> list[str]:
    return ["Compared in turn:", "", *(f"- {in_words(found)}" for found in comparisons), ""] if comparisons else []
