"""Foreign code that can be ended: it runs in a thread, the caller waits where Ctrl-C reaches it."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from facekd.common.errors import FacekdError

T = TypeVar("T")

LIMIT_S = 60.0
"""Opening a file, or one image, at most: the largest face models take seconds on the slowest machines."""

_END_S = 0.5  # a process that exits while its thread is still in the library would be aborted
_STEP_S = 0.2  # a wait without a limit would keep Ctrl-C from the caller on some systems


def run_bounded(call: Callable[[], T], *, seconds: float, what: str, end: Callable[[], None] | None = None) -> T:
    """`call()`, ended after `seconds` or by Ctrl-C.

    What cannot be ended goes on in its thread, which does not keep the process.

    Args:
        call: runs in a thread of its own.
        seconds: at most.
        what: is done, for the message: "running m.onnx".
        end: asks `call` to stop.

    Raises:
        FacekdError: it took too long.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=work, daemon=True, name="facekd model").start()
    until = time.monotonic() + seconds
    try:
        while not done.wait(min(_STEP_S, max(until - time.monotonic(), 0.0))):
            if time.monotonic() >= until:
                raise FacekdError(f"{what} took more than {seconds:g} s and was ended: it may never end")
    except BaseException:
        if end is not None:
            end()
            done.wait(_END_S)
        raise
    if errors:
        raise errors[0]
    return results[0]
