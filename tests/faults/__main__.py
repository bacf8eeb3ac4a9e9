"""`python -m tests.faults`: every fault and what became of it; exit code 1 where one was not borne."""

import argparse
import json
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from facekd.common.table import Table

JOBS = ("align", "pack", "train", "embed", "evaluate", "export", "teacher")
SUITES = ("mutations", "truncation", "confinement", "kills", "disk")


def main() -> None:
    """Runs the suites."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="kills of each job")
    parser.add_argument("--mutations", type=int, default=10_000, help="mutated files, over all kinds of files")
    parser.add_argument("--parts", type=int, default=50, help="truncate a file at every 1/PARTS of its length")
    parser.add_argument(
        "--shares",
        type=float,
        nargs="+",
        help="disk sizes for the full disk, as fractions of the space that a job needs",
    )
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=SUITES)
    parser.add_argument("--files", nargs="+", help="only these kinds of files, as named in the tables")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args()
    _import_everything()
    logging.disable(logging.WARNING)  # a cut index is rebuilt, and said, a thousand times
    with tempfile.TemporaryDirectory(prefix="facekd-faults-") as scratch:
        try:
            rows = run_suites(options, Path(scratch))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            Path(scratch).mkdir()
    findings = [finding for row in rows for finding in row["findings"]]
    if options.json:
        print(json.dumps({"seed": options.seed, "rows": rows}, indent=2))
    else:
        _print(rows)
    sys.exit(1 if findings else 0)


def run_suites(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """One row a case: suite, case, number, its figures, findings, seconds."""
    from tests.faults.confinement import confine
    from tests.faults.disk import SHARES, can_mount, fill_disk
    from tests.faults.jobs import build_jobs
    from tests.faults.kills import kill_job
    from tests.faults.mutation import judge
    from tests.faults.targets import build_targets
    from tests.faults.truncation import cut

    rows: list[dict[str, Any]] = []

    def add(suite: str, case: str, number: int, findings: list[str], start: float, **figures: Any) -> None:
        seconds = round(time.perf_counter() - start, 1)
        rows.append({"suite": suite, "case": case, "number": number, "figures": figures, "findings": findings,
                     "seconds": seconds})  # fmt: skip
        print(
            f"{suite}, {case}: {number}, {len(findings)} findings, {seconds} s",
            *findings,
            sep="\n  ",
            file=sys.stderr,
            flush=True,
        )

    if {"mutations", "truncation"} & set(options.suites):
        targets = build_targets(scratch / "targets")
        share = options.mutations // len(targets)
        targets = [target for target in targets if not options.files or target.name in options.files]
    if "mutations" in options.suites:
        for target in targets:
            start = time.perf_counter()
            verdict = judge(target, scratch / "forged", mutations=share, seed=options.seed)
            add("mutations", target.name, verdict.cases, verdict.findings, start, **_figures(verdict))
    if "truncation" in options.suites:
        for target in targets:
            for indexed in (True, False) if target.name == "record file" else (True,):
                start = time.perf_counter()
                cuts = cut(target, scratch / "cut", parts=options.parts, indexed=indexed)
                case = target.name + ("" if indexed else ", no index")
                figures = _figures(cuts.verdict) | ({"images": cuts.images} if cuts.images else {})
                add("truncation", case, cuts.verdict.cases, cuts.verdict.findings, start, **figures)
    if "confinement" in options.suites:
        start = time.perf_counter()
        for trick, wrong in confine(scratch / "confined").items():
            add("confinement", trick, 1, [f"{trick}: {line}" for line in wrong], start)
            start = time.perf_counter()
    if {"kills", "disk"} & set(options.suites):
        jobs = build_jobs(scratch / "jobs", names=list(options.jobs))
    if "kills" in options.suites:
        for job in jobs:
            start = time.perf_counter()
            kills = kill_job(job, scratch / "killed" / job.name, kills=options.kills, seed=options.seed)
            figures = {"attempts": kills.attempts, "alone s": round(kills.seconds, 1),
                       "changes": kills.operations, "left": kills.left}  # fmt: skip
            add("kills", job.name, kills.struck, kills.findings, start, **figures)
    if "disk" in options.suites:
        mounting = can_mount(scratch)
        for job in jobs:
            start = time.perf_counter()
            disk = fill_disk(
                job, scratch / "disk" / job.name, shares=tuple(options.shares or SHARES), mounting=mounting
            )
            add("disk", job.name, disk.cases, disk.findings, start, refused=disk.refused, by=disk.kind)
    return rows


def _figures(verdict: Any) -> dict[str, Any]:
    ended = {"read": verdict.ended["done"], "refused": verdict.ended["refused"]}
    return ended | {"peak MiB": round(verdict.peak_mib), "slowest CPU s": round(verdict.slowest_cpu_s, 1)}


def _import_everything() -> None:
    """Once, before the forks, so that no case pays for it; and one thread, since started ones do not survive a fork."""
    import cv2
    import hypothesis  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import timm  # noqa: F401
    import torch
    from torch.utils import tensorboard  # noqa: F401

    import facekd.benchmarks.report
    import facekd.benchmarks.subject
    import facekd.cli
    import facekd.evaluation.evaluate
    import facekd.evaluation.roc_plots
    import facekd.export.pipeline
    import facekd.export.targets.onnx
    import facekd.training.run  # noqa: F401

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _print(rows: list[dict[str, Any]]) -> None:
    for suite in dict.fromkeys(row["suite"] for row in rows):
        its = [row for row in rows if row["suite"] == suite]
        names = list(dict.fromkeys(name for row in its for name in row["figures"]))
        table = [
            [row["case"], row["number"], *(row["figures"].get(name) for name in names), len(row["findings"])]
            for row in its
        ]
        Table(["case", "number", *names, "findings"], table, title=suite).print()
    for row in rows:
        for finding in row["findings"]:
            print(finding)


if __name__ == "__main__":
    main()
