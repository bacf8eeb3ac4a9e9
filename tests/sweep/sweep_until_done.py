"""Runs a grid in a child process, killing it with SIGKILL until one attempt ends by itself.

    python sweep_until_done.py GRID OUT KILLS

One interpreter imports torch once and forks for every attempt. Attempt number i is killed in the middle of the training
of a cell: as soon as the cell after the i-th finished one has a checkpoint. Prints one JSON object an attempt that was
killed: the cells that had been finished, and the one that had not.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from facekd.sweep.sweep import run_sweep
from facekd.training.log import Reporter


def main() -> None:
    grid, out, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)  # a process that has started OpenMP threads must not fork
    for attempt in range(kills + 1):
        child = os.fork()
        if child == 0:
            run_sweep(grid, out=out, reporter=Reporter(quiet=True))
            os._exit(0)
        if attempt < kills:
            try:
                cut = wait_for_an_unfinished_cell(out, finished=attempt + 1, child=child)
            finally:
                os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if attempt < kills:
            if not os.WIFSIGNALED(status):
                sys.exit("the attempt ended before it could be killed")
            print(json.dumps({"finished": finished_cells(out), "cut": cut}), flush=True)
        elif status:
            sys.exit(os.waitstatus_to_exitcode(status))


def finished_cells(out: Path) -> list[str]:
    """Folders of the finished cells, relative to `out`."""
    return sorted(str(path.parent.relative_to(out)) for path in (out / "cells").glob("*/*/*/cell.json"))


def wait_for_an_unfinished_cell(out: Path, *, finished: int, child: int) -> str:
    """Waits until so many cells are finished and another one has a checkpoint; returns that one."""
    end = time.monotonic() + 500
    while time.monotonic() < end:
        done = finished_cells(out)
        if len(done) >= finished:
            for path in (out / "cells").glob("*/*/*/checkpoints/step-*.pt"):
                place = str(path.parents[1].relative_to(out))
                if place not in done:
                    return place
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            sys.exit("the attempt ended before it could be killed")
        time.sleep(0.02)
    sys.exit("no cell was under way in time")


if __name__ == "__main__":
    main()
