"""Runs facekd's command line on two ranks under torchrun, and kills rank 1 once, in the middle of an epoch.

torchrun calls this file on each rank as `kill_a_rank.py MARK ARGUMENTS...`. The rank dies by SIGKILL while it reads the
data of its fourth step, after a checkpoint, unless MARK exists: then it has died before.
"""

import os
import signal
import sys
from pathlib import Path

from facekd.cli import main
from facekd.training.stream import BatchStream


def die_once(mark: Path) -> None:
    """Makes the fourth step of rank 1 its last."""
    steps = BatchStream.steps

    def watched(self: BatchStream, epoch: int, batch: int):  # type: ignore[no-untyped-def]
        for number, step_batches in enumerate(steps(self, epoch, batch)):
            if number == 3 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield step_batches

    BatchStream.steps = watched  # type: ignore[method-assign]


def gloo_threads() -> list[str]:
    """The names of this process's threads that a process group started."""
    names = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return [name for name in names if "gloo" in name]


if __name__ == "__main__":
    if os.environ["RANK"] == "1":
        die_once(Path(sys.argv[1]))
    del sys.argv[1]
    try:
        main()
    except SystemExit as end:
        if not end.code:
            print(f"{len(gloo_threads())} threads of gloo left", flush=True)
        raise
