"""One function on many items: on every core of this machine or on a Dask cluster, results in order, memory bounded.

A pool is a concurrent.futures.Executor, whatever stands behind it; None works in this process.
"""

import itertools
import os
import pickle
import secrets
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Generic, TypeVar

from facekd.common.cluster import Cluster, open_cluster, sent_to_worker
from facekd.common.errors import FacekdError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 4
"""Items a task: a photograph takes milliseconds, and handing one to another process costs a fraction of one."""
SMALL_CHUNK = 32
"""Items a task where one is a small image to decode, a tenth of a millisecond."""
FEW_ITEMS = 64
"""Items a process at least: starting one takes a second."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def open_pool(
    workers: int | None = None, *, dask: str | None = None, items: int | None = None
) -> Iterator[Executor | None]:
    """Processes to work in, ended when the block ends, also when this process is killed.

    Args:
        workers: how many; default: a process for each core. 1 works in this process.
        dask: address of a Dask scheduler, such as tcp://10.0.0.1:8786; its workers need facekd and see the same files.
        items: how many there are to work on, where it is known: by default a few start no processes.

    Raises:
        UsageError: no scheduler answers there, or the package is not installed.
    """
    if dask is not None:
        if workers is not None:
            raise UsageError("--workers and --dask: give one of them")
        with open_cluster(dask) as cluster:
            yield cluster
        return
    count = available_cores() if workers is None else workers
    if count < 1:
        raise UsageError(f"{count} workers: give at least 1")
    if workers is None and items is not None:
        count = max(1, min(count, items // FEW_ITEMS))
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


def ordered_map(
    pool: Executor | None,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    chunk: int = CHUNK,
    ahead: int = 0,
) -> Generator[Result]:
    """The results of `function`, in the order of the items. Items are taken as there is room: some for each process.

    Args:
        pool: from open_pool.
        function: importable by name, as are its results' types: both are pickled. What every call needs and is large
            goes through `share`.
        items: any number.
        chunk: items a task; more where one takes less than a millisecond.
        ahead: this many items at least are worked on before their results are asked for.

    Raises:
        FacekdError: a process of the pool died.
    """
    if pool is None:
        yield from map(function, items)
        return
    # Enough that a slow item at the head of the line keeps no process waiting.
    room = max(8 * getattr(pool, "_max_workers", 0) or 64, -(-ahead // chunk))
    chunks = iter(_chunks(items, chunk))
    running: deque[Future[list[Result]]] = deque()
    try:
        for taken in chunks:
            running.append(pool.submit(_apply, function, taken))
            if len(running) >= room:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
    except BrokenProcessPool:
        raise FacekdError(
            "a worker process died: it was killed, or the machine ran out of memory; run the same command again, with "
            "--workers 1 if it happens again"
        ) from None
    finally:
        for future in running:
            future.cancel()


@contextmanager
def share(pool: Executor | None, value: Item) -> "Iterator[Shared[Item]]":
    """What every task needs: sent to each process once instead of with every task.

    Args:
        pool: from open_pool.
        value: anything that can be pickled; a source of ten million images may be hundreds of megabytes.
    """
    token = secrets.token_hex(8)
    if isinstance(pool, Cluster):
        with pool.holding(token, pickle.dumps(value)):
            yield Shared(token)
    elif isinstance(pool, ProcessPoolExecutor):
        with tempfile.TemporaryDirectory(prefix="facekd-") as folder:
            place = Path(folder) / token
            with place.open("wb") as file:
                pickle.dump(value, file)
            yield Shared(token, place)
    else:
        yield Shared(token, held=[value])


class Shared(Generic[Item]):
    """Stands for a value in tasks; `share` makes one.

    Args:
        token: names it.
        place: where a process of this machine finds it pickled; None where it was sent to the workers before.
        held: the value itself, in this process.
    """

    def __init__(self, token: str, place: Path | None = None, *, held: list[Item] | None = None) -> None:
        self._token, self._place, self._held = token, place, held

    @property
    def value(self) -> Item:
        """The value: loaded at the first task of a process, and kept until another one is shared.

        Each thread has its own, since readers and detectors are not for several at once.
        """
        if self._held is not None:
            return self._held[0]
        if getattr(_loaded, "token", None) != self._token:
            data = sent_to_worker(self._token) if self._place is None else self._place.read_bytes()
            _loaded.token, _loaded.value = self._token, pickle.loads(data)
        value: Item = _loaded.value
        return value


_loaded = threading.local()


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    source = iter(items)
    while chunk := list(itertools.islice(source, size)):
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
