"""Converters talk: their output goes to a log file, not to the screen, whatever language wrote it."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

# The file descriptors themselves are redirected, since coremltools, XNNPACK and absl write to 1 and 2 from C++.
_STREAMS = (1, 2)


@contextmanager
def captured(log: Path) -> Iterator[None]:
    """Sends everything that is written to stdout, stderr, warnings and logging inside the block to the file `log`.

    The block must not print for the user. Nothing is lost when it raises: the log is closed and the streams restored.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(fd) for fd in _STREAMS]
    root = logging.getLogger()
    level = root.level
    with log.open("a", encoding="utf-8", errors="replace", buffering=1) as file:
        handler = logging.StreamHandler(file)
        root.addHandler(handler)
        try:
            for fd in _STREAMS:
                os.dup2(file.fileno(), fd)
            with warnings.catch_warnings(), redirect_stdout(file), redirect_stderr(file):
                # Written, not filtered: the log is where they are wanted. A test runner's own hook is set aside.
                warnings.simplefilter("default")
                warnings.showwarning = lambda *warning, **_: print(warnings.formatwarning(*warning[:4]), file=file)
                yield
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
            for fd, copy in zip(_STREAMS, saved, strict=True):
                os.dup2(copy, fd)
                os.close(copy)
