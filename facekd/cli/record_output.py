"""What `facekd benchmark` prints of the records that it has measured."""

from pathlib import Path
from typing import Any

from facekd.cli.output import print_json, print_table, print_text


def show_records(records: list[Any], out: Path | None, json_output: bool) -> None:
    """Prints the records of a run: a table a device and the flags in words, or JSON; and where they were kept."""
    if json_output:
        print_json({"records": [record.model_dump(mode="json") for record in records]})
        return
    _print(records)
    if out is not None:
        print_text(f"{len(records)} records added to {out}; next: facekd benchmark report {out} --out report/")


def _print(records: list[Any]) -> None:
    from rich.console import Console

    from facekd.benchmarks.record_table import TERMINAL, fit_terminal, rows_of
    from facekd.benchmarks.report.select import label_of
    from facekd.schemas.record import FLAGS

    for device in {record.device.id: record.device for record in records}.values():
        its = [record for record in records if record.device.id == device.id]
        headings, left_out = fit_terminal(its, Console().width)
        rows = rows_of(its, [TERMINAL[heading] for heading in headings])
        print_table(f"{device.name}, {device.system}", headings, rows, _limits(its))
        if left_out:
            print_text(f"columns not shown: {', '.join(left_out)}; see --json, --out or the report")
    for record in records:
        if record.flags:
            print_text(f"{label_of(record)}: {', '.join(record.flags)}")
    for flag in sorted({flag for record in records for flag in record.flags}):
        print_text(f"{flag}: {FLAGS[flag]}")


def _limits(records: list[Any]) -> str | None:
    if records[0].device.kind != "host":
        return None  # the phone's own clock; no limit is measured there
    from facekd.benchmarks.record_table import limits_of

    overhead_ns = 1e6 * max(record.latency.clock_overhead_ms for record in records)
    peaks = limits_of(records)
    limit = f"; ×: how many times longer than this machine's matrix product: {'; '.join(peaks)}" if peaks else ""
    return f"clock overhead of {overhead_ns:.0f} ns subtracted{limit}"
