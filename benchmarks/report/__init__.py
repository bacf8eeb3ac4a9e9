"""The report: one HTML page that needs nothing else, PNGs and Markdown, from a file of records."""

from facekd.benchmarks.report.build import build_report

__all__ = ["build_report"]
