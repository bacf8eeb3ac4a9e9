"""Studies: the scripts behind the figures of the docs, run by hand; `python -m facekd.benchmarks.studies.NAME`."""
