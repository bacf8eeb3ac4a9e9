"""Ctrl-C and SIGTERM become a request to stop after the step at hand."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from facekd.common.errors import FacekdError


class Interrupted(FacekdError):
    """The run was asked to stop, saved its state and stopped. Exits 130, as a shell expects after Ctrl-C."""

    exit_code = 130


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
