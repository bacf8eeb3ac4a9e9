"""The other end of facekd.benchmarks.worker: starts it, asks it, and says in one line what became of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from facekd.common.errors import FacekdError, UsageError
from facekd.runtimes.bounded import run_bounded

Tell = Callable[[str, float], None]

SILENCE_S = 600.0
"""A measuring process that says nothing for so long is ended: no inference takes that, and the slowest profile less."""


class Worker:
    """A measuring process; used as a context, it is gone at the end of it.

    Args:
        what: for messages: which model it measures.
        threads: number of threads, also for libraries that read it from the environment.
        command: the process; a test may put another in its place.
        settings: further environment variables, by which a runtime is told what its files cannot say.
    """

    def __init__(
        self,
        what: str,
        *,
        threads: int,
        command: list[str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._what = what
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        number = str(threads)
        # The caller's OMP_NUM_THREADS must not decide: a record says how many threads there were.
        environment = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), number),
            "ORT_DISABLE_TELEMETRY": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **(settings or {}),
        }
        self._process = subprocess.Popen(
            command or [sys.executable, "-m", "facekd.benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )

    def ask(self, do: str, *, tell: Tell = lambda phase, seconds: None, **arguments: Any) -> dict[str, Any]:
        """Sends one request and waits for its reply; `tell` hears of progress on the way.

        Raises:
            UsageError, FacekdError: what the worker raised, that it died, with its last words, or that it is silent.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        while line := self._next_line():
            reply: dict[str, Any] = json.loads(line)
            if "progress" in reply:
                tell(reply["progress"], reply["seconds"])
                continue
            if "error" in reply:
                raise (UsageError if reply["exit_code"] == 2 else FacekdError)(reply["error"])
            return reply
        raise self._death()

    def _next_line(self) -> str:
        """What the worker says next, "" at its end; it is killed if it says nothing for too long, or by Ctrl-C."""
        assert self._process.stdout is not None
        what = f"{self._what}: waiting for the measuring process"
        return run_bounded(self._process.stdout.readline, seconds=SILENCE_S, what=what, end=self._process.kill)

    def _death(self) -> FacekdError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        words = f": {lines[-1][:300]}" if lines else ""
        return FacekdError(f"{self._what}: the measuring process {how}{words}")

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        if kind is not None:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):  # it may be gone already
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()
