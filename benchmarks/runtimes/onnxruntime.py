"""ONNX Runtime on the CPU, and its own profile of every node."""

import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from facekd.benchmarks.runtimes.base import Runtime, Session, first_line
from facekd.common.errors import FacekdError, UsageError


class OnnxRuntime(Runtime):
    """Opens .onnx files with the CPU provider and all graph optimisations, as an app would."""

    name = "onnxruntime"
    extra = "onnx"
    modules = ("onnxruntime",)
    package = "onnxruntime"
    suffixes = (".onnx",)

    def open(self, path: Path, *, threads: int) -> Session:
        """A session with `threads` threads inside an operator and one between operators."""
        return _OnnxSession(path, _open(path, threads))

    def profile(self, path: Path, x: np.ndarray, *, threads: int, runs: int) -> dict[str, Any] | None:
        """ONNX Runtime's profile: the nodes of the optimised graph, by operator and provider."""
        with tempfile.TemporaryDirectory() as folder:
            session = _open(path, threads, profile=Path(folder) / "profile")
            name = session.get_inputs()[0].name
            for _ in range(runs + 3):
                session.run(None, {name: x})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return operators_of(events, skip=3)


class _OnnxSession(Session):
    provider = "CPU"

    def __init__(self, path: Path, session: Any) -> None:
        self._path = path
        self._session = session
        inputs = session.get_inputs()
        if len(inputs) != 1:
            raise UsageError(f"{path} has inputs {[i.name for i in inputs]}: a face model with one image is needed")
        self._input = inputs[0].name
        self._output = [session.get_outputs()[0].name]

    def run(self, x: np.ndarray) -> np.ndarray:
        """One input -> the first output."""
        try:
            return self._session.run(self._output, {self._input: x})[0]
        except Exception as error:  # onnxruntime's classes have no common base
            raise FacekdError(
                f"{self._path} failed on an input of shape {list(x.shape)}: {first_line(error)}"
            ) from error


def operators_of(events: list[dict[str, Any]], *, skip: int) -> dict[str, Any]:
    """Fields of record.Operators from the events of a profile, its first `skip` runs (warm-up) left out."""
    starts = sorted(event["ts"] for event in events if event.get("name") == "model_run")
    begin = starts[skip]
    runs = len(starts) - skip
    durations: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    order: dict[int, str] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time") or event["ts"] < begin:
            continue
        arguments = event["args"]
        provider = arguments["provider"].removesuffix("ExecutionProvider")
        node = int(arguments["node_index"])
        durations[arguments["op_name"], provider, node].append(event["dur"] / 1e3)
        order[node] = provider
    milliseconds: dict[tuple[str, str], float] = defaultdict(float)
    calls: dict[tuple[str, str], int] = defaultdict(int)
    for (operator, provider, _), values in durations.items():
        # A node's median: one run that other programs interrupted would outweigh all the others in a mean.
        milliseconds[operator, provider] += statistics.median(values) * len(values) / runs
        calls[operator, provider] += len(values)
    rows = [
        {"operator": key[0], "provider": key[1], "calls": calls[key] / runs, "ms": milliseconds[key]}
        for key in sorted(milliseconds, key=lambda key: -milliseconds[key])
    ]
    others = [provider for provider in set(order.values()) if provider != "CPU"]
    sequence = [order[index] for index in sorted(order)]
    pieces = sum(1 for i, p in enumerate(sequence) if p != "CPU" and (i == 0 or sequence[i - 1] != p))
    return {
        "method": f"ONNX Runtime's profile, median of {runs} runs by node",
        "operators": rows,
        "delegate": ", ".join(sorted(others)) or None,
        "partitions": pieces if others else None,
        "fallback": {key[0]: round(calls[key] / runs) for key in calls if others and key[1] == "CPU"},
    }


def _open(path: Path, threads: int, *, profile: Path | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors arrive as exceptions and are reported once
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise FacekdError(f"{path}: ONNX Runtime cannot open it: {first_line(error)}") from error
