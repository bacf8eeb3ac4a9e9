"""One function on many items: on every core of this machine or on a Dask cluster, results in order, memory bounded.

A pool is a concurrent.futures.Executor, whatever stands behind it; None works in this process.
"""

import itertools
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from typing import Any, TypeVar

from facekd.common.errors import FacekdError, UsageError, first_line, require_modules

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 4
"""Items a task: a picture takes milliseconds, and handing one to another process costs a fraction of one."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def open_pool(workers: int | None = None, *, dask: str | None = None) -> Iterator[Executor | None]:
    """Processes to work in, ended when the block ends, also when this process is killed.

    Args:
        workers: how many; default: a process for each core. 1 works in this process.
        dask: address of a Dask scheduler, such as tcp://10.0.0.1:8786; its workers need facekd and see the same files.

    Raises:
        UsageError: no scheduler answers there, or the package is not installed.
    """
    if dask is not None:
        with _dask_pool(dask) as pool:
            yield pool
        return
    count = available_cores() if workers is None else workers
    if count < 1:
        raise UsageError(f"{count} workers: give at least 1")
    if count == 1:
        yield None
        return
    # spawn: a fork would copy locks that OpenCV's and torch's threads hold.
    made = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        with _without_interrupt():
            for _ in range(count):  # each of these starts a process, since none is idle yet
                made.submit(int)
        yield made
    finally:
        made.shutdown(wait=True, cancel_futures=True)


def ordered_map(pool: Executor | None, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of `function`, in the order of the items. Items are taken as there is room: a few for each process.

    Args:
        pool: from open_pool.
        function: importable by name, as are its results' types: both are pickled.
        items: any number.

    Raises:
        FacekdError: a process of the pool died.
    """
    if pool is None:
        yield from map(function, items)
        return
    room = 2 * getattr(pool, "_max_workers", 0) or 64
    chunks = iter(_chunks(items))
    running: deque[Future[list[Result]]] = deque()
    try:
        for chunk in chunks:
            running.append(pool.submit(_apply, function, chunk))
            if len(running) >= room:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
    except BrokenProcessPool:
        raise FacekdError(
            "a worker process died: it was killed, or the machine ran out of memory; run the same command again, with "
            "--workers 1 if it happens again"
        ) from None
    except Exception as error:
        if type(error).__name__ == "KilledWorker":  # Dask's, after a task has taken several workers with it
            raise FacekdError(f"the cluster's workers died over and over at one task: {first_line(error)}") from None
        raise
    finally:
        for future in running:
            future.cancel()


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    source = iter(items)
    while chunk := list(itertools.islice(source, CHUNK)):
        yield chunk


def _apply(function: Callable[[Item], Result], chunk: list[Item]) -> list[Result]:
    return [function(item) for item in chunk]


def _start_worker() -> None:
    """In a new worker: the parent handles Ctrl-C, OpenCV starts no threads of its own, nobody outlives the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(1)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Processes that start in the block never get the Ctrl-C that a terminal sends to all, even while they start.

    The children inherit the mask. Here another thread may still receive the signal, so it is answered after the block:
    a child whose start is cut short says so in a traceback.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # it takes the signal off the mask again once it has started
    struck: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: struck.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if struck:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _dask_pool(address: str) -> Iterator[Executor]:
    require_modules("--dask", ["distributed"], extra="dask")
    import distributed

    make_client: Any = distributed.Client
    try:
        client = make_client(address, timeout="5s")
    except (OSError, TimeoutError, ValueError, ImportError) as error:
        raise UsageError(f"no Dask scheduler at {address}: {first_line(error)}") from None
    try:
        if not client.scheduler_info().get("workers"):
            raise UsageError(f"the Dask scheduler at {address} has no workers: start some with `dask worker {address}`")
        yield client.get_executor()
    finally:
        client.close()
