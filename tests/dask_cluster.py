"""A real Dask cluster on this machine: a scheduler and workers, as processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class LocalCluster:
    """What runs."""

    address: str
    scheduler: Process
    workers: Sequence[Process]


@contextmanager
def dask_cluster(folder: Path, *, threads: Sequence[int] = (1, 2)) -> Iterator[LocalCluster]:
    """A scheduler and a worker for each number of threads; ended at the end of the block."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    file = folder / "scheduler.json"
    processes: list[Process] = []

    def start(*command: str) -> None:
        words = [sys.executable, "-m", *command, "--no-dashboard", "--scheduler-file", str(file), "--host", "127.0.0.1"]
        processes.append(subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.DEVNULL))

    try:
        start("distributed.cli.dask_scheduler", "--port", "0")
        for _ in range(3000):
            if file.exists() and file.stat().st_size:
                break
            time.sleep(0.1)
        for number, count in enumerate(threads):
            place = str(folder / str(number))
            start("distributed.cli.dask_worker", "--nthreads", str(count), "--no-nanny", "--local-directory", place)
        address = json.loads(file.read_text())["address"]
        from distributed import Client

        with Client(address) as client:
            client.wait_for_workers(len(threads), timeout=300)
        yield LocalCluster(address, processes[0], processes[1:])
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(30)
