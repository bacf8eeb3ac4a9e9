"""Export: a bundle becomes a file for one runtime, verified in that runtime before it is believed.

`export_artefact` does it once; `run_matrix` for several targets and precisions. Targets are in `facekd.export.targets`.
"""
