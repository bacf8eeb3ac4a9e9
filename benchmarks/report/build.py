"""Writes a report's folder: index.html, report.md and the PNGs, whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

from facekd.benchmarks.compare import Comparison
from facekd.benchmarks.record import Record
from facekd.benchmarks.report.markdown import write_markdown
from facekd.benchmarks.report.page import write_page
from facekd.benchmarks.report.plots import write_plots
from facekd.data.writing import staged_folder
from facekd.errors import UsageError


def build_report(
    records: Sequence[Record], out: Path, *, comparisons: Sequence[Comparison] = (), overwrite: bool = False
) -> list[Path]:
    """Writes the report of `records` into the new folder `out`; returns its files.

    Args:
        comparisons: what was compared in turn: one sentence each.
        overwrite: replace a report that is already there. A folder that holds anything else is never replaced.

    Raises:
        UsageError: something is at `out` already, or it cannot be written.
    """
    if out.exists():
        if not overwrite:
            raise UsageError(f"{out} exists: choose another place, or replace the report in it (--overwrite)")
        if not (out / "index.html").is_file() or not (out / "report.md").is_file():
            raise UsageError(f"{out} is not a report: --overwrite replaces reports only")
    try:
        with staged_folder(out) as folder:
            plots = write_plots(records, folder)
            write_markdown(records, plots, folder / "report.md", comparisons=comparisons)
            write_page(records, folder / "index.html", comparisons=comparisons)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"--out {out} cannot be written ({why}): give a folder at another place") from error
    return sorted(out.iterdir())
