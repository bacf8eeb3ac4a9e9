"""Runs a function in some forked processes that form a gloo process group; for scripts beside the tests.

One interpreter imports torch once, and the ranks are its forks: half a second where torchrun takes many.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed as dist


def run(work: Callable[[], None], ranks: int) -> list[int]:
    """Calls `work()` on every rank, waits for all, and returns their exit statuses as waitpid gives them."""
    torch.set_num_threads(1)  # a process that has started OpenMP threads must not fork
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in range(ranks):
            child = os.fork()
            if child == 0:
                os._exit(_rank(work, rank, ranks, Path(folder) / "store"))
            children.append(child)
        return [os.waitpid(child, 0)[1] for child in children]


def _rank(work: Callable[[], None], rank: int, ranks: int, path: Path) -> int:
    try:
        store = dist.FileStore(str(path), ranks)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=timedelta(minutes=5))
        work()
        dist.barrier()
        dist.destroy_process_group()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
