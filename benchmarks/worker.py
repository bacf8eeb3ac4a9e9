"""The measuring process: `python -m facekd.benchmarks.worker`, one model, one runtime, nothing else.

Requests come as JSON lines on stdin, replies go as JSON lines to what was stdout when it began; whatever a runtime
prints goes to stderr. It imports numpy and the one runtime, so that the memory it reports is the model's.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from facekd.benchmarks import machine
from facekd.benchmarks.harness import Plan, Timer, clock_overhead_ns, measure, time_calls
from facekd.common.errors import FacekdError
from facekd.runtimes.base import OpenOptions, Runtime, Session, get_runtime


def main() -> None:
    """Answers requests until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = _Worker(replies)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(worker, request.pop("do"))(**request)
        except FacekdError as error:
            reply = {"error": str(error), "exit_code": error.exit_code}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


class _Worker:
    """One method a request; each returns what is sent back."""

    def __init__(self, replies: TextIO) -> None:
        self._replies = replies
        self._runtime: Runtime
        self._session: Session
        self._x: np.ndarray
        self._path: Path
        self._threads: int
        self._overhead = 0.0

    def open(
        self,
        *,
        runtime: str,
        path: str,
        input_file: str,
        threads: int,
        cores: list[int] | None,
        output: str | None = None,
    ) -> dict[str, Any]:
        """Opens the model: milliseconds to load, and memory before it."""
        if cores:
            machine.pin(cores)
        self._runtime = get_runtime(runtime)
        self._runtime.require()
        self._x = np.load(input_file)
        self._path, self._threads = Path(path), threads
        machine.reset_peak()
        self._before_mib = machine.resident_mib()
        start = time.perf_counter_ns()
        self._session = self._runtime.open(self._path, OpenOptions(threads=threads, exclusive=True))
        load_ms = (time.perf_counter_ns() - start) / 1e6
        if output is not None:
            self._session.select(output)
        self._timer = Timer(clock_overhead_ns())
        return {
            "load_ms": load_ms,
            "runtime_version": self._runtime.version(),
            "provider": self._session.provider,
        }

    def measure(self, *, plan: dict[str, Any]) -> dict[str, Any]:
        """First inference, warm-up, timed runs, memory."""
        found = measure(lambda: self._session.run(self._x), Plan(**plan), progress=self._tell)
        resident, peak = machine.resident_mib(), machine.peak_mib()
        return {
            "first_ms": found.first_ms,
            "latency": found.latency,
            "before": found.before,
            "after": found.after,
            "flags": found.flags,
            "memory": {
                "before_load_mib": self._before_mib,
                "resident_mib": resident,
                "peak_mib": peak,
                "model_mib": peak - self._before_mib if peak is not None and self._before_mib is not None else None,
            },
        }

    def round(self, *, runs: int) -> dict[str, Any]:
        """`runs` more timed inferences: a turn of an interleaved comparison."""
        wall, cpu = time_calls(lambda: self._session.run(self._x), runs, self._timer)
        return {"latencies_ms": wall, "cpu_ms": cpu}

    def output(self) -> dict[str, Any]:
        """The output for the input it was given, flat."""
        return {"output": [float(value) for value in np.asarray(self._session.run(self._x), np.float64).ravel()]}

    def profile(self, *, runs: int) -> dict[str, Any]:
        """Per-operator times; last, since it opens the model again."""
        return {"operators": self._runtime.profile(self._path, self._x, threads=self._threads, runs=runs)}

    def gemm(self, *, precision: str, threads: int, cores: list[int] | None, seconds: float) -> dict[str, Any]:
        """The machine's matrix product."""
        from facekd.benchmarks.gemm import best_gemm

        if cores:
            machine.pin(cores)
        gflops, kernel = best_gemm(precision, threads=threads, seconds=seconds)
        return {"gflops": gflops, "kernel": kernel}

    def _tell(self, phase: str, seconds: float) -> None:
        self._replies.write(json.dumps({"progress": phase, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
