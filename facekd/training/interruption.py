"""What ends a run from outside, kept until its step is done: Ctrl-C, SIGTERM, a killed process of the loader."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from facekd.common.errors import Interrupted

__all__ = ["LOST_WORKER", "Interrupted", "LoaderDeaths", "StopRequest", "is_lost_worker"]

LOST_WORKER = (
    "a process that loads images was killed, most often because memory ran out (lower data.workers or "
    "training.batch_size)"
)
"""Why a run stops whose loader lost a process."""


class StopRequest:
    """While it is entered, the first SIGINT or SIGTERM sets `name`; a second SIGINT interrupts at once.

    Only the main thread can set handlers; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return self.name is not None

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name


class LoaderDeaths:
    """Keeps the news that a process of the loader was killed until the loop asks for data.

    torch's handler of SIGCHLD raises RuntimeError wherever the main thread is, which may be halfway through the
    optimiser: what is saved then is no state of the run. Only inside `heard` is that handler in force.
    """

    def __init__(self) -> None:
        self._torch: Callable[[int, FrameType | None], Any] | None = None
        self._missed = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While the block runs a loader that lost a process raises RuntimeError, also of one lost since the last."""
        self.restore()
        if self._missed and self._torch is not None:
            self._missed = False
            self._torch(signal.SIGCHLD, None)
        yield
        handler = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        if callable(handler) and threading.current_thread() is threading.main_thread():
            self._torch = handler
            signal.signal(signal.SIGCHLD, self._keep)

    def restore(self) -> None:
        """Gives torch its handler back."""
        if self._torch is not None:
            signal.signal(signal.SIGCHLD, self._torch)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self._missed = True


def is_lost_worker(error: RuntimeError) -> bool:
    """Whether torch says by this that a process of its loader is gone, not that an image broke in one."""
    text = str(error)
    return "DataLoader worker" in text and ("killed by signal" in text or "exited unexpectedly" in text)
