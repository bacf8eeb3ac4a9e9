"""The process that `facekd.runtimes.child` starts: one model, opened as it is told, one request after another."""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError
from facekd.runtimes.base import OpenOptions, Session, get_runtime
from facekd.runtimes.child import receive, send


def main() -> None:
    """Answers requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which decides
    _die_with_the_parent()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints
    requests = sys.stdin.buffer
    session: Session | None = None
    problem = ""
    with contextlib.suppress(EOFError):
        opening, _ = receive(requests)
        try:
            session = _open(**opening)
        except FacekdError as error:
            problem = str(error)
        while True:
            request, (x,) = receive(requests)
            try:
                if session is None:
                    raise FacekdError(problem)
                found = [("", session.run(x))] if request["do"] == "run" else list(session.intermediates(x))
            except FacekdError as error:
                send(replies, {"error": str(error)})
                continue
            send(replies, {"names": [name for name, _ in found]}, [np.asarray(values) for _, values in found])


def _open(runtime: str, path: str, output: str, threads: int | None) -> Session:
    opener = get_runtime(runtime)
    opener.require()
    session = opener.open(Path(path), OpenOptions(threads=threads, exclusive=True))
    session.select(output)
    return session


def _die_with_the_parent() -> None:
    """On Linux: a parent that is killed cannot end its child, which may be in an endless loop."""
    if sys.platform == "linux":
        death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)


if __name__ == "__main__":
    main()
