"""Writes a report's folder: index.html, report.md and the PNGs, whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

from facekd.benchmarks.compare import PairedComparison
from facekd.benchmarks.report.latency_plots import write_plots
from facekd.benchmarks.report.markdown import write_markdown
from facekd.benchmarks.report.page import write_page
from facekd.common.writing import LISTING_FILE, atomic_folder, listed_kind
from facekd.schemas.record import Record

REPORT = listed_kind("a benchmark report")


def build_report(
    records: Sequence[Record], out: Path, *, comparisons: Sequence[PairedComparison] = (), overwrite: bool = False
) -> list[Path]:
    """Writes the report of `records` into the new folder `out`; returns its files.

    Args:
        comparisons: what was compared in turn: one sentence each.
        overwrite: replace a report that is already there. A folder that holds anything else is never replaced.

    Raises:
        UsageError: something is at `out` already.
        WriteError: it cannot be written.
    """
    with atomic_folder(out, kind=REPORT, overwrite=overwrite) as folder:
        plots = write_plots(records, folder)
        write_markdown(records, plots, folder / "report.md", comparisons=comparisons)
        write_page(records, folder / "index.html", comparisons=comparisons)
    return sorted(path for path in out.iterdir() if path.name != LISTING_FILE)
