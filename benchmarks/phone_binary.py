"""LiteRT's `benchmark_model` on a phone: what it is asked, and what its output says.

It reports a summary (count, min, max, mean, standard deviation, 5 %, median and 95 %), never single latencies, and
feeds random numbers, so that a record made from it has no interval of the median and no golden cosine. The lines read
here are those of tensorflow/lite/tools/benchmark and tensorflow/core/util/stats_calculator.h.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from facekd.common.errors import FacekdError

PROVIDERS = {
    "cpu": ("--use_xnnpack=false",),
    "xnnpack": ("--use_xnnpack=true",),
    "gpu": ("--use_gpu=true",),
    "nnapi": ("--use_nnapi=true",),
}
"""--provider -> the arguments that ask for it."""

PROFILED_RUNS = 20

_NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"


@dataclass(frozen=True, kw_only=True)
class BinaryResult:
    """What one run of benchmark_model said; milliseconds and mebibytes.

    Attributes:
        runs: timed inferences.
        warm_up_ms: mean of the warm-up.
        model_mib: growth of the process from its start; None where it was not told, as `peak_mib`.
        delegate: name of the delegate that took part of the graph, or None.
        partitions: pieces of the graph given to it.
    """

    runs: int
    min_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float
    mean_ms: float
    std_ms: float
    load_ms: float
    first_ms: float
    warm_up_ms: float
    model_mib: float | None
    peak_mib: float | None
    delegate: str | None
    partitions: int | None


def arguments_of(
    model: str, *, threads: int, runs: int, warm_up: int, provider: str, timeout_s: float, profile: bool = False
) -> list[str]:
    """Words behind the binary's name. The least time of a phase is 0, so that the numbers of runs alone count."""
    words = {
        "graph": model,
        "num_threads": threads,
        "num_runs": runs,
        "warmup_runs": max(warm_up, 1),
        "min_secs": 0,
        "warmup_min_secs": 0,
        "max_secs": f"{timeout_s:g}",
        "report_peak_memory_footprint": "true",
    }
    if profile:  # in a run of its own: the profiler costs time
        words["enable_op_profiling"] = "true"
    return [*(f"--{key}={value}" for key, value in words.items()), *PROVIDERS[provider]]


def parse_output(text: str, *, provider: str) -> BinaryResult:
    """Reads what benchmark_model printed.

    Raises:
        FacekdError: it did not finish, is too old to tell a median, or the delegate asked for did not take the model.
    """
    timings = re.search(
        rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, Warmup \(avg\): {_NUMBER}, "
        rf"Inference \(avg\): {_NUMBER}",
        text,
    )
    counts = re.findall(r"^.*\bcount=\d+.*$", text.partition("Profiling Info")[0], re.M)
    if timings is None or not counts:
        errors = [line.strip() for line in text.splitlines() if re.search(r"error|fail|not found|denied", line, re.I)]
        said = errors[-1] if errors else next((line for line in reversed(text.splitlines()) if line.strip()), "nothing")
        raise FacekdError(f"benchmark_model did not finish: {said[:200]}")
    figures = {key: float(value) for key, value in re.findall(rf"\b(\w+)={_NUMBER}", counts[-1])}
    if "median" not in figures:
        raise FacekdError("this benchmark_model tells no median: take a newer one (LiteRT, or TensorFlow from 2.16 on)")
    if "avg" not in figures:  # all latencies are the same, and said once
        figures |= dict.fromkeys(("min", "max", "avg"), figures["curr"]) | {"std": 0.0}
    delegate, partitions = _delegate(text, provider)
    init, first, warm_up, _ = (float(value) for value in timings.groups())
    memory = re.search(
        rf"Memory footprint delta from the start of the tool \(MB\): init={_NUMBER} overall={_NUMBER}", text
    )
    peak = re.search(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_NUMBER}", text)
    return BinaryResult(
        runs=int(figures["count"]),
        min_ms=figures["min"] / 1e3,
        p50_ms=figures["median"] / 1e3,
        p95_ms=figures["p95"] / 1e3,
        max_ms=figures["max"] / 1e3,
        mean_ms=figures["avg"] / 1e3,
        std_ms=figures["std"] / 1e3,
        load_ms=init / 1e3,
        first_ms=first / 1e3,
        warm_up_ms=warm_up / 1e3,
        model_mib=float(memory[2]) if memory else None,
        peak_mib=float(peak[1]) if peak else None,
        delegate=delegate,
        partitions=partitions,
    )


def parse_operators(text: str, result: BinaryResult) -> dict[str, Any] | None:
    """Fields of record.Operators from a run with profiling; None where it printed no profile of the timed runs.

    The table's time is that of one call; a kernel inside a delegate is named "Delegate/...".
    """
    _, _, section = text.partition("Operator-wise Profiling Info for Regular Benchmark Runs")
    header, *lines = section.partition("Run Order ===")[2].splitlines()[1:] or [""]
    names = re.findall(r"\[([^\]]+)\]", header)
    if not {"avg ms", "times called"} <= set(names):
        return None
    row = re.compile(rf"^\s*(.+?)((?:\s+[\d.]+%?){{{len(names) - 2}}})\s+(\S.*)$")
    calls: dict[tuple[str, str], float] = defaultdict(float)
    milliseconds: dict[tuple[str, str], float] = defaultdict(float)
    for line in lines:
        found = row.match(line)
        if found is None:
            break
        values = dict(zip(names[1:-1], found[2].split(), strict=True))
        delegated = found[3].startswith("Delegate/") or "Delegate" in found[1]
        key = (found[1], (result.delegate or "delegate") if delegated else "LiteRT")
        calls[key] += float(values["times called"])
        milliseconds[key] += float(values["avg ms"]) * float(values["times called"])
    if not calls:
        return None
    return {
        "method": f"benchmark_model's profile, mean of {PROFILED_RUNS} runs",
        "operators": [
            {"operator": key[0], "provider": key[1], "calls": calls[key], "ms": milliseconds[key]}
            for key in sorted(milliseconds, key=lambda key: -milliseconds[key])
        ],
        "delegate": result.delegate,
        "partitions": result.partitions,
        "fallback": {key[0]: round(calls[key]) for key in calls if result.delegate and key[1] == "LiteRT"},
    }


def _delegate(text: str, provider: str) -> tuple[str | None, int | None]:
    """(delegate, partitions) of the graph's last replacement.

    Raises:
        FacekdError: a delegate was asked for and took nothing: the figures would be the processor's.
    """
    refused = re.search(r"Though (\w+) delegate is explicitly applied, the model graph will not be executed", text)
    explicit = re.findall(
        r"Explicitly applied (\w+) delegate, and the model graph will be (?:completely|partially) executed by the "
        r"delegate(?: w/ (\d+) delegate kernels)?",
        text,
    )
    replaced = re.findall(r"Replacing \d+.*? with delegate \((\w+)\) node, yielding (\d+) partitions", text)
    if refused or (provider != "cpu" and not explicit and not replaced):
        raise FacekdError(
            f"--provider {provider}: {refused[1] if refused else provider} took no part of the model, the processor "
            "would be measured under its name: use --provider cpu"
        )
    if explicit:
        return explicit[-1][0], int(explicit[-1][1] or 1)
    # Every replacement is told with its number of partitions, delegated and others together.
    return (replaced[-1][0], int(replaced[-1][1])) if replaced else (None, None)
