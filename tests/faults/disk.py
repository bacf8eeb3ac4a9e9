"""A disk that is full: a small tmpfs where this user may mount one, else a bound on the size of any one file."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.jobs import Job

SHARES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.95)
"""Of the space that the job needs, by default."""


@dataclass
class FullDisk:
    """What became of a job without room: how often it was refused, and each finding in a line."""

    kind: str = ""
    cases: int = 0
    refused: int = 0
    findings: list[str] = field(default_factory=list)


def can_mount(folder: Path) -> bool:
    """Whether a tmpfs can be mounted below `folder`, which takes root and a system that lets it."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    try:
        with small_disk(folder / "trial", 2**16):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A tmpfs of `size` bytes at `folder`."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def fill_disk(job: Job, folder: Path, *, shares: tuple[float, ...] = SHARES, mounting: bool) -> FullDisk:
    """Runs `job` with a share of the room it needs: refused in one line, nothing half there, and well with room."""
    found = FullDisk(kind="tmpfs" if mounting else "file size limit")
    folder.mkdir(parents=True)
    whole = folder / "whole" / "out"
    job.run(whole)
    reference, _ = job.look(whole)
    sizes = [path.stat().st_size for path in whole.rglob("*") if path.is_file()]
    for share in shares:
        found.cases += 1
        what = f"{job.name} with {100 * share:g} % of its room"
        if mounting:
            with small_disk(folder / f"disk-{share}", max(int(share * sum(sizes)), 4096)) as disk:
                _try(job, disk / "out", what, reference, found)
                subprocess.run(["mount", "-o", "remount,size=256m", str(disk)], check=True, capture_output=True)
                _again(job, disk / "out", what, reference, found)
        else:
            place = folder / f"place-{share}" / "out"
            _try(job, place, what, reference, found, file_limit=max(int(share * max(sizes)), 512))
            _again(job, place, what, reference, found)
            shutil.rmtree(place.parent)
    return found


def _try(job: Job, place: Path, what: str, reference: str | None, found: FullDisk, **limits: int) -> None:
    ended = job.run(place, **limits)
    found.refused += ended.how == "refused"
    if ended.how not in ("refused", "done"):
        found.findings.append(f"{what}: {ended.how} {ended.said} {ended.output[-200:]}")
    elif ended.how == "refused" and ("Traceback" in ended.output or "facekd: " not in ended.output):
        found.findings.append(f"{what}: not said in one line: {ended.output[-200:]}")
    elif "unexpected" in ended.output:
        found.findings.append(f"{what}: nobody foresaw it: {ended.output[-200:]}")
    there, wrong = job.look(place)
    if wrong or there not in (None, reference):
        found.findings.append(f"{what}: left half a result: {wrong}")


def _again(job: Job, place: Path, what: str, reference: str | None, found: FullDisk) -> None:
    ended = job.run(place)
    there, wrong = job.look(place)
    if ended.how != "done" or there != reference:
        found.findings.append(f"{what}, then with room: {ended.how} {ended.output[-200:]} {wrong}")
