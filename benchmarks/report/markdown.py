"""The report as Markdown."""

from collections.abc import Sequence
from pathlib import Path

from facekd.benchmarks.record import FLAGS, Record
from facekd.benchmarks.report.select import label_of, latest
from facekd.benchmarks.table import COLUMNS, markdown_table

# Reading further than this in Markdown is nobody's wish; the page holds all of them.
ROWS = 200
OPERATORS = 12


def write_markdown(records: Sequence[Record], plots: dict[str, Path], path: Path) -> None:
    """Writes the latest record of each configuration, by device, then operators and plots."""
    newest = latest(records)
    lines = ["# Benchmark report", ""]
    for device in {record.device.id: record.device for record in newest}.values():
        lines += [f"## {device.name}", "", f"{device.system}; {device.processor}, {device.cores} cores.", ""]
        its = [record for record in newest if record.device.id == device.id]
        lines += [markdown_table(its[:ROWS], [c for c in COLUMNS if c != "device" and any(COLUMNS[c](r) for r in its)])]
        if len(its) > ROWS:
            lines += [f"{len(its) - ROWS} more are in index.html.", ""]
    flags = sorted({flag for record in newest for flag in record.flags})
    if flags:
        lines += ["Flags:", "", *(f"- {flag}: {FLAGS[flag]}" for flag in flags), ""]
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
