"""A model in a process of its own: nothing else ends a library that keeps Python from running while it computes.

`ChildSession` starts `python -m facekd.runtimes.child_process`, which opens the model again and answers one request
after another. A request is a line of JSON and the bytes of its arrays; nothing that the child sends is ever unpickled.
"""

import contextlib
import json
import math
import signal
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from facekd.common.errors import FacekdError


class ChildSession:
    """The other end; the child starts at once and is gone when this object is.

    Args:
        runtime: name of the runtime that opens the model.
        path: the model.
        output: the output that `run` returns.
        threads: CPU threads; None for all of the machine's.
    """

    def __init__(self, runtime: str, path: Path, output: str, *, threads: int | None = None) -> None:
        self._path = path
        self._process = subprocess.Popen(
            [sys.executable, "-m", "facekd.runtimes.child_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.kill = weakref.finalize(self, _end, self._process)
        self._opening = {"runtime": runtime, "path": str(path), "output": output, "threads": threads}
        self._opened = False

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def ask(self, do: str, x: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
        """`run` or `intermediates` of an input: (names, arrays). Blocks, and lets Python run meanwhile.

        Raises:
            FacekdError: what the runtime said, or how the process died.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            if not self._opened:
                send(self._process.stdin, self._opening)
                self._opened = True
            send(self._process.stdin, {"do": do}, [x])
            reply, arrays = receive(self._process.stdout)
        except (OSError, EOFError, ValueError):
            code = self._process.wait()
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise FacekdError(f"{self._path}: the process that ran it {how}") from None
        if "error" in reply:
            raise FacekdError(reply["error"])
        return reply["names"], arrays


def send(stream: IO[bytes], facts: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Writes a line of JSON and the bytes of arrays."""
    about = [{"dtype": array.dtype.str, "shape": list(array.shape)} for array in arrays]
    stream.write(json.dumps({**facts, "arrays": about}).encode() + b"\n")
    for array in arrays:
        stream.write(array.tobytes())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What `send` wrote. Raises EOFError where the other end is gone."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    facts: dict[str, Any] = json.loads(line)
    arrays = []
    for about in facts.pop("arrays"):
        dtype = np.dtype(about["dtype"])
        size = dtype.itemsize * math.prod(about["shape"])
        data = stream.read(size)
        if len(data) < size:
            raise EOFError
        arrays.append(np.frombuffer(data, dtype).reshape(about["shape"]).copy())
    return facts, arrays


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError, AttributeError):
            stream.close()  # type: ignore[union-attr]
    process.wait()
